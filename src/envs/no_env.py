"""`env: none`: training on data alone, where no environment is known."""

from inspo.utils.errors import SimulatorError


def no_env() -> None:
    """There is nothing to play.

    Raises:
        SimulatorError: always. Training then takes the sizes from the dataset.
    """
    raise SimulatorError("env: none is data without a game; nothing can be played or evaluated")

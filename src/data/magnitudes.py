"""Remarks on numbers that are likely to spoil training, though they are valid."""

from collections.abc import Iterator

from inspo.data.arrays import in_parts
from inspo.data.episode_data import EpisodeData

# Networks start with outputs about 1 from inputs about 1.
LARGE_INPUT = 100.0
LARGE_REWARD = 1000.0
PART_BYTES = 1 << 24


def largest(data: EpisodeData) -> dict[str, float]:
    """The largest absolute value of the rewards, observations and states."""
    found = {}
    for name in ("reward", "obs", "state"):
        parts = in_parts(getattr(data, name), PART_BYTES)
        found[name] = max(float(max(part.max(), -part.min())) for part in parts)
    return found


def remarks(sizes: dict[str, float]) -> Iterator[str]:
    """What is unusual about the largest absolute values of rewards, observations and states."""
    if sizes["reward"] > LARGE_REWARD:
        yield (
            f"rewards reach {sizes['reward']:.3g}; values learn badly beyond about "
            f"{LARGE_REWARD:g}. standardise_rewards=True divides them, which changes no best policy"
        )
    if 0 < sizes["reward"] < 1 / LARGE_REWARD:
        yield (
            f"rewards are at most {sizes['reward']:.3g}; values learn badly from such small ones. "
            "standardise_rewards=True scales them, which changes no best policy"
        )
    for name, what in (("obs", "observations"), ("state", "states")):
        if sizes[name] > LARGE_INPUT:
            pixels = ", as pixels do," if sizes[name] <= 255 else ";"
            yield (
                f"{what} reach {sizes[name]:.3g}{pixels} networks learn badly beyond about "
                f"{LARGE_INPUT:g}. standardise_obs=True scales them, in training and in play"
            )

"""Where exact InSPO ends, for tests of the learner with networks."""

import itertools
from typing import Any

import numpy as np

from inspo.tabular.experiment import load_settings, make_problem, run, start_joint_policy
from inspo.utils.errors import GameError

SAME_LIMIT = 1e-6  # total variation distance below which two limits are the same


def exact_limits(game: str, **overrides: Any) -> list[np.ndarray]:
    """The policies in the first state at which exact InSPO ends, over all orders of the agents.

    Several equilibria can be right: on XOR the order decides who plays which action.

    Args:
        game: `xor`, `mne`, or any other that `load_settings` takes.
        overrides: settings of `tabular.yaml`, for example `dataset="c", alpha=0.1`.

    Returns:
        probabilities of joint actions [A_1, ..., A_N], each limit once.

    Raises:
        GameError: the rounds reached no equilibrium. See also `load_settings`, `make_problem`.
    """
    config = load_settings(game, overrides)
    problem = make_problem(config)
    limits: list[np.ndarray] = []
    for order in itertools.permutations(range(problem.game.n_agents)):
        solution = run(config, problem, order)
        if not solution.converged:
            raise GameError(
                f"no equilibrium within {config.rounds} rounds; "
                f"the residual is {solution.residual:.1e}"
            )
        joint = start_joint_policy(problem.game, solution.policy)
        if all(total_variation(joint, known) > SAME_LIMIT for known in limits):
            limits.append(joint)
    return limits


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Total variation distance of two distributions, in [0, 1]."""
    return float(np.abs(np.asarray(first) - np.asarray(second)).sum() / 2)

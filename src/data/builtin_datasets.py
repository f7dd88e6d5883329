"""The datasets that this project makes itself, when they are first used.

Matrix games and Bridge have a `Recipe` each. For battles on SMAX, `record_script` records a script.
Their content does not depend on the machine or on a run's seed.
"""

import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inspo.data.episode_data import EpisodeData
from inspo.data.formats import EpisodeWriter, from_episodes
from inspo.data.hesitant import HESITATION, RANDOM_ACTIONS, HesitantPolicy
from inspo.data.recorder import Done, Episode, Seen, record_episode
from inspo.data.rollout import play
from inspo.envs import MultiAgentEnv
from inspo.envs.bridge import GOALS, MOVES, STARTS, Bridge, Cell, move, would_leave
from inspo.envs.matrix_game import MatrixGame
from inspo.envs.sc2.scripted import ScriptedPolicy
from inspo.envs.sc2.smax import SMAX
from inspo.utils.progress import Progress

RECIPE_VERSION = 1  # part of the file names; increase it when a recipe changes
SEED = 0
MATRIX_EPISODES = 10_000
BRIDGE_EPISODES = 500
# Mean return of uniform actions, and the best return. Measured on `mixed`, by start.
BRIDGE_REFERENCE = {
    STARTS["bridge"]: [-17.536, -1.235],
    STARTS["apart"]: [-19.162, -1.552],
}

SCRIPTED = "scripted"
SCRIPT_EPISODES = 2000
# Determines the content. The default of evaluations, so that both share the compiled step.
SCRIPT_ENVS = 32

JointPolicy = Callable[[np.random.Generator], np.ndarray]
Made = tuple[Iterator[Episode], str]  # episodes, and the metadata's `behaviour`
log = logging.getLogger(__name__)


class Recipe(NamedTuple):
    """The names of an environment's datasets, how to make one, and the game's reference returns.

    Returns that count as 0 and 1 in normalised scores.
    """

    names: Callable[[MultiAgentEnv], list[str]]
    make: Callable[[MultiAgentEnv, str, np.random.Generator], Made]
    reference: Callable[[MultiAgentEnv], list[float]]


def builtin_names(environment: str, env: MultiAgentEnv) -> list[str]:
    """The built-in datasets of a game.

    Args:
        environment: the key `env` of its YAML.
    """
    if isinstance(env, SMAX):
        return [SCRIPTED]
    return RECIPES[environment].names(env) if environment in RECIPES else []


def make_builtin(
    environment: str,
    env: MultiAgentEnv,
    name: str,
    path: str,
    env_args: dict[str, Any],
    max_episodes: int | None = None,
) -> EpisodeData:
    """Makes a dataset of a matrix game or of Bridge.

    Args:
        environment: the key `env` of the game's YAML.
        path: the dataset's name in messages.
        env_args: for the metadata.
        max_episodes: makes only the first so many episodes.
    """
    rng = np.random.default_rng(SEED)
    recipe = RECIPES[environment]
    episodes, behaviour = recipe.make(env, name, rng)
    metadata = {
        "environment": environment,
        "env_args": env_args,
        "behaviour": behaviour,
        "seed": SEED,
        "reference_return": recipe.reference(env),
        "command": " ".join(sys.argv),
    }
    return from_episodes(islice(episodes, max_episodes), metadata, path)


# --- matrix games and Bridge


def _play(env: MultiAgentEnv, policy: JointPolicy, rng: np.random.Generator) -> Episode:
    """Plays one episode of `policy`."""
    env.reset()

    def observe() -> Seen:
        return env.get_state(), env.get_obs(), env.get_avail_actions()

    def step() -> Done:
        actions = policy(rng)
        _, reward, terminated, truncated, _ = env.step(actions)
        return actions, reward, terminated, truncated

    return record_episode(observe, step)


def make_matrix_game(env: MatrixGame, name: str, rng: np.random.Generator) -> Made:
    """Joint actions in the exact proportions of the YAML's distribution, in random order."""
    distribution = env.datasets[name]
    n_steps = MATRIX_EPISODES * env.episode_limit
    shares = distribution.ravel() * n_steps
    counts = np.floor(shares).astype(int)
    by_remainder = np.argsort(counts - shares, kind="stable")
    counts[by_remainder[: n_steps - counts.sum()]] += 1
    joint = rng.permutation(np.repeat(np.arange(counts.size), counts))
    actions = iter(np.stack(np.unravel_index(joint, env.payoff.shape), axis=-1))
    episodes = (_play(env, lambda _: next(actions), rng) for _ in range(MATRIX_EPISODES))
    return episodes, f"joint actions distributed as {distribution.round(6).tolist()}"


def make_bridge(env: Bridge, name: str, rng: np.random.Generator) -> Made:
    """500 episodes of the multi-modal optimal policy; in `mixed` also 500 of uniform actions."""
    choices = bridge_optimal_actions()

    def optimal(rng: np.random.Generator) -> np.ndarray:
        joint_actions = choices[env.positions]
        return joint_actions[rng.integers(len(joint_actions))]

    def uniform(rng: np.random.Generator) -> np.ndarray:
        return rng.integers(env.n_actions, size=env.n_agents)

    parts = {"optimal": [optimal], "mixed": [optimal, uniform]}[name]
    episodes = (_play(env, policy, rng) for policy in parts for _ in range(BRIDGE_EPISODES))
    played = (f"{BRIDGE_EPISODES} episodes {policy.__name__}" for policy in parts)
    return episodes, " + ".join(played)


def bridge_optimal_actions() -> dict[tuple[Cell, Cell], np.ndarray]:
    """All optimal joint actions for each pair of cells, int [K, 2].

    They end the episode as early as possible and, among those, minimise the sum of the agents'
    steps to their goals. From the start on the bridge either agent may step back first. An agent on
    its goal takes actions that leave it there.
    """
    cells = _reachable_cells()
    pairs = list(itertools.product(cells, cells))
    joint_actions = list(itertools.product(range(len(MOVES)), repeat=2))
    costs = dict.fromkeys(pairs, np.inf) | {GOALS: 0.0}

    def cost(pair: tuple[Cell, Cell], actions: tuple[int, int]) -> float:
        # The earliest end comes first, so a step costs 1000, and 1 more per agent on its way.
        on_the_way = sum(cell != goal for cell, goal in zip(pair, GOALS, strict=True))
        return 1000 + on_the_way + costs[move(pair, actions)]

    def stays_on_goal(pair: tuple[Cell, Cell], actions: tuple[int, int]) -> bool:
        for cell, goal, action in zip(pair, GOALS, actions, strict=True):
            if cell == goal and would_leave(cell, action):
                return False
        return True

    changed = True
    while changed:
        best = {
            pair: min(cost(pair, actions) for actions in joint_actions)
            for pair in pairs
            if pair != GOALS
        }
        changed = any(best[pair] != costs[pair] for pair in best)
        costs |= best
    optimal = {}
    for pair, lowest in best.items():
        if np.isfinite(lowest):
            choices = [actions for actions in joint_actions if cost(pair, actions) == lowest]
            choices = [actions for actions in choices if stays_on_goal(pair, actions)]
            optimal[pair] = np.array(choices)
    return optimal


def _reachable_cells() -> list[Cell]:
    """The goals, and all cells that agent 0 can reach from any start."""
    cells = {cell for start in STARTS.values() for cell in start}

    def neighbours() -> set[Cell]:
        moves = itertools.product(cells, range(len(MOVES)))
        return {move((cell, GOALS[1]), (action, 0))[0] for cell, action in moves}

    while grown := neighbours() - cells:
        cells |= grown
    return sorted(cells | set(GOALS))


def matrix_reference(env: MatrixGame) -> list[float]:
    """The lowest and the highest return of a matrix game."""
    return [float(bound * env.episode_limit) for bound in (env.payoff.min(), env.payoff.max())]


RECIPES: dict[str, Recipe] = {
    "bridge": Recipe(
        names=lambda env: ["optimal", "mixed"],
        make=make_bridge,
        reference=lambda env: BRIDGE_REFERENCE[env.start],
    ),
    "matrix_game": Recipe(
        names=lambda env: list(env.datasets),
        make=make_matrix_game,
        reference=matrix_reference,
    ),
}

# --- battles on SMAX


def record_script(path: Path, env: SMAX, environment: str, env_args: dict[str, Any]) -> None:
    """Records the script's episodes to `path`; resumes an interrupted recording."""
    vector_env = env.make_batch(SCRIPT_ENVS)
    wins = _script_win_rate(env)
    metadata = {
        "environment": environment,
        "env_args": env_args,
        **env.provenance(),
        "behaviour": "a script; each episode's share of decisions to stand still instead is one of "
        f"{HESITATION}, and {RANDOM_ACTIONS:.0%} of all actions are random; "
        f"with neither it wins {wins:.0%} of its battles on this map",
        "hesitation": HESITATION,
        "random_actions": RANDOM_ACTIONS,
        "script_battle_won_mean": wins,
        "seed": SEED,
        "command": " ".join(sys.argv),
    }
    text = "Recording %d episodes of a script on SMAX-%s"
    log.info(text, SCRIPT_EPISODES, env.map_name)
    with EpisodeWriter(path, metadata) as writer:
        shown = Progress(SCRIPT_EPISODES, "Script", done=writer.n_episodes)
        seeds = range(SEED, SEED + SCRIPT_EPISODES, SCRIPT_ENVS)
        for seed in seeds[writer.n_episodes // SCRIPT_ENVS :]:
            policy = HesitantPolicy(ScriptedPolicy(), seed + 1, HESITATION, RANDOM_ACTIONS)
            rollout = next(play(vector_env, policy, SCRIPT_ENVS, seed, record=True))
            episodes = list(islice(rollout.episodes(), SCRIPT_EPISODES - seed))
            won = int(rollout.battle_won[: len(episodes)].sum())
            writer.append(episodes, {"battle_won": won})
            shown.advance(len(episodes))
        shown.close()


def _script_win_rate(env: SMAX) -> float:
    """The share of battles that the script wins without hesitation and random actions."""
    vector_env = env.make_batch(SCRIPT_ENVS)
    rollouts = play(vector_env, ScriptedPolicy(), 4 * SCRIPT_ENVS, SEED)
    return float(np.mean([rollout.battle_won.mean() for rollout in rollouts]))

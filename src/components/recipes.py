"""How this project makes its own datasets: one recipe for each environment, run the first time a dataset is needed."""

import hashlib
import itertools
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from components import sc2_datasets
from components.episode_data import EpisodeData
from components.formats import from_episodes, load_dataset, write_h5
from envs import MultiAgentEnv
from envs.bridge import GOALS, MOVES, STARTS, Bridge, Cell, move, would_leave
from envs.matrix_game import MatrixGame
from utils.config import RunConfig, suggestion
from utils.errors import ConfigError

RECIPE_VERSION = 1  # part of a dataset's file name; raise it when a recipe changes
RECIPE_SEED = 0  # datasets are the same on every machine and for every run's seed
MATRIX_EPISODES = 10_000
BRIDGE_EPISODES = 500

Episode = dict[str, np.ndarray]
JointPolicy = Callable[[np.random.Generator], np.ndarray]
log = logging.getLogger(__name__)


class Recipe(NamedTuple):
    """What datasets an environment has, and how one is made."""

    names: Callable[[MultiAgentEnv], list[str]]
    make: Callable[[MultiAgentEnv, str, np.random.Generator], tuple[Iterator[Episode], str]]  # episodes, behaviour


def resolve_dataset(args: RunConfig, root: Path) -> RunConfig:
    """`args` with a name for `env_args.dataset=auto`; DatasetError if there is no dataset that it could mean.

    Not where a policy is only evaluated: no dataset is needed then.
    """
    if args.env != "sc2" or args.env_args["dataset"] != "auto" or args.evaluate:
        return args
    name = sc2_datasets.resolve_dataset(args, root)
    return args.model_copy(update={"env_args": {**args.env_args, "dataset": name}})


def find_dataset(args: RunConfig, env: MultiAgentEnv | None, root: Path) -> EpisodeData:
    """Loads `env_args.dataset`: a path, or the name of one that was collected, or of a recipe's, made now if need be.

    Args:
        env: None where there is no simulator: nothing can be made then.

    Raises:
        ConfigError: neither a path nor a known name.
        DatasetError: the dataset cannot be used.
    """
    if args.env == "sc2":
        return sc2_datasets.find_dataset(args, env, root)
    name = args.env_args["dataset"]
    collected = dataset_path(args, root, name)
    if name and Path(name).name == name and collected.exists():
        return load_dataset(collected, args.max_episodes)
    recipe = RECIPES.get(args.env)
    names = recipe.names(env) if recipe and env is not None else []
    if name not in names:
        if name and Path(name).exists():
            return load_dataset(Path(name), args.max_episodes)
        known = suggestion(name, names) if names else ""
        raise ConfigError(
            f"env_args.dataset={name}: neither a dataset of {args.env_config} nor an existing path{known}"
        )
    settings = {key: value for key, value in args.env_args.items() if key not in ("dataset", "datasets")}
    datasets = {str(key): value for key, value in (args.env_args.get("datasets") or {}).items()}
    settings["recipe"] = [RECIPE_VERSION, datasets.get(name)]
    key = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=3).hexdigest()
    path = root / args.env_config / f"{name}-{key}.h5"
    if not path.exists():
        log.info("Making dataset '%s' of %s", name, args.env_config)
        episodes, behaviour = recipe.make(env, name, np.random.default_rng(RECIPE_SEED))
        metadata = {
            "environment": args.env,
            "env_args": args.env_args,
            "behaviour": behaviour,
            "seed": RECIPE_SEED,
            "command": " ".join(sys.argv),
        }
        made = from_episodes(episodes, metadata, str(path))
        with suppress(FileExistsError):  # another run was faster: recipes are deterministic, its file is the same
            write_h5(made, path)
    return load_dataset(path, args.max_episodes)


def dataset_path(args: RunConfig, root: Path, name: str) -> Path:
    """Where the collected dataset `name` of an environment is kept."""
    if args.env == "sc2":
        return sc2_datasets.dataset_path(args, root, name)
    return root / args.env_config / f"{name}.h5"


def play(env: MultiAgentEnv, policy: JointPolicy, rng: np.random.Generator) -> Episode:
    """One episode of `policy`, which may look at `env`, as the row fields of EpisodeData with L + 1 rows."""
    rows: dict[str, list] = {name: [] for name in ("state", "obs", "avail_actions", "actions", "reward")}
    flags = {"terminated": [], "truncated": []}
    obs, over = env.reset(), False
    while True:
        rows["state"].append(env.get_state())
        rows["obs"].append(obs)
        rows["avail_actions"].append(env.get_avail_actions())
        if over:
            break
        actions = policy(rng)
        obs, reward, terminated, truncated, _ = env.step(actions)
        over = terminated or truncated
        rows["actions"].append(actions)
        rows["reward"].append(reward)
        flags["terminated"].append(terminated)
        flags["truncated"].append(truncated)
    rows["actions"].append(np.zeros_like(actions))
    rows["reward"].append(0.0)
    return {name: np.array(values) for name, values in {**rows, **{k: [*v, False] for k, v in flags.items()}}.items()}


def make_matrix_game(env: MatrixGame, name: str, rng: np.random.Generator) -> tuple[Iterator[Episode], str]:
    """Joint actions in the exact proportions that the YAML's distribution asks for, in random order."""
    shares = env.datasets[name].ravel() * MATRIX_EPISODES * env.episode_limit
    counts = np.floor(shares).astype(int)
    by_remainder = np.argsort(counts - shares, kind="stable")
    counts[by_remainder[: MATRIX_EPISODES * env.episode_limit - counts.sum()]] += 1
    joint = rng.permutation(np.repeat(np.arange(counts.size), counts))
    actions = iter(np.stack(np.unravel_index(joint, env.payoff.shape), axis=-1))
    episodes = (play(env, lambda _: next(actions), rng) for _ in range(MATRIX_EPISODES))
    return episodes, f"joint actions distributed as {env.datasets[name].round(6).tolist()}"


def make_bridge(env: Bridge, name: str, rng: np.random.Generator) -> tuple[Iterator[Episode], str]:
    """`optimal`: 500 episodes of the multi-modal optimal policy; `mixed`: those and 500 of uniformly random actions."""
    choices = bridge_optimal_actions()

    def optimal(rng: np.random.Generator) -> np.ndarray:
        joint_actions = choices[env.positions]
        return joint_actions[rng.integers(len(joint_actions))]

    def uniform(rng: np.random.Generator) -> np.ndarray:
        return rng.integers(env.n_actions, size=env.n_agents)

    parts = {"optimal": [optimal], "mixed": [optimal, uniform]}[name]
    episodes = (play(env, policy, rng) for policy in parts for _ in range(BRIDGE_EPISODES))
    return episodes, " + ".join(f"{BRIDGE_EPISODES} episodes {policy.__name__}" for policy in parts)


def bridge_optimal_actions() -> dict[tuple[Cell, Cell], np.ndarray]:
    """The optimal policy with all its modes: for each pair of cells, the best joint actions, int [K, 2].

    Best is what ends soonest and, among those, keeps the agents out of their goals for the fewest steps in all. From
    the start on the bridge either agent may step back first. An agent on its goal takes actions that leave it there.
    """
    cells = {cell for start in STARTS.values() for cell in start}
    while grown := {move((c, GOALS[1]), (a, 0))[0] for c in cells for a in range(len(MOVES))} - cells:
        cells |= grown
    cells |= set(GOALS)
    pairs = list(itertools.product(sorted(cells), sorted(cells)))
    joint_actions = list(itertools.product(range(len(MOVES)), repeat=2))
    # A step costs 1000, and 1 more for each agent in play: the lexicographic order as one number.
    costs = dict.fromkeys(pairs, np.inf) | {GOALS: 0.0}

    def cost(pair: tuple[Cell, Cell], actions: tuple[int, int]) -> float:
        return 1000 + sum(c != g for c, g in zip(pair, GOALS, strict=True)) + costs[move(pair, actions)]

    changed = True
    while changed:
        best = {pair: min(cost(pair, actions) for actions in joint_actions) for pair in pairs if pair != GOALS}
        changed = any(best[pair] != costs[pair] for pair in best)
        costs |= best
    return {
        pair: np.array(
            [
                actions
                for actions in joint_actions
                if cost(pair, actions) == costs[pair]
                and not any(c == g and would_leave(c, a) for c, g, a in zip(pair, GOALS, actions, strict=True))
            ]
        )
        for pair in pairs
        if pair != GOALS and np.isfinite(costs[pair])
    }


RECIPES: dict[str, Recipe] = {
    "bridge": Recipe(names=lambda env: ["optimal", "mixed"], make=make_bridge),
    "matrix_game": Recipe(names=lambda env: list(env.datasets), make=make_matrix_game),
}

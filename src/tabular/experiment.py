"""From settings to a solved game: the configuration of `tabular_main.py`, and exact limits for other code's tests."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from inspo.data.builtin_datasets import builtin_names, make_builtin
from inspo.data.episode_data import EpisodeData
from inspo.data.formats import load_dataset
from inspo.envs import REGISTRY, EnvInfo, MultiAgentEnv
from inspo.envs.bridge import Bridge
from inspo.envs.matrix_game import MatrixGame
from inspo.tabular import builders
from inspo.tabular.inspo import Order, RegularisedGame, Scheme, Solution, solve
from inspo.tabular.markov_game import MarkovGame, Policy, joint_policy
from inspo.utils.config import (
    CONFIG_DIR,
    Count,
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    available,
    build,
    lookup,
    read_yaml,
    suggestion,
)
from inspo.utils.errors import ConfigError, GameError

SETTINGS_FILE = CONFIG_DIR / "tabular.yaml"


class TabularConfig(BaseModel):
    """The settings of the exact solver; `tabular.yaml` says what each one does."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )

    env_config: str
    dataset: str
    dynamics: Literal["game", "dataset"]
    unseen_penalty: Positive
    max_episodes: PositiveInt | None
    gamma: Fraction

    alpha: NonNegative
    beta_start: NonNegative
    beta_end: NonNegative | None
    beta_rounds: Count
    scheme: Scheme
    order: Order
    rounds: PositiveInt
    tolerance: Positive
    init_noise: NonNegative
    seed: Count

    compare: Literal["scheme", "entropy", "none"]
    figure: str | None


class Problem(NamedTuple):
    """A game to solve and the game in which to judge the result; the same one unless `dynamics` is `dataset`."""

    env: MultiAgentEnv
    game: MarkovGame
    behaviour: Policy
    rules: MarkovGame  # the environment's own

    def episode_return(self, policy: Policy) -> float:
        """Expected undiscounted return of an episode of the environment, its time limit included."""
        steps = self.env.episode_limit
        if isinstance(self.env, Bridge):
            steps -= 1  # Bridge pays nothing at the step that ends an episode, by the goals or by the limit
        return self.rules.return_within(builders.transfer(policy, self.game, self.rules), steps)


def load_settings(game: str, overrides: Mapping[str, Any]) -> TabularConfig:
    """Settings of `tabular.yaml`, its section for the game, and `overrides`, checked.

    Args:
        game: a short name of `tabular.yaml`, an environment's config, or the path of one's own YAML.

    Raises:
        ConfigError: naming the key and the nearest valid one.
    """
    settings = read_yaml(SETTINGS_FILE)
    games = settings.pop("games")
    for key in overrides:
        if key not in settings:
            raise ConfigError(f"unknown key '{key}'{suggestion(str(key), settings)}")
    section = games[game] if game in games else _own_game(game, games)
    return build(TabularConfig, {**settings, **section, **overrides})


def make_problem(config: TabularConfig) -> Problem:
    """The tables that the settings ask for.

    Raises:
        ConfigError, DatasetError, GameError: the environment, dataset or game is not one that can be used.
    """
    layer = read_yaml(_env_file(config.env_config))
    env_name = str(layer.get("env"))
    settings = {
        key: value for key, value in (layer.get("env_args") or {}).items() if key != "dataset"
    }
    try:
        env = lookup(REGISTRY, env_name, "environment")(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.env_config}: {error}") from None
    if isinstance(env, MatrixGame):
        rules = builders.from_matrix_game(env, config.gamma)
    elif isinstance(env, Bridge):
        rules = builders.from_bridge(env, config.gamma)
    else:
        raise ConfigError(
            f"env '{env_name}' cannot be written down as tables; only matrix games and Bridge can"
        )
    if config.dynamics == "game" and isinstance(env, MatrixGame) and config.dataset in env.datasets:
        return Problem(env, rules, builders.matrix_behaviour(env, config.dataset), rules)
    data = _dataset(config, env_name, env)
    data.check_env(EnvInfo(**env.get_env_info()))
    game, behaviour = builders.from_dataset(data, config.gamma, config.unseen_penalty)
    if config.dynamics == "game":
        return Problem(env, rules, builders.transfer(behaviour, game, rules), rules)
    return Problem(env, game, behaviour, rules)


def run(config: TabularConfig, problem: Problem, order: Sequence[int] | None = None) -> Solution:
    """Algorithm 1 as the settings ask for it, or with an order of the agents of one's own."""
    return solve(
        problem.game,
        problem.behaviour,
        alpha=config.alpha,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_rounds=config.beta_rounds,
        scheme=config.scheme,
        order=config.order if order is None else order,
        seed=config.seed,
        policy=noisy(problem.behaviour, config.init_noise, config.seed),
        max_rounds=config.rounds,
        tolerance=config.tolerance,
    )


def noisy(policy: Policy, scale: float, seed: int) -> Policy:
    """`policy` with Gaussian noise on its logits, of the same support."""
    rng = np.random.default_rng(seed)
    tables = [table * np.exp(scale * rng.standard_normal(table.shape)) for table in policy]
    return tuple(table / table.sum(axis=-1, keepdims=True) for table in tables)


def start_joint_policy(game: MarkovGame, policy: Policy) -> np.ndarray:
    """Probabilities of joint actions in the first state, [A_1, ..., A_N]."""
    return (game.start @ joint_policy(policy)).reshape(game.n_actions)


def exact_limits(game: str, **overrides: Any) -> list[np.ndarray]:
    """Where exact InSPO ends, in the first state, for every fixed order of the agents: what a learner may end at.

    Several equilibria can be right: on XOR it is the order that decides who plays which action.

    Args:
        game: `xor`, `mne`, or any other that `load_settings` takes.
        overrides: settings of `tabular.yaml`, for example `dataset="c", alpha=0.1`.

    Returns:
        probabilities of joint actions [A_1, ..., A_N], each limit once.

    Raises:
        GameError: the rounds did not reach an equilibrium; see also `load_settings` and `make_problem`.
    """
    config = load_settings(game, overrides)
    problem = make_problem(config)
    limits: list[np.ndarray] = []
    for order in itertools.permutations(range(problem.game.n_agents)):
        solution = run(config, problem, order)
        if not solution.converged:
            raise GameError(
                f"no equilibrium within {config.rounds} rounds; the residual is {solution.residual:.1e}"
            )
        joint = start_joint_policy(problem.game, solution.policy)
        if all(total_variation(joint, known) > 1e-6 for known in limits):
            limits.append(joint)
    return limits


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Total variation distance of two distributions, in [0, 1]."""
    return float(np.abs(np.asarray(first) - np.asarray(second)).sum() / 2)


def first_plain_value(config: TabularConfig, problem: Problem) -> float:
    """Discounted return, in the game that is solved, of the policy before the first round."""
    regularised = RegularisedGame(problem.game, problem.behaviour, config.alpha, config.beta_start)
    policy = noisy(problem.behaviour, config.init_noise, config.seed)
    return float(problem.game.start @ regularised.evaluate(policy).plain)


def _own_game(game: str, games: Mapping[str, Any]) -> dict[str, Any]:
    """The section of a game that `tabular.yaml` does not list: the dataset is the one that its YAML names."""
    file = _env_file(game)
    if not file.is_file():
        raise ConfigError(
            f"--game={game}: there is no such game{suggestion(game, {*games, *available('envs')})}"
        )
    return {
        "env_config": game,
        "dataset": str((read_yaml(file).get("env_args") or {}).get("dataset", "")),
    }


def _env_file(name: str) -> Path:
    return Path(name) if name.endswith((".yaml", ".yml")) else CONFIG_DIR / "envs" / f"{name}.yaml"


def _dataset(config: TabularConfig, env_name: str, env: MultiAgentEnv) -> EpisodeData:
    name = config.dataset
    if name and Path(name).exists():
        return load_dataset(Path(name), config.max_episodes)
    names = builtin_names(env_name, env)
    if name not in names:
        near = suggestion(name, names) if names else ""
        raise ConfigError(
            f"dataset={name}: neither an existing path nor a dataset of this game{near}"
        )
    about = f"dataset '{name}' of {config.env_config}"
    return make_builtin(env_name, env, name, about, env_args={}, max_episodes=config.max_episodes)

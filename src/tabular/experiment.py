"""From settings to a solved game."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from inspo.data.builtin_datasets import builtin_names, make_builtin
from inspo.data.episode_data import EpisodeData
from inspo.data.formats import load_dataset
from inspo.envs import EnvInfo, MultiAgentEnv
from inspo.envs.bridge import Bridge
from inspo.envs.matrix_game import MatrixGame
from inspo.run.session import make_env
from inspo.run.settings import checked_settings
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
    RunConfig,
    available,
    build,
    read_yaml,
    suggestion,
)
from inspo.utils.errors import ConfigError

SETTINGS_FILE = CONFIG_DIR / "tabular.yaml"


class TabularConfig(BaseModel):
    """The settings of the exact solver. `tabular.yaml` explains each of them."""

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


class GameProblem(NamedTuple):
    """A game to solve, and the game that judges the result.

    They are the same unless the setting `dynamics` is `dataset`.
    """

    env: MultiAgentEnv
    game: MarkovGame  # to solve
    behaviour: Policy
    rules: MarkovGame  # the environment's own game

    def episode_return(self, policy: Policy) -> float:
        """Expected undiscounted return of an episode under the rules and their time limit."""
        steps = self.env.episode_limit
        if isinstance(self.env, Bridge):
            steps -= 1  # the last step of an episode has no reward
        return self.rules.return_within(builders.transfer(policy, self.game, self.rules), steps)


def load_settings(game: str, overrides: Mapping[str, Any]) -> TabularConfig:
    """Settings of `tabular.yaml`, its section for the game, and `overrides`, checked.

    Args:
        game: a short name of `tabular.yaml`, an environment's config, or the path of a YAML.

    Raises:
        ConfigError: names the wrong key and the nearest valid one.
    """
    settings = read_yaml(SETTINGS_FILE)
    games = settings.pop("games")
    for key in overrides:
        if key not in settings:
            raise ConfigError(f"unknown key '{key}'{suggestion(str(key), settings)}")
    section = games[game] if game in games else _section_of(game, games)
    return build(TabularConfig, {**settings, **section, **overrides})


def make_problem(config: TabularConfig) -> GameProblem:
    """The tables that the settings ask for.

    Raises:
        ConfigError, DatasetError, GameError: the environment, dataset or game cannot be used.
    """
    args = _settings_of(config.env_config)
    env = make_env(args)
    if isinstance(env, MatrixGame):
        rules = builders.from_matrix_game(env, config.gamma)
        if config.dynamics == "game" and config.dataset in env.datasets:
            behaviour = builders.matrix_behaviour(env, config.dataset)
            return GameProblem(env, rules, behaviour, rules)
    elif isinstance(env, Bridge):
        rules = builders.from_bridge(env, config.gamma)
    else:
        raise ConfigError(
            f"env '{args.env}' does not fit into tables; only matrix games and Bridge do"
        )
    data = _load_data(config, args, env)
    data.check_env(EnvInfo(**env.get_env_info()))
    game, behaviour = builders.from_dataset(data, config.gamma, config.unseen_penalty)
    if config.dynamics == "game":
        return GameProblem(env, rules, builders.transfer(behaviour, game, rules), rules)
    return GameProblem(env, game, behaviour, rules)


def run(
    config: TabularConfig, problem: GameProblem, order: Sequence[int] | None = None
) -> Solution:
    """Solves a problem by Algorithm 1. `order` replaces the settings' order of the agents."""
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
    """`policy` with Gaussian noise on its logits. The support stays the same."""
    rng = np.random.default_rng(seed)
    tables = [table * np.exp(scale * rng.standard_normal(table.shape)) for table in policy]
    return tuple(table / table.sum(axis=-1, keepdims=True) for table in tables)


def start_joint_policy(game: MarkovGame, policy: Policy) -> np.ndarray:
    """Probabilities of joint actions in the first state, [A_1, ..., A_N]."""
    return (game.start @ joint_policy(policy)).reshape(game.n_actions)


def plain_values(config: TabularConfig, problem: GameProblem, solution: Solution) -> list[float]:
    """Discounted returns of the first policy and after each round, in the game that is solved."""
    regularised = RegularisedGame(problem.game, problem.behaviour, config.alpha, config.beta_start)
    first_policy = noisy(problem.behaviour, config.init_noise, config.seed)
    first = regularised.evaluate(first_policy).plain
    values = [first, *(round_.plain for round_ in solution.rounds)]
    return [float(problem.game.start @ plain) for plain in values]


def _section_of(game: str, games: Mapping[str, Any]) -> dict[str, Any]:
    """The section of a game that `tabular.yaml` does not list, with the dataset of its YAML."""
    if not game.endswith((".yaml", ".yml")) and game not in available("envs"):
        names = {*games, *available("envs")}
        raise ConfigError(f"--game={game}: there is no such game{suggestion(game, names)}")
    return {"env_config": game, "dataset": _settings_of(game).env_args["dataset"]}


def _settings_of(env_config: str) -> RunConfig:
    """An environment's settings. They are checked for a whole run: any algorithm will do."""
    return checked_settings("bc", env_config, {})


def _load_data(config: TabularConfig, args: RunConfig, env: MultiAgentEnv) -> EpisodeData:
    """As for runs, names of built-in datasets come before paths. Nothing is written."""
    name = config.dataset
    names = builtin_names(args.env, env)
    if name in names:
        about = f"dataset '{name}' of {config.env_config}"
        return make_builtin(args.env, env, name, about, {}, max_episodes=config.max_episodes)
    if name and Path(name).exists():
        return load_dataset(Path(name), config.max_episodes)
    hint = suggestion(name, names) if names else ""
    raise ConfigError(f"dataset={name}: neither an existing path nor a dataset of this game{hint}")

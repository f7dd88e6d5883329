"""`env: jaxmarl`: JaxMARL's MPE, Overcooked and other games with discrete actions, in parallel."""

from importlib.metadata import version
from typing import Any

from inspo.envs.adapters.packages import refuse_renamed
from inspo.envs.checked_vector_env import CheckedVectorEnv
from inspo.envs.contract import Contract
from inspo.envs.external_env import given_limit
from inspo.envs.multiagentenv import EnvInfo, VectorEnv, check_episode_limit
from inspo.envs.sc2.single_battle import SingleBattle
from inspo.envs.sc2.smax import smax_problem
from inspo.utils.errors import ConfigError, SimulatorError


class JaxMARL(SingleBattle):
    """One game at a time, or many with `make_batch`. The state is all observations joined.

    Args:
        key: JaxMARL's name of the game, such as `overcooked` or `MPE_simple_spread_v3`.
        episode_limit: steps after which an episode is truncated; None: the game's own limit.
        reward_scalarisation: `mean` or `sum` of the agents' rewards.
        settings: the other `env_args`, for the game's constructor. Overcooked's `layout` is a name.

    Raises:
        ConfigError: there is no such game.
        EnvContractError: its actions are not discrete.
        SimulatorError: JaxMARL is not installed.
    """

    def __init__(
        self,
        key: str,
        episode_limit: int | None = None,
        reward_scalarisation: str = "mean",
        **settings: Any,
    ):
        refuse_renamed(settings)
        if problem := smax_problem():
            raise SimulatorError(f"env_args.key={key}: {problem}")
        from inspo.envs.adapters.jax_games import jax_game

        self.contract = Contract(f"jaxmarl {key}", reward_scalarisation)
        if episode_limit is not None:
            check_episode_limit(episode_limit)
        try:
            self.game = jax_game(key, settings, episode_limit, reward_scalarisation)
        except ValueError as error:
            raise ConfigError(f"env_args.key={key}: {error}") from None
        self.episode_limit = given_limit(episode_limit, self.game.limit, self.contract.name)
        self.n_agents, self.n_actions = len(self.game.actions), self.game.n_actions
        self.obs_shape = self.game.obs_size
        self.state_shape = self.n_agents * self.obs_shape
        self.game_version = f"jaxmarl {version('jaxmarl')}"

    def make_batch(self, n_envs: int) -> VectorEnv:
        from inspo.envs.adapters.jax_games import JaxVectorEnv

        info = EnvInfo(**self.get_env_info())
        return CheckedVectorEnv(JaxVectorEnv(self.game, n_envs), self.contract, info)

"""JaxMARL's games in parallel. Imports JAX."""

import warnings
from functools import partial
from typing import Any

import numpy as np

from inspo.envs.adapters.spaces import Actions, size_of
from inspo.envs.multiagentenv import VectorEnv, VectorStep
from inspo.envs.sc2.smax_battle import jax, jnp, with_fixed_dtypes

MASK_METHODS = ("get_avail_actions", "get_legal_moves")  # the second one is Hanabi's
Game = tuple[jax.Array, Any]  # random key and the game's state


class JaxGame:
    """A game as functions of K games in parallel, compiled once for each K.

    Get one from `jax_game`: a second object for the same game would compile again.
    """

    def __init__(
        self, name: str, settings: dict[str, Any], limit: int | None, reward_scalarisation: str
    ):
        import jaxmarl

        if name == "overcooked" and isinstance(settings.get("layout"), str):
            from jaxmarl.environments.overcooked import overcooked_layouts

            layout = settings["layout"]
            if layout not in overcooked_layouts:
                known = ", ".join(overcooked_layouts)
                raise ValueError(f"env_args.layout is {layout!r}; known: {known}")
            settings = {**settings, "layout": overcooked_layouts[layout]}
        with warnings.catch_warnings():  # Overcooked recommends its successor
            warnings.simplefilter("ignore", DeprecationWarning)
            self.env = env = jaxmarl.make(name, **settings)
        self.limit = limit or getattr(env, "max_steps", None)
        if self.limit is not None and hasattr(env, "max_steps"):
            # The end of time is then never taken for the end of the game.
            env.max_steps = self.limit + 1
        self.share = jnp.sum if reward_scalarisation == "sum" else jnp.mean
        spaces = [env.action_space(agent) for agent in env.agents]
        self.actions = [Actions(space, name, i) for i, space in enumerate(spaces)]
        self.n_actions = max(actions.n for actions in self.actions)
        self.obs_size = max(size_of(env.observation_space(agent)) for agent in env.agents)
        self.mask_method = _mask_method(env)
        self.reset = jax.jit(jax.vmap(self._reset))
        self.step = jax.jit(jax.vmap(self._step))

    def _reset(self, key: jax.Array) -> tuple[Game, dict[str, jax.Array]]:
        key, reset_key = jax.random.split(key)
        obs, state = self.env.reset(reset_key)
        return with_fixed_dtypes((key, state)), self._observed(obs, state)

    def _step(
        self, game: Game, actions: jax.Array, seen: dict[str, jax.Array], playing: jax.Array
    ) -> tuple[Game, dict[str, jax.Array], jax.Array, jax.Array]:
        """One step of a game that is playing; other games stay as they are.

        Uses JaxMARL's `step_env`, because its `step` resets finished games.

        Returns:
            the game, what is seen, the team's reward, and whether the game is over.
        """
        key, state = game
        key, step_key = jax.random.split(key)
        joint_action = {agent: actions[i] for i, agent in enumerate(self.env.agents)}
        obs, state, rewards, dones, _ = self.env.step_env(step_key, state, joint_action)
        new = with_fixed_dtypes((key, state)), self._observed(obs, state)
        game, seen = jax.tree.map(partial(jnp.where, playing), new, (game, seen))
        of_agents = jnp.stack([rewards[agent] for agent in self.env.agents])
        reward = jnp.where(playing, self.share(of_agents), 0.0)
        return game, seen, reward, playing & dones["__all__"]

    def _observed(self, obs: dict[str, jax.Array], state: Any) -> dict[str, jax.Array]:
        """Padded observations [N, O] and available actions [N, A]."""
        rows, masks = [], []
        legal = self.mask_method(state) if self.mask_method else None
        for actions, agent in zip(self.actions, self.env.agents, strict=True):
            row = jnp.ravel(obs[agent]).astype(jnp.float32)
            rows.append(jnp.pad(row, (0, self.obs_size - row.size)))
            mask = jnp.ones(actions.n) if legal is None else legal[agent]
            masks.append(jnp.pad(mask, (0, self.n_actions - mask.size)) > 0)
        return {"obs": jnp.stack(rows), "avail_actions": jnp.stack(masks)}


_GAMES: dict[str, JaxGame] = {}


def jax_game(
    name: str, settings: dict[str, Any], limit: int | None, reward_scalarisation: str
) -> JaxGame:
    """The game, one object per process."""
    key = repr((name, sorted(settings.items()), limit, reward_scalarisation))
    if key not in _GAMES:
        _GAMES[key] = JaxGame(name, settings, limit, reward_scalarisation)
    return _GAMES[key]


class JaxVectorEnv(VectorEnv):
    """K games. With the same actions, the seed fixes the episode. Ends them by termination only."""

    def __init__(self, game: JaxGame, n_envs: int):
        self.game, self.n_envs = game, n_envs
        self.playing = np.zeros(n_envs, dtype=bool)

    def reset(self, seed: int) -> None:
        seeds = np.arange(self.n_envs, dtype=np.uint64) + np.uint64(seed)
        # As jax.random.PRNGKey(seed).
        keys = np.stack([seeds >> np.uint64(32), seeds & np.uint64(0xFFFFFFFF)], axis=-1)
        self._games, self._seen = self.game.reset(keys.astype(np.uint32))
        self.playing = np.ones(self.n_envs, dtype=bool)

    def step(self, actions: np.ndarray) -> VectorStep:
        actions = self.check_actions(actions).astype(np.int32)
        self._games, self._seen, reward, over = self.game.step(
            self._games, actions, self._seen, self.playing
        )
        terminated = np.array(over)
        self.playing = self.playing & ~terminated
        return np.array(reward), terminated, np.zeros_like(terminated), {}

    def get_obs(self) -> np.ndarray:
        return np.array(self._seen["obs"])

    def get_state(self) -> np.ndarray:
        return self.get_obs().reshape(self.n_envs, -1)

    def get_avail_actions(self) -> np.ndarray:
        return np.array(self._seen["avail_actions"])


def _mask_method(env: Any) -> Any:
    """What tells the available actions; None if all are available."""
    from jaxmarl.environments.multi_agent_env import MultiAgentEnv

    for name in MASK_METHODS:
        method = getattr(type(env), name, None)
        if method is not None and method is not getattr(MultiAgentEnv, name, None):
            return getattr(env, name)
    return None

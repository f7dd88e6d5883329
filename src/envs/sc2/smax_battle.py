"""SMAX's battles in parallel. The only module that imports JAX."""

import io
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np

from inspo.envs.multiagentenv import VectorEnv, VectorStep
from inspo.envs.sc2.smax_maps import EPISODE_LIMIT, FIRST_ATTACK, OWN_FEATURES, Units


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what an import prints. jaxmarl also resets `sys.stdout`, which is restored here."""
    streams = sys.stdout, sys.stderr, sys.__stdout__
    sys.stdout = sys.__stdout__ = io.StringIO()
    try:
        yield
    finally:
        sys.stdout, sys.stderr, sys.__stdout__ = streams


def _compilation_cache() -> str:
    """The user's folder of compiled games; empty if the user has no home, as in a container.

    Each machine has its own: code that was compiled for one processor may crash on another.
    """
    caches = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if caches.startswith("~"):
        return ""
    return os.path.join(caches, "inspo", "jax", platform.node() or "machine")


# Before JAX is imported: small battles are faster on a CPU, and the GPU's memory is for torch.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _compilation_cache())
with _quiet():
    import jax
    import jax.numpy as jnp
    from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario

Game = tuple[jax.Array, Any]  # random key and SMAX's state


class Battle:
    """A map's game as functions of K games in parallel, compiled once for each K.

    Get one from `battle`: a second object for the same map would compile again.
    """

    def __init__(self, map_name: str):
        scenario = map_name_to_scenario(map_name)
        # SMAX checks its step counter before it counts: it plays max_steps + 1 steps.
        self.game = HeuristicEnemySMAX(scenario=scenario, max_steps=EPISODE_LIMIT - 1)
        self.n_agents, self.n_enemies = self.game.num_allies, self.game.num_enemies
        self.reset = jax.jit(jax.vmap(self._reset))
        self.step = jax.jit(jax.vmap(self._step))

    def _reset(self, key: jax.Array) -> tuple[Game, dict[str, jax.Array]]:
        """Starts a game. Returns it and what is observed."""
        key, reset_key = jax.random.split(key)
        _, state = self.game.reset(reset_key)
        return with_fixed_dtypes((key, state)), self._observe(state)

    def _step(
        self, game: Game, actions: jax.Array, playing: jax.Array
    ) -> tuple[Game, dict[str, jax.Array]]:
        """One step of a game that is playing; other games stay as they are.

        Uses SMAX's `step_env`, because its `step` resets finished games. A battle is won if all
        enemies are dead and an ally lives after the last step.
        """
        key, state = game
        key, step_key = jax.random.split(key)
        joint_action = {agent: actions[i] for i, agent in enumerate(self.game.agents)}
        _, new_state, rewards, dones, _ = self.game.step_env(step_key, state, joint_action)
        alive = new_state.state.unit_alive
        allies, enemies = alive[: self.n_agents].any(), alive[self.n_agents :].any()
        outcome = {
            "reward": rewards[self.game.agents[0]],
            "terminated": ~(allies & enemies),
            "truncated": dones["__all__"] & allies & enemies,
            "battle_won": allies & ~enemies,
        }
        for name, value in outcome.items():
            outcome[name] = jnp.where(playing, value, jnp.zeros_like(value))
        new_game = with_fixed_dtypes((key, new_state))
        game = jax.tree.map(partial(jnp.where, playing), new_game, game)
        return game, outcome | self._observe(game[1])

    def _observe(self, state: Any) -> dict[str, jax.Array]:
        """Observations [N, O], state [S], available actions [N, A]. All values are in [-1, 1].

        The state is SMAX's `world_state` with normalised positions and cooldowns, and without the
        teams and types at its end: teams never change, and the types are in the units' features.
        """
        obs, available = self.game.get_obs(state), self.game.get_avail_actions(state)
        n_units = self.n_agents + self.n_enemies
        world = self.game.get_world_state(state)[: n_units * OWN_FEATURES]
        rows = world.reshape(n_units, OWN_FEATURES)
        scale = jnp.array([self.game.map_width, self.game.map_height], dtype=rows.dtype)
        full_cooldown = self.game.unit_type_weapon_cooldowns[state.state.unit_types]
        cooldown = jnp.clip(rows[:, 3] / full_cooldown, 0.0, 1.0)
        rows = rows.at[:, 1:3].divide(scale).at[:, 3].set(cooldown)
        avail_actions = jnp.stack([available[agent] for agent in self.game.agents])
        return {
            "obs": jnp.stack([obs[agent] for agent in self.game.agents]),
            "state": rows.reshape(-1),
            "avail_actions": avail_actions.astype(bool),
        }


def with_fixed_dtypes(tree: Any) -> Any:
    """Removes JAX's weak types. A reset returns some, and the second step would compile again."""
    return jax.tree.map(
        lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), tree
    )


@cache
def battle(map_name: str) -> Battle:
    """The map's game, one object per process."""
    return Battle(map_name)


class SMAXVectorEnv(VectorEnv):
    """K battles on one map. With the same actions, the seed fixes the episode."""

    def __init__(self, map_name: str, n_envs: int, reward_scale: float):
        self.battle, self.n_envs, self.reward_scale = battle(map_name), n_envs, reward_scale
        self.playing = np.zeros(n_envs, dtype=bool)

    def reset(self, seed: int) -> None:
        seeds = np.arange(self.n_envs, dtype=np.uint64) + np.uint64(seed)
        # As jax.random.PRNGKey(seed).
        keys = np.stack([seeds >> np.uint64(32), seeds & np.uint64(0xFFFFFFFF)], axis=-1)
        self._games, seen = self.battle.reset(keys.astype(np.uint32))
        self._keep(seen)
        self.playing = np.ones(self.n_envs, dtype=bool)

    def step(self, actions: np.ndarray) -> VectorStep:
        actions = self.check_actions(actions).astype(np.int32)
        self._games, seen = self.battle.step(self._games, actions, self.playing)
        self._keep(seen)
        terminated, truncated = np.array(seen["terminated"]), np.array(seen["truncated"])
        self.playing = self.playing & ~(terminated | truncated)
        reward = np.array(seen["reward"]) * np.float32(self.reward_scale)
        return reward, terminated, truncated, {"battle_won": np.array(seen["battle_won"])}

    def get_obs(self) -> np.ndarray:
        return self._seen["obs"]

    def get_state(self) -> np.ndarray:
        return self._seen["state"]

    def get_avail_actions(self) -> np.ndarray:
        return self._seen["avail_actions"]

    def units(self) -> Units:
        """The full state of all units, for scripted policies."""
        game, units = self.battle.game, self._games[1].state
        return Units(
            positions=np.asarray(units.unit_positions),
            health=np.asarray(units.unit_health),
            alive=np.asarray(units.unit_alive),
            types=np.asarray(units.unit_types),
            cooldowns=np.asarray(units.unit_weapon_cooldowns),
            attack_ranges=np.asarray(game.unit_type_attack_ranges),
            sight_ranges=np.asarray(game.unit_type_sight_ranges),
            speeds=np.asarray(game.unit_type_velocities),
            step_seconds=game.world_steps_per_env_step * game.time_per_step,
        )

    def targets(self) -> np.ndarray:
        """The unit that each unit attacked in the last step, int64 [K, U]; -1: none."""
        actions = np.array(self._games[1].state.prev_attack_actions, dtype=np.int64)
        attacks = actions >= FIRST_ATTACK
        targets = actions - FIRST_ATTACK
        n_allies = self.battle.n_agents
        targets[:, :n_allies] += n_allies
        # For SMAX's enemies, the last ally is number 0.
        targets[:, n_allies:] = n_allies - 1 - targets[:, n_allies:]
        return np.where(attacks, targets, -1)

    def _keep(self, seen: dict[str, jax.Array]) -> None:
        # Copies: numpy sees JAX's arrays as read-only, about which torch warns.
        self._seen = {name: np.array(seen[name]) for name in ("obs", "state", "avail_actions")}

"""SMAX's battles, all lanes of a batch one vmapped function. The only module that imports JAX."""

import io
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np

from inspo.envs.multiagentenv import VectorEnv
from inspo.envs.sc2.smax_maps import EPISODE_LIMIT, FIRST_ATTACK, OWN_FEATURES, Units


@contextmanager
def _quiet() -> Iterator[None]:
    """Swallows what an import prints. jaxmarl sets `sys.stdout` back to `sys.__stdout__` on the way."""
    streams = sys.stdout, sys.stderr, sys.__stdout__
    sys.stdout = sys.__stdout__ = io.StringIO()
    try:
        yield
    finally:
        sys.stdout, sys.stderr, sys.__stdout__ = streams


def _compiled_games() -> str:
    """The user's folder of compiled games, one for each machine: code for one processor may crash another."""
    caches = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if caches.startswith("~"):  # a user without a home, as in a container: nothing is kept
        return ""
    return os.path.join(caches, "inspo", "jax", platform.node() or "machine")


# Before JAX is imported: battles of a few units are faster on a CPU, and the GPU's memory is torch's. Compiled games
# are kept between runs, unless the user has a place for them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _compiled_games())
with _quiet():
    import jax
    import jax.numpy as jnp
    from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario


class Battle:
    """One map's game as functions of K lanes, compiled once for each K. Another object would compile anew."""

    def __init__(self, map_name: str):
        # SMAX tests its counter before it counts: max_steps + 1 steps are played.
        self.game = HeuristicEnemySMAX(
            scenario=map_name_to_scenario(map_name), max_steps=EPISODE_LIMIT - 1
        )
        self.n_agents, self.n_enemies = self.game.num_allies, self.game.num_enemies
        self.reset = jax.jit(jax.vmap(self._reset))
        self.step = jax.jit(jax.vmap(self._step))

    def _reset(self, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        """From a random key to the lane, (key, state of the game), and what is seen of it."""
        key, reset_key = jax.random.split(key)
        _, state = self.game.reset(reset_key)
        return _strong((key, state)), self._seen(state)

    def _step(
        self, lane: Any, actions: jax.Array, playing: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        """One step of a lane; one that does not play stays as it is. `step_env`, because `step` would reset by itself.

        Won is a battle after which, in the true final state, all enemies are dead and an ally lives.
        """
        key, state = lane
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
        outcome = {
            name: jnp.where(playing, value, jnp.zeros_like(value))
            for name, value in outcome.items()
        }
        lane = jax.tree.map(partial(jnp.where, playing), _strong((key, new_state)), lane)
        return lane, outcome | self._seen(lane[1])

    def _seen(self, state: Any) -> dict[str, jax.Array]:
        """Observations [N, O], state [S], available actions [N, A]. All numbers are between -1 and 1.

        The state is SMAX's `world_state` with positions as shares of the map, cooldowns as shares of the type's, cut
        off at 0 and 1, and without the teams and types at its end: teams never change, types are in the bits.
        """
        obs, available = self.game.get_obs(state), self.game.get_avail_actions(state)
        n_units = self.n_agents + self.n_enemies
        rows = self.game.get_world_state(state)[: n_units * OWN_FEATURES].reshape(
            n_units, OWN_FEATURES
        )
        scale = jnp.array([self.game.map_width, self.game.map_height], dtype=rows.dtype)
        full_cooldown = self.game.unit_type_weapon_cooldowns[state.state.unit_types]
        cooldown = jnp.clip(rows[:, 3] / full_cooldown, 0.0, 1.0)
        rows = rows.at[:, 1:3].divide(scale).at[:, 3].set(cooldown)
        return {
            "obs": jnp.stack([obs[agent] for agent in self.game.agents]),
            "state": rows.reshape(-1),
            "avail_actions": jnp.stack([available[agent] for agent in self.game.agents]).astype(
                bool
            ),
        }


def _strong(tree: Any) -> Any:
    """Leaves of fixed dtypes: the weak ones that a reset returns would make the second step compile again."""
    return jax.tree.map(
        lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), tree
    )


@cache
def battle(map_name: str) -> Battle:
    """The map's game, one object for each process."""
    return Battle(map_name)


class SMAXVectorEnv(VectorEnv):
    """K battles on one map.

    Lane k of `reset(seed)` plays, given the same actions, the episode that a lane k' of `reset(seed + k - k')` plays.
    """

    def __init__(self, map_name: str, n_envs: int, reward_scale: float):
        self.battle, self.n_envs, self.reward_scale = battle(map_name), n_envs, reward_scale
        self.playing = np.zeros(n_envs, dtype=bool)

    def reset(self, seed: int) -> None:
        seeds = np.arange(self.n_envs, dtype=np.uint64) + np.uint64(seed)
        keys = np.stack(
            [seeds >> np.uint64(32), seeds & np.uint64(0xFFFFFFFF)], axis=-1
        )  # jax.random.PRNGKey(seed)
        self._lanes, seen = self.battle.reset(keys.astype(np.uint32))
        self._look(seen)
        self.playing = np.ones(self.n_envs, dtype=bool)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        actions = self.check_actions(actions).astype(np.int32)
        self._lanes, seen = self.battle.step(self._lanes, actions, self.playing)
        self._look(seen)
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
        """The units as they are, for scripts that may see everything."""
        game, units = self.battle.game, self._lanes[1].state
        arrays = (units.unit_positions, units.unit_health, units.unit_alive, units.unit_types)
        return Units(
            *(np.asarray(array) for array in (*arrays, units.unit_weapon_cooldowns)),
            attack_ranges=np.asarray(game.unit_type_attack_ranges),
            speeds=np.asarray(game.unit_type_velocities),
            step_seconds=game.world_steps_per_env_step * game.time_per_step,
        )

    def targets(self) -> np.ndarray:
        """Whom each unit attacked in the last step, int64 [K, U]: a unit's index, or -1."""
        actions = np.array(self._lanes[1].state.prev_attack_actions, dtype=np.int64)
        attacks = actions >= FIRST_ATTACK
        targets = actions - FIRST_ATTACK
        n_allies = self.battle.n_agents
        targets[:, :n_allies] += n_allies
        # SMAX lets enemies number the allies backwards.
        targets[:, n_allies:] = n_allies - 1 - targets[:, n_allies:]
        return np.where(attacks, targets, -1)

    def _look(self, seen: dict[str, jax.Array]) -> None:
        # Copies: JAX's arrays are read-only to numpy, which torch does not like.
        self._seen = {name: np.array(seen[name]) for name in ("obs", "state", "avail_actions")}

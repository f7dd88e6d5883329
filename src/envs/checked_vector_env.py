"""The contract for a vector environment of a user's own."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from inspo.envs.contract import Contract, as_floats, as_switches, described
from inspo.envs.external_env import close_quietly
from inspo.envs.multiagentenv import EnvInfo, VectorEnv, VectorStep

INFO_FLAGS = ("battle_won", "crashed")  # of a step's info


class CheckedVectorEnv(VectorEnv):
    """Checks and converts what another vector environment returns, all games at once.

    Games that reach the time limit are truncated.
    """

    def __init__(self, env: VectorEnv, contract: Contract, info: EnvInfo):
        self.env, self.contract, self.info = env, contract, info
        self.n_envs = env.n_envs
        self.playing = np.zeros(self.n_envs, dtype=bool)

    def reset(self, seed: int) -> None:
        self.contract.seed, self.contract.step = seed, 0
        self.contract.ask("reset()", self.env.reset, seed)
        self.playing = np.ones(self.n_envs, dtype=bool)

    def step(self, actions: np.ndarray) -> VectorStep:
        self.contract.step += 1
        answer = self.contract.ask("step()", self.env.step, actions)
        reward, terminated, truncated, info = self._parts(answer)
        shape = (self.n_envs,)
        reward = self._numbers(reward, shape, "step()") * self.playing
        terminated = self._switches(terminated, shape, "step()") & self.playing
        truncated = self._switches(truncated, shape, "step()") & self.playing
        if self.contract.step >= self.info.episode_limit:
            truncated = self.playing & ~terminated
        truncated &= ~terminated
        self.playing = self.playing & ~(terminated | truncated)
        flags = {
            name: self._switches(info[name], shape, f"step() of {name}")
            for name in INFO_FLAGS
            if name in info
        }
        return reward, terminated, truncated, {**info, **flags}

    def get_obs(self) -> np.ndarray:
        shape = (self.n_envs, self.info.n_agents, self.info.obs_shape)
        return self._numbers(self._asked("get_obs"), shape, "get_obs()")

    def get_state(self) -> np.ndarray:
        shape = (self.n_envs, self.info.state_shape)
        return self._numbers(self._asked("get_state"), shape, "get_state()")

    def get_avail_actions(self) -> np.ndarray:
        shape = (self.n_envs, self.info.n_agents, self.info.n_actions)
        masks = self._asked("get_avail_actions")
        masks = self._switches(masks, shape, "get_avail_actions()")
        none = ~masks.any(axis=-1)
        for game, agent in np.argwhere(self.playing[:, None] & none)[:1]:
            self.contract.fail("get_avail_actions()", f"no action in game {game}", agent)
        masks[..., 0] |= none  # as in games of one's own that are over
        return masks

    def close(self) -> None:
        close_quietly(self.env, self.contract.name)

    def _asked(self, method: str) -> Any:
        return self.contract.ask(f"{method}()", getattr(self.env, method))

    def _parts(self, answer: Any) -> VectorStep:
        is_step = isinstance(answer, (tuple, list)) and len(answer) == 4
        if is_step and isinstance(answer[3], Mapping):
            return tuple(answer)
        expected = "(reward, terminated, truncated, info), with a dict as info"
        self.contract.fail("step()", f"returned {described(answer)}; expected {expected}")
        flags = np.zeros(self.n_envs, dtype=bool)
        return np.zeros(self.n_envs, dtype=np.float32), flags, flags, {}

    def _numbers(self, value: np.ndarray, shape: tuple[int, ...], method: str) -> np.ndarray:
        array = as_floats(value)
        if array is None or array.shape != shape:
            text = f"returned {described(value)}; expected numbers of shape {shape}"
            self.contract.fail(method, text)
            return np.zeros(shape, dtype=np.float32)
        if not np.isfinite(array).all():
            game = np.argwhere(~np.isfinite(array))[0][0]
            self.contract.fail(method, f"returned NaN or infinity in game {game}")
            return np.nan_to_num(array, posinf=0.0, neginf=0.0)
        return array

    def _switches(self, value: np.ndarray, shape: tuple[int, ...], method: str) -> np.ndarray:
        array = as_switches(value)
        if array is None or array.shape != shape:
            text = f"returned {described(value)}; expected 0 and 1 of shape {shape}"
            self.contract.fail(method, text)
            return np.zeros(shape, dtype=bool)
        return array

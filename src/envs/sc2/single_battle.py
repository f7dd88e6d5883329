"""One battle at a time, as a batch of one lane: what the simulators' environments have beside sizes and settings."""

from functools import cached_property

import numpy as np

from inspo.envs.multiagentenv import MultiAgentEnv, VectorEnv


class SingleBattle(MultiAgentEnv):
    """A subclass has the sizes and, in `make_batch`, the lanes that play. Nothing is seen before the first `reset`."""

    _next_seed = 0

    @cached_property
    def _lane(self) -> VectorEnv:
        """Made when first played on."""
        return self.make_batch(1)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Without a seed, the one after the last."""
        seed = self._next_seed if seed is None else seed
        self._next_seed = seed + 1
        self._lane.reset(seed)
        return self.get_obs()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """A game that is lost truncates the episode and says `crashed`; the next reset starts another."""
        actions = self.check_actions(actions)
        reward, terminated, truncated, info = self._lane.step(actions[None])
        over = bool(terminated[0] or truncated[0])
        about = {name: bool(values[0]) for name, values in info.items()} if over else {}
        return self.get_obs(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), about

    def get_obs(self) -> np.ndarray:
        return self._lane.get_obs()[0]

    def get_state(self) -> np.ndarray:
        return self._lane.get_state()[0]

    def get_avail_actions(self) -> np.ndarray:
        return self._lane.get_avail_actions()[0]

    def close(self) -> None:
        if "_lane" in vars(self):
            self._lane.close()

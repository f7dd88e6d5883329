"""One game at a time, as a vector environment of one. Base of battles and of JaxMARL's games."""

from functools import cached_property

import numpy as np

from inspo.envs.multiagentenv import MultiAgentEnv, Step, VectorEnv


class SingleBattle(MultiAgentEnv):
    """A subclass provides the sizes and `make_batch`. Call `reset` before anything else."""

    _next_seed = 0

    @cached_property
    def _battle(self) -> VectorEnv:
        """Made when it is first needed."""
        return self.make_batch(1)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Starts a battle. Without `seed`, the seed is one more than the last."""
        seed = self._next_seed if seed is None else seed
        self._next_seed = seed + 1
        self._battle.reset(seed)
        return self.get_obs()

    def step(self, actions: np.ndarray) -> Step:
        """If the game crashes, the episode is truncated and the info says `crashed`."""
        actions = self.check_actions(actions)
        reward, terminated, truncated, info = self._battle.step(actions[None])
        over = bool(terminated[0] or truncated[0])
        about = {name: bool(values[0]) for name, values in info.items()} if over else {}
        return self.get_obs(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), about

    def get_obs(self) -> np.ndarray:
        return self._battle.get_obs()[0]

    def get_state(self) -> np.ndarray:
        return self._battle.get_state()[0]

    def get_avail_actions(self) -> np.ndarray:
        return self._battle.get_avail_actions()[0]

    def close(self) -> None:
        if "_battle" in vars(self):
            self._battle.close()

"""SMACv2's environment inside a game's player process: its teams come from the episode's seed.

The module imports nothing of the project: see starcraft_worker.py.
"""

import random
from copy import deepcopy
from typing import Any

import numpy as np
from starcraft_player import GameLostError, Player, accepted

RESET_TRIES = 10  # teams that are tried for one episode


def make_player(smac_args: dict[str, Any]) -> Player:
    """SMACv2's player if `capability_config` is among the arguments, else SMAC's."""
    return SMACv2Player(smac_args) if "capability_config" in smac_args else Player(smac_args)


class SMACv2Player(Player):
    """SMACv2's environment, with random numbers that depend on the episode's seed alone.

    SMACv2 draws teams, positions, the order of observing agents and the luck of attacks from
    generators that nothing seeds. It scales rewards by the first team's enemies for ever; here each
    episode has its own scale.
    """

    def make_env(self) -> Any:
        """Makes SMACv2's environment, and the wrapper that draws teams."""
        self.generator = generator = np.random.default_rng()
        seeded = np.random.default_rng
        # SMACv2 makes generators in many places. In this process, all of them are this one.
        np.random.default_rng = lambda seed=None: generator if seed is None else seeded(seed)
        from smacv2.env import StarCraftCapabilityEnvWrapper

        self.wrapper = accepted(StarCraftCapabilityEnvWrapper, deepcopy(self.smac_args))
        return self.wrapper.env

    def begin(self, seed: int) -> None:
        """Calls SMACv2's reset with the teams and positions that the seed means.

        As in SMACv2, others are drawn if the game does not place the units.
        """
        from smacv2.env.starcraft2.starcraft2 import CannotResetException

        random.seed(seed)
        np.random.seed(seed % 2**32)
        self.generator.bit_generator.state = np.random.PCG64(seed).state
        for _ in range(RESET_TRIES):
            try:
                self.env.reset(self._draw(seed))
                return
            except CannotResetException:
                if not self.finished_an_episode:
                    self.env.close()  # SMACv2 would start a second game
        raise GameLostError(f"StarCraft II did not place the units of {RESET_TRIES} random teams")

    def _draw(self, seed: int) -> dict[str, Any]:
        """Teams, positions and the like for one episode, as SMACv2's wrapper draws them."""
        # Drawing changes a distribution, and lists in its settings.
        self.wrapper.distribution_config = deepcopy(self.smac_args["capability_config"])
        self.wrapper._parse_distribution_config()
        drawn = {}
        for distribution in self.wrapper.env_key_to_distribution_map.values():
            if hasattr(distribution, "index"):  # of `fixed`, which may play its items in turns
                distribution.index = seed % distribution.n_tasks
            drawn |= distribution.generate()
        for name in {*drawn} & {"attack", "health"}:
            # Each agent's number may be a list of one, which NumPy 2 does not take for a number.
            drawn[name]["item"] = np.ravel(drawn[name]["item"])
        return drawn

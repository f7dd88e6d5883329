"""SMACv2 battles (Ellis et al. 2023, package `smacv2`): StarCraft II with random teams and places.

Teams and start positions are drawn from the seed of each episode. The same seed gives the same
teams, also in a new game and in a resumed run. The battles themselves are StarCraft II's.
"""

from dataclasses import dataclass
from typing import Any

from inspo.envs.sc2.smacv2_settings import check_smacv2
from inspo.envs.sc2.starcraft import StarCraft
from inspo.envs.sc2.starcraft_install import SMACV2_MAP


@dataclass(eq=False)
class SMACv2(StarCraft):
    """One battle at a time, as StarCraft's. SMACv2's settings with their defaults.

    SMAC's own maps are refused: SMACv2 confuses their unit types.

    Args:
        capability_config: what is random, as in SMACv2's YAMLs; teams must be.
        obs_own_pos: agents see their own position.
        obs_starcraft: agents see the battle. False: at most the time step.
        conic_fov: agents see and attack in a cone, which actions turn.
        num_fov_actions: number of the cone's directions.
        use_unit_ranges: each unit type has its own sight and attack range.
        min_attack_range: lower bound of attack ranges, with `use_unit_ranges`.
        kill_unit_step_mul: with `capability_config.health`, game steps of a step that are played
            after units with too little health died.
        fully_observable: agents see everything.
        prob_obs_enemy: probability that an agent can see an enemy that another agent saw first.
        action_mask: only enemies in range can be attacked. False: an attack may do nothing.

    Raises:
        ConfigError: one of these settings is wrong.
    """

    simulator = "smacv2"
    package = "smacv2"

    capability_config: dict[str, Any] | None = None
    obs_own_pos: bool = False
    obs_starcraft: bool = True
    conic_fov: bool = False
    num_fov_actions: int = 12
    use_unit_ranges: bool = False
    min_attack_range: float = 2
    kill_unit_step_mul: int = 2
    fully_observable: bool = False
    prob_obs_enemy: float = 1.0
    action_mask: bool = True

    def __post_init__(self) -> None:
        check_smacv2(vars(self))
        super().__post_init__()

    @property
    def map_file(self) -> str:
        return SMACV2_MAP

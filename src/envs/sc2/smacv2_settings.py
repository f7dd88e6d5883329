"""SMACv2's settings: which there are, and what they may be.

`capability_config` says what is random in each episode, and by which distribution. SMACv2 itself
checks nothing: a wrong unit type, for example, ends in an error in the middle of an episode.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from inspo.utils.config import Fraction, NonNegative, Positive, PositiveInt, suggestion
from inspo.utils.errors import ConfigError
from inspo.utils.values import shown

RANDOM_MAPS = "10gen_"  # how the names of maps with random teams begin
UNITS = {  # of each race
    "protoss": ("stalker", "zealot", "colossus"),
    "terran": ("marine", "marauder", "medivac"),
    "zerg": ("zergling", "hydralisk", "baneling"),
}
# Sections that use several distributions; pydantic names the chosen one in an error's place.
TAGS = (
    *("weighted_teams", "all_teams", "fixed", "per_agent_uniform"),
    *("reflect_position", "surrounded", "surrounded_and_reflect"),
)
Names = Annotated[list[str], Field(min_length=1)]
Bound = Annotated[list[float], Field(min_length=1, max_length=1)]


class Distribution(BaseModel):
    """A section of `capability_config`. SMACv2 copies the two numbers of units into each."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    n_units: PositiveInt | None = None
    n_enemies: PositiveInt | None = None


class Teams(Distribution):
    """Random unit types. A team never consists of `exception_unit_types` alone."""

    unit_types: Names
    exception_unit_types: list[str] = []
    observe: bool  # agents see the types of their teammates

    def possible_types(self) -> list[str]:
        """Types that teams may have."""
        return self.unit_types

    @model_validator(mode="after")
    def _check_exceptions(self) -> "Teams":
        if set(self.possible_types()) <= set(self.exception_unit_types):
            raise ValueError("exception_unit_types must leave a unit type that teams can have")
        return self


class WeightedTeams(Teams):
    """Each unit's type is drawn with these probabilities."""

    dist_type: Literal["weighted_teams"]
    weights: list[NonNegative]

    def possible_types(self) -> list[str]:
        pairs = zip(self.unit_types, self.weights, strict=True)
        return [name for name, weight in pairs if weight > 0]

    @model_validator(mode="before")
    @classmethod
    def _check_weights(cls, values: Any) -> Any:
        weights, types = values.get("weights"), values.get("unit_types")
        if isinstance(weights, list) and isinstance(types, list) and len(weights) != len(types):
            raise ValueError(f"there are {len(weights)} weights for {len(types)} unit_types")
        return values

    @model_validator(mode="after")
    def _check_sum(self) -> "WeightedTeams":
        if not math.isclose(sum(self.weights), 1.0, abs_tol=1e-8):
            raise ValueError(
                f"weights are probabilities; their sum is {sum(self.weights):g}, not 1"
            )
        return self


class AllTeams(Teams):
    """Every combination of types is equally likely. Both sides have the same team."""

    dist_type: Literal["all_teams"]


class Positions(Distribution):
    """Random start positions."""

    dist_type: Literal["reflect_position", "surrounded"]
    map_x: Positive
    map_y: Positive


class MixedPositions(Positions):
    """Surrounded with the probability 1 - p, and reflected with p."""

    dist_type: Literal["surrounded_and_reflect"]
    p: Fraction


class Fixed(Distribution):
    """One of the items, which are lists of a number for each agent."""

    dist_type: Literal["fixed"]
    items: Annotated[list[list[float]], Field(min_length=1)]
    test_mode: bool  # the items in turns
    observe: bool


class PerAgentUniform(Distribution):
    """A number for each agent between the bounds, which are lists of one number."""

    dist_type: Literal["per_agent_uniform"]
    lower_bound: Bound
    upper_bound: Bound
    observe: bool


class Mask(Distribution):
    """Each agent sees neither health nor type of some enemies."""

    dist_type: Literal["mask"]
    mask_probability: Fraction


TeamGen = Annotated[WeightedTeams | AllTeams, Field(discriminator="dist_type")]
StartPositions = Annotated[Positions | MixedPositions, Field(discriminator="dist_type")]
PerAgent = Annotated[Fixed | PerAgentUniform, Field(discriminator="dist_type")]


class Capabilities(BaseModel):
    """`capability_config`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    n_units: PositiveInt
    n_enemies: PositiveInt
    team_gen: TeamGen | None = None
    start_positions: StartPositions | None = None
    attack: PerAgent | None = None  # probability that an attack works
    health: PerAgent | None = None  # share of its health at which a unit dies
    enemy_mask: Mask | None = None

    @model_validator(mode="after")
    def _check_numbers(self) -> "Capabilities":
        for name in ("team_gen", "start_positions", "attack", "health", "enemy_mask"):
            section = getattr(self, name)
            for key in ("n_units", "n_enemies"):
                if section and getattr(section, key) not in (None, getattr(self, key)):
                    raise ValueError(f"{key} of {name} must be {key} above: SMACv2 replaces it")
            items = section.items if isinstance(section, Fixed) else []
            if any(len(item) != self.n_units for item in items):
                raise ValueError(f"items of {name} must have {self.n_units} numbers, as n_units")
        if isinstance(self.team_gen, AllTeams) and self.n_units != self.n_enemies:
            raise ValueError("team_gen with all_teams needs n_enemies equal to n_units")
        return self


class Settings(BaseModel):
    """The settings that SMAC does not have, and what they depend on."""

    model_config = ConfigDict(extra="ignore", strict=True)

    map_name: str
    capability_config: Capabilities | None
    obs_instead_of_state: bool
    obs_timestep_number: bool
    obs_own_pos: bool
    obs_starcraft: bool
    conic_fov: bool
    num_fov_actions: PositiveInt
    use_unit_ranges: bool
    min_attack_range: NonNegative
    kill_unit_step_mul: PositiveInt
    fully_observable: bool
    prob_obs_enemy: Fraction
    action_mask: bool

    @field_validator("obs_instead_of_state")
    @classmethod
    def _check_state(cls, value: bool) -> bool:
        if value:
            raise ValueError("SMACv2 does not implement it")
        return value

    @field_validator("obs_starcraft")
    @classmethod
    def _check_sight(cls, value: bool, info: ValidationInfo) -> bool:
        if not value and not info.data.get("obs_timestep_number"):
            raise ValueError("False leaves nothing to observe without obs_timestep_number=True")
        return value

    @model_validator(mode="after")
    def _check_map(self) -> "Settings":
        names = [f"{RANDOM_MAPS}{race}" for race in UNITS]
        if not self.map_name.startswith(RANDOM_MAPS):
            # SMACv2 confuses the unit types of SMAC's own maps.
            raise ValueError(
                f"the maps of random teams are {', '.join(names)}, as in --env-config="
                "sc2_gen_protoss; SMAC's maps are played with env_args.simulator=starcraft2"
            )
        if self.map_name not in names:
            raise ValueError(f"SMACv2 has no such map{suggestion(self.map_name, names)}")
        teams = self.capability_config and self.capability_config.team_gen
        if not teams:
            raise ValueError("needs capability_config.team_gen, as --env-config=sc2_gen_protoss")
        units = UNITS[self.map_name.removeprefix(RANDOM_MAPS)]
        for name in {*teams.unit_types, *teams.exception_unit_types} - {*units}:
            raise ValueError(f"has no unit type '{name}'{suggestion(name, units)}")
        return self


def wants_smacv2(env_args: Mapping[str, Any]) -> bool:
    """Whether these settings can only mean SMACv2."""
    random_map = str(env_args.get("map_name", "")).startswith(RANDOM_MAPS)
    return random_map or bool(env_args.get("capability_config"))


def check_smacv2(env_args: Mapping[str, Any]) -> None:
    """Checks all of SMACv2's settings.

    Raises:
        ConfigError: lists all that is wrong.
    """
    try:
        Settings(**{**env_args, "capability_config": env_args["capability_config"] or None})
    except ValidationError as error:
        problems = [_problem(item, env_args["map_name"]) for item in error.errors()]
        raise ConfigError("; ".join(problems)) from None


def _problem(item: Any, map_name: str) -> str:
    """One of pydantic's errors as `env_args.KEY: what is wrong`."""
    place = ".".join(str(part) for part in item["loc"] if part not in TAGS)
    text = item["msg"].removeprefix("Value error, ")
    if not place:
        return f"env_args.map_name={map_name}: {text}"
    if item["type"] == "missing":
        return f"env_args.{place} is missing"
    given = "" if item["type"] == "value_error" else f" (given: {shown(item['input'])})"
    return f"env_args.{place}: {text}{given}"

"""Battles on SMAC's maps: the environment `sc2`, played on one of three simulators.

    starcraft2   StarCraft II, through the package `smac`
    smacv2       StarCraft II with random teams, through the package `smacv2`
    smax         JaxMARL's SMAX, a replacement that runs on a CPU without StarCraft II

Scores on SMAX cannot be compared with scores on StarCraft II.

The modules:

    __init__            SC2, the registry's entry: selects the simulator
    single_battle       one battle, as a vector environment of one game; base of all simulators

    starcraft           StarCraft II: its settings, and battles in parallel
    starcraft_settings  which values its settings may have
    starcraft_install   whether game, maps and packages are installed
    starcraft_game      one game's processes, seen from the project's process
    starcraft_channel   messages between this process and theirs
    starcraft_worker    the script that runs in these processes
    starcraft_player    SMAC's environment in it, and what is mended there
    starcraft_messages  the game's messages on protobuf's fast implementation

    smacv2              SMACv2: its settings
    smacv2_settings     which values these settings may have
    smacv2_player       SMACv2's environment in the game's process, with seeded teams

    smax                SMAX: its settings and sizes, known without JAX
    smax_maps           SMAX's maps and constants
    smax_battle         battles in parallel; imports JAX
    scripted            the scripted policy that plays SMAX's `scripted` dataset
"""

import inspect
import logging
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from inspo.envs.multiagentenv import MultiAgentEnv
from inspo.envs.sc2.smacv2 import SMACv2
from inspo.envs.sc2.smacv2_settings import RANDOM_MAPS, check_smacv2, wants_smacv2
from inspo.envs.sc2.smax import MAPS, REWARD_SCALE, SMAX, smax_problem
from inspo.envs.sc2.smax_maps import RANDOM_TEAMS
from inspo.envs.sc2.starcraft import StarCraft, starcraft_problem
from inspo.utils.config import suggestion
from inspo.utils.errors import ConfigError, SimulatorError

ON_STARCRAFT: dict[str, type[StarCraft]] = {"starcraft2": StarCraft, "smacv2": SMACv2}
SIMULATORS = (*ON_STARCRAFT, "smax")
SCENARIO = re.compile(r"(protoss|terran|zerg)_(\d+)_vs_(\d+)")  # SMACv2's, in other projects
UNIT_NUMBERS = ("n_units", "n_enemies")
NOTICE_WIDTH = 96
log = logging.getLogger(__name__)


class SC2:
    """The registry's entry: selects the simulator and makes the environment.

    Its signature lists the settings that `env_args` may hold. They are SMACv2's, which has all of
    SMAC's, and `simulator`; SMAX's settings are among them.
    """

    def __init__(self) -> None:
        self.defaults = {name: _defaults(made) for name, made in ON_STARCRAFT.items()}
        keyword = inspect.Parameter.KEYWORD_ONLY
        names = ["simulator", *self.defaults["smacv2"]]
        self.__signature__ = inspect.Signature([inspect.Parameter(n, keyword) for n in names])

    def __call__(self, **env_args: Any) -> MultiAgentEnv:
        """Makes the environment.

        Raises:
            SimulatorError: the simulator is not installed.
            ConfigError: the simulator or the map does not exist, or a setting is not its own.
        """
        settings = self.resolve(env_args)
        simulator = settings.pop("simulator")
        if simulator in ON_STARCRAFT:
            return ON_STARCRAFT[simulator](**settings)
        if problem := smax_problem():
            raise SimulatorError(f"SMAX cannot be played: {problem}")
        return SMAX(**settings)

    def resolve(self, env_args: Mapping[str, Any]) -> dict[str, Any]:
        """The complete settings of one simulator.

        `simulator=auto` becomes `starcraft2` where StarCraft II is installed, and `smax` elsewhere;
        for SMACv2's random teams, it becomes `smacv2` where that is installed. For StarCraft II,
        missing settings get their defaults. For SMAX, settings that only StarCraft II has are
        dropped, with a warning if they are not the default.

        Raises:
            ConfigError: there is no such simulator, or it does not have one of the settings.
        """
        settings = dict(env_args)
        for key in ("map_name", "difficulty"):
            if key in settings:  # the command line may write a number, as in `difficulty=7`
                settings[key] = str(settings[key])
        settings["simulator"] = simulator = _simulator(settings)
        _check_scenario(settings.get("map_name", ""))
        if simulator == "smax":
            return self._smax_settings(settings)
        if simulator == "starcraft2":
            settings = self._without_smacv2(settings)
        settings = {**self.defaults[simulator], **settings}
        if simulator == "smacv2":
            check_smacv2(settings)
        return settings

    def notice(self, env_args: Mapping[str, Any]) -> str:
        """A warning about the scores under these resolved settings, in a box; empty if none."""
        if env_args["simulator"] in ON_STARCRAFT:
            return ""
        problem, play = starcraft_problem(), "set env_args.simulator=starcraft2"
        if env_args["map_name"].startswith(RANDOM_TEAMS):
            problem = starcraft_problem("smacv2")
            play = "use --env-config=sc2_gen_protoss and env_args.simulator=smacv2"
        paragraphs = [
            "THE SIMULATOR IS SMAX, NOT STARCRAFT II.",
            f"All scores are SMAX-{env_args['map_name']}'s. They cannot be compared with scores on "
            "StarCraft II, from this project or from a paper: observations, dynamics and enemies "
            "differ.",
            f"StarCraft II cannot be played here: {problem}."
            if problem
            else f"To play StarCraft II, {play}.",
        ]
        return _in_a_box(paragraphs)

    def _smax_settings(self, env_args: Mapping[str, Any]) -> dict[str, Any]:
        scale = env_args.get("reward_scale", True)
        if isinstance(scale, bool):  # as in SMAC, a switch
            scale = REWARD_SCALE if scale else 1.0
        defaults = self.defaults["smacv2"]
        settings = {
            "simulator": "smax",
            "map_name": _smax_map({**defaults, **env_args}),
            "reward_scale": scale,
        }
        for key, value in env_args.items():
            if key in settings or key == "capability_config":
                continue
            if key not in defaults:  # the dataset's name
                settings[key] = value
            elif value != defaults[key]:
                log.warning("env_args.%s=%s has no effect on SMAX", key, value)
        return settings

    def _without_smacv2(self, env_args: Mapping[str, Any]) -> dict[str, Any]:
        """The settings without those that only SMACv2 has, which must be SMACv2's defaults."""
        defaults = self.defaults["smacv2"]
        added = [key for key in defaults if key not in self.defaults["starcraft2"]]
        wrong = [key for key in added if env_args.get(key, defaults[key]) != defaults[key]]
        if str(env_args.get("map_name")).startswith(RANDOM_MAPS):
            wrong.append(f"map_name={env_args['map_name']}")
        if wrong:
            names = ", ".join(f"env_args.{name}" for name in wrong)
            raise ConfigError(f"only SMACv2 has {names}: env_args.simulator=smacv2 plays it")
        return {key: value for key, value in env_args.items() if key not in added}


def _defaults(made: type[StarCraft]) -> dict[str, Any]:
    parameters = inspect.signature(made).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def _simulator(env_args: Mapping[str, Any]) -> str:
    """The simulator that the setting `simulator` means."""
    name = env_args.get("simulator", "auto")
    if name == "auto":
        if str(env_args.get("map_name")).startswith(RANDOM_TEAMS):
            return "smax"  # which alone has these maps
        if wants_smacv2(env_args):
            return "smax" if starcraft_problem("smacv2") else "smacv2"
        return "smax" if starcraft_problem() else "starcraft2"
    if name not in SIMULATORS:
        known = suggestion(str(name), ("auto", *SIMULATORS))
        raise ConfigError(f"env_args.simulator={name}: there is no such simulator{known}")
    return name


def _smax_map(env_args: Mapping[str, Any]) -> str:
    """SMAX's map for these settings: of SMACv2's random teams, the one with as many units."""
    map_name, config = env_args["map_name"], env_args["capability_config"]
    if not wants_smacv2(env_args):
        return map_name
    numbers = [config.get(key) if isinstance(config, Mapping) else None for key in UNIT_NUMBERS]
    name = f"{RANDOM_TEAMS}{numbers[0]}_units"
    if MAPS.get(name) != tuple(numbers):
        names = ", ".join(known for known in MAPS if known.startswith(RANDOM_TEAMS))
        raise ConfigError(
            f"env_args.map_name={map_name}: SMAX has no random teams of capability_config.n_units="
            f"{numbers[0]} against n_enemies={numbers[1]}; its maps of this kind are {names}"
        )
    log.warning("SMAX plays %s instead of %s: random units of all races", name, map_name)
    return name


def _check_scenario(map_name: str) -> None:
    """Refuses SMACv2's scenarios, which are settings and not maps, as `protoss_5_vs_5`."""
    if found := SCENARIO.fullmatch(map_name):
        race, n_units, n_enemies = found.groups()
        setting = "env_args.capability_config"
        raise ConfigError(
            f"env_args.map_name={map_name}: here --env-config=sc2_gen_{race} with "
            f"{setting}.n_units={n_units} {setting}.n_enemies={n_enemies}"
        )


def _in_a_box(paragraphs: list[str]) -> str:
    edge = "#" * (NOTICE_WIDTH + 4)
    lines = [line for text in paragraphs for line in textwrap.wrap(text, NOTICE_WIDTH)]
    return "\n".join(["", edge, *(f"# {line:<{NOTICE_WIDTH}} #" for line in lines), edge])

"""Battles on SMAC's maps: the environment `sc2`, played on one of two simulators.

    starcraft2   StarCraft II, through the package `smac`
    smax         JaxMARL's SMAX, a replacement that runs on a CPU without StarCraft II

Scores on SMAX cannot be compared with scores on StarCraft II.

The modules:

    __init__            SC2, the registry's entry: selects the simulator
    single_battle       one battle as a vector environment of one game; base of both simulators

    starcraft           StarCraft II: its settings, and battles in parallel
    starcraft_settings  which values its settings may have
    starcraft_install   whether game, maps and `smac` are installed
    starcraft_game      one game's processes, seen from the project's process
    starcraft_worker    the script that runs in these processes
    starcraft_player    SMAC's environment in it, and what is mended there

    smax                SMAX: its settings and sizes, known without JAX
    smax_maps           SMAX's maps and constants
    smax_battle         battles in parallel; imports JAX
    scripted            the scripted policy that plays SMAX's `scripted` dataset
"""

import inspect
import logging
import textwrap
from collections.abc import Mapping
from typing import Any

from inspo.envs.multiagentenv import MultiAgentEnv
from inspo.envs.sc2.smax import REWARD_SCALE, SMAX, smax_problem
from inspo.envs.sc2.starcraft import StarCraft, starcraft_problem
from inspo.utils.config import suggestion
from inspo.utils.errors import ConfigError, SimulatorError

SIMULATORS = ("starcraft2", "smax")
NOTICE_WIDTH = 96
log = logging.getLogger(__name__)


class SC2:
    """The registry's entry: selects the simulator and makes the environment.

    Its signature lists the settings that `env_args` may hold. They are StarCraft II's and
    `simulator`; SMAX's settings are among them.
    """

    def __init__(self) -> None:
        parameters = inspect.signature(StarCraft).parameters
        self.defaults = {name: parameter.default for name, parameter in parameters.items()}
        keyword = inspect.Parameter.KEYWORD_ONLY
        names = ["simulator", *parameters]
        self.__signature__ = inspect.Signature([inspect.Parameter(n, keyword) for n in names])

    def __call__(self, **env_args: Any) -> MultiAgentEnv:
        """Makes the environment.

        Raises:
            SimulatorError: the simulator is not installed.
            ConfigError: the simulator or the map does not exist.
        """
        settings = self.resolve(env_args)
        if settings.pop("simulator") == "starcraft2":
            return StarCraft(**settings)
        if problem := smax_problem():
            raise SimulatorError(f"SMAX cannot be played: {problem}")
        return SMAX(**settings)

    def resolve(self, env_args: Mapping[str, Any]) -> dict[str, Any]:
        """The complete settings of one simulator.

        `simulator=auto` becomes `starcraft2` where StarCraft II is installed, and `smax` elsewhere.
        For StarCraft II, missing settings get their defaults. For SMAX, settings that only
        StarCraft II has are dropped, with a warning if they are not the default.

        Raises:
            ConfigError: there is no such simulator.
        """
        settings = dict(env_args)
        for key in ("map_name", "difficulty"):
            if key in settings:  # the command line may write a number, as in `difficulty=7`
                settings[key] = str(settings[key])
        settings["simulator"] = _simulator(settings.get("simulator", "auto"))
        if settings["simulator"] == "starcraft2":
            return {**self.defaults, **settings}
        return self._smax_settings(settings)

    def notice(self, env_args: Mapping[str, Any]) -> str:
        """A warning about the scores under these resolved settings, in a box; empty if none."""
        if env_args["simulator"] == "starcraft2":
            return ""
        problem = starcraft_problem()
        paragraphs = [
            "THE SIMULATOR IS SMAX, NOT STARCRAFT II.",
            f"All scores are SMAX-{env_args['map_name']}'s. They cannot be compared with scores on "
            "StarCraft II, from this project or from a paper: observations, dynamics and enemies "
            "differ.",
            f"StarCraft II cannot be played here: {problem}."
            if problem
            else "To play StarCraft II, set env_args.simulator=starcraft2.",
        ]
        return _in_a_box(paragraphs)

    def _smax_settings(self, env_args: Mapping[str, Any]) -> dict[str, Any]:
        scale = env_args.get("reward_scale", True)
        if isinstance(scale, bool):  # as in SMAC, a switch
            scale = REWARD_SCALE if scale else 1.0
        settings = {
            "simulator": "smax",
            "map_name": env_args.get("map_name", self.defaults["map_name"]),
            "reward_scale": scale,
        }
        for key, value in env_args.items():
            if key in settings:
                continue
            if key not in self.defaults:  # the dataset's name
                settings[key] = value
            elif value != self.defaults[key]:
                log.warning("env_args.%s=%s has no effect on SMAX", key, value)
        return settings


def _simulator(name: str) -> str:
    """The simulator that the setting `simulator` means."""
    if name == "auto":
        return "smax" if starcraft_problem() else "starcraft2"
    if name not in SIMULATORS:
        known = suggestion(str(name), ("auto", *SIMULATORS))
        raise ConfigError(f"env_args.simulator={name}: there is no such simulator{known}")
    return name


def _in_a_box(paragraphs: list[str]) -> str:
    edge = "#" * (NOTICE_WIDTH + 4)
    lines = [line for text in paragraphs for line in textwrap.wrap(text, NOTICE_WIDTH)]
    return "\n".join(["", edge, *(f"# {line:<{NOTICE_WIDTH}} #" for line in lines), edge])

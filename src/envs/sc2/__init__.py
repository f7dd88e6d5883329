"""Battles of StarCraft II's units, under SMAC's map names: the environment `sc2`, on one of two simulators.

starcraft2   the game itself, through SMAC
smax         its stand-in, which needs no game and runs on a CPU; its scores compare with nothing but SMAX's
"""

import inspect
import logging
import textwrap
from collections.abc import Mapping
from typing import Any

from inspo.envs.multiagentenv import MultiAgentEnv
from inspo.envs.sc2 import smax
from inspo.envs.sc2.starcraft import StarCraft, installed
from inspo.utils.config import suggestion
from inspo.utils.errors import ConfigError, SimulatorError

SIMULATORS = ("starcraft2", "smax")
BOX_WIDTH = 110
log = logging.getLogger(__name__)


class SC2:
    """The registry's entry: settles which simulator plays, and makes the environment."""

    def __init__(self) -> None:
        settings = inspect.signature(StarCraft).parameters
        self.defaults = {name: parameter.default for name, parameter in settings.items()}
        # What may stand under env_args: both simulators' settings; all of SMAX's have the name of one of StarCraft's.
        simulator = inspect.Parameter("simulator", inspect.Parameter.KEYWORD_ONLY)
        others = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in settings.values()
        ]
        self.__signature__ = inspect.Signature([simulator, *others])

    def __call__(self, **env_args: Any) -> MultiAgentEnv:
        """The environment.

        Raises:
            SimulatorError: the simulator is not there.
            ConfigError: it has no such map.
        """
        settings = self.resolve(env_args)
        if settings.pop("simulator") == "starcraft2":
            return StarCraft(**settings)
        if missing := smax.missing():
            raise SimulatorError(f"SMAX cannot be played: {missing}")
        return smax.SMAX(**settings)

    def resolve(self, env_args: Mapping[str, Any]) -> dict[str, Any]:
        """`env_args` with a simulator's name for `auto`, with all that this simulator reads and nothing else.

        Raises:
            ConfigError: there is no such simulator.
        """
        # What the command line may write as a number (`difficulty=7`) stays a name.
        names = {key: str(env_args[key]) for key in ("map_name", "difficulty") if key in env_args}
        env_args = {**env_args, **names}
        simulator = env_args.get("simulator", "auto")
        if simulator == "auto":
            simulator = "smax" if installed() else "starcraft2"
        if simulator not in SIMULATORS:
            known = suggestion(str(simulator), ("auto", *SIMULATORS))
            raise ConfigError(f"env_args.simulator={simulator}: there is no such simulator{known}")
        if simulator == "starcraft2":
            return {**self.defaults, **env_args, "simulator": simulator}
        scale = env_args.get("reward_scale", True)
        if isinstance(scale, bool):  # SMAC's switch
            scale = smax.REWARD_SCALE if scale else 1.0
        map_name = env_args.get("map_name", self.defaults["map_name"])
        settings = {"simulator": simulator, "map_name": map_name, "reward_scale": scale}
        for key, value in env_args.items():
            if key not in self.defaults:
                settings.setdefault(key, value)
            elif key not in settings and value != self.defaults[key]:
                log.warning(
                    "env_args.%s=%s has no meaning on SMAX: it is StarCraft II's", key, value
                )
        return settings

    def notice(self, env_args: Mapping[str, Any]) -> str:
        """What nobody may overlook about the scores of such (resolved) settings, in a box; empty if nothing."""
        if env_args["simulator"] == "starcraft2":
            return ""
        missing = installed()
        lines = [
            "THE SIMULATOR IS SMAX, NOT STARCRAFT II.",
            f"All scores here are SMAX-{env_args['map_name']}'s: its observations, dynamics and enemies are its own. "
            "They cannot be compared with scores on StarCraft II, be they this project's or a paper's.",
            f"StarCraft II is not there: {missing}."
            if missing
            else "env_args.simulator=starcraft2 plays it.",
        ]
        wrapped = [part for line in lines for part in textwrap.wrap(line, BOX_WIDTH)]
        edge = "#" * (BOX_WIDTH + 4)
        return "\n".join(["", edge, *(f"# {line:<{BOX_WIDTH}} #" for line in wrapped), edge])

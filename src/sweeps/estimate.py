"""How long runs take: as finished ones of the same kind did, or roughly."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from inspo.envs import game_labels
from inspo.sweeps.plan import PlannedRun
from inspo.utils.config import RunConfig
from inspo.utils.files import read_json

Kind = tuple[str, str, str]
# Where no run of the kind is finished. Measured on one core with the shipped settings.
ROUGH_START = 6.0  # seconds until the first step, and for the pictures at the end
ROUGH_STEP = {"mlp": 0.01, "rnn": 0.4}  # seconds, by agent


class Estimate:
    """Seconds for each kind of run: an algorithm in a game.

    Args:
        root: the folder whose finished runs are taken, and those of its subfolders.
    """

    def __init__(self, root: Path):
        rates: dict[Kind, list[float]] = {}
        for depth in ("*/summary.json", "*/*/summary.json"):
            for path in root.glob(depth):
                summary = read_json(path)
                if rate := _seconds_per_step(summary):
                    kind = _kind(summary["algorithm"], summary["environment"], summary["env_args"])
                    rates.setdefault(kind, []).append(rate)
        self.rates = {kind: median(found) for kind, found in rates.items()}

    def knows(self, config: RunConfig) -> bool:
        """Whether a run of this kind is finished."""
        return _kind_of(config) in self.rates

    def seconds(self, config: RunConfig) -> float:
        """For the whole run, on one core that nobody else uses."""
        rate = self.rates.get(_kind_of(config))
        if rate is not None:
            return rate * config.t_max
        return ROUGH_START + ROUGH_STEP[config.agent] * config.t_max

    def total(self, runs: Sequence[PlannedRun], slots: int) -> float:
        """For all runs, so many at a time."""
        return sum(self.seconds(run.config) for run in runs) / max(slots, 1)


def _kind_of(config: RunConfig) -> Kind:
    return _kind(config.name, config.env_config, config.env_args)


def _kind(algorithm: str, environment: str, env_args: Mapping[str, Any]) -> Kind:
    return algorithm, environment, "-".join(game_labels(env_args).values())


def _seconds_per_step(summary: Mapping[str, Any]) -> float:
    """Of a finished run, start and pictures included; 0 if it does not say."""
    try:
        return summary["wall_time_seconds"] / summary["steps"]
    except (KeyError, TypeError, ZeroDivisionError):
        return 0.0


def duration(seconds: float) -> str:
    """Such as `45 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

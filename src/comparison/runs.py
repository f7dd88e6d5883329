"""Run folders as a comparison reads them: what is found, what can be used, and what is left out and why."""

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from inspo.envs import RUNNING_ARGS
from inspo.utils.errors import ComparisonError

RUN_FILES = (
    "config.json",
    "run_info.json",
    "summary.json",
)  # a folder with one of them is a run folder
SIMULATORS = {"smax": "SMAX", "starcraft2": "SC2"}  # env_args.simulator, and how tables call it
# Not what is played: which data is learned from, which its fingerprint tells, and how games are started and watched.
NOT_THE_GAME = {"dataset", "datasets", *RUNNING_ARGS}


class Settings(BaseModel):
    """config.json: what a comparison must know of it; all other settings are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    env_config: str
    env_args: dict[str, Any]
    seed: int
    t_max: int
    test_interval: int
    test_nepisode: int
    test_greedy: bool
    max_episodes: int | None
    evaluate: bool
    checkpoint_path: str | None


class Score(BaseModel):
    """One metric's score, three ways."""

    final: FiniteFloat
    last5: FiniteFloat
    best: FiniteFloat


class Summary(BaseModel):
    """summary.json: what a comparison reads of it."""

    env_args: dict[str, Any]
    game_version: str = ""  # of a simulator that is not the project's own
    dataset: str
    dataset_fingerprint: str  # empty after an online run
    dataset_return: dict[str, float] | None
    software: dict[str, str]
    scores: dict[str, Score]


@dataclass(frozen=True)
class Run:
    """A finished training run."""

    folder: Path
    config: Settings
    summary: Summary

    @property
    def algorithm(self) -> str:
        """As its YAML names it."""
        return self.config.name

    @property
    def simulator(self) -> str | None:
        """What plays StarCraft's battles; None in other games."""
        return self.summary.env_args.get("simulator")

    @property
    def environment(self) -> str:
        """The environment's name in tables: `SMAX-2s3z` for StarCraft, else its YAML's."""
        if self.simulator is None:
            return self.config.env_config
        return f"{SIMULATORS.get(self.simulator, self.simulator)}-{self.summary.env_args.get('map_name', 'unknown map')}"

    @property
    def dataset(self) -> str:
        """The dataset's name in tables."""
        name = Path(self.summary.dataset).name.removesuffix(".h5")
        part = "" if self.config.max_episodes is None else f", {self.config.max_episodes} episodes"
        return f"{name}{part}"

    @cached_property
    def game(self) -> dict[str, Any]:
        """The environment's own settings and the simulator's version: runs that differ in them played other games."""
        game = {
            key: value for key, value in self.summary.env_args.items() if key not in NOT_THE_GAME
        }
        # What the settings ask for may be None, the version that is there.
        return game | (
            {"game_version": self.summary.game_version} if self.summary.game_version else {}
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings by name, the environment's as `env_args.x`."""
        flat = self.config.model_dump()
        env_args = flat.pop("env_args")
        return flat | {f"env_args.{key}": value for key, value in env_args.items()}


class SkippedRun(NamedTuple):
    """A folder that the comparison does not use."""

    folder: Path
    reason: str


class UnusableError(Exception):
    """A run folder cannot be used; the message is the reason."""


def gather(paths: Sequence[Path]) -> tuple[list[Run], list[SkippedRun]]:
    """All finished training runs at or below `paths`, sorted by folder, and the folders left out.

    Raises:
        ComparisonError: a path does not exist, or there is no run folder at all.
    """
    for path in paths:
        if not path.exists():
            raise ComparisonError(
                f"{path}: there is no such folder; give run folders, or folders that hold them"
            )
    skipped = [SkippedRun(path, "not a folder") for path in paths if not path.is_dir()]
    folders = sorted(
        {folder.resolve(): folder for path in paths for folder in find_run_folders(path)}.values()
    )
    if not folders:
        where = ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")
        raise ComparisonError(
            f"no run folder in {where}: a run's folder holds config.json and summary.json"
        )
    runs = []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except UnusableError as reason:
            skipped.append(SkippedRun(folder, str(reason)))
    return runs, skipped


def find_run_folders(path: Path) -> Iterator[Path]:
    """The run folders at or below `path`, links followed; what a run folder holds is not looked into."""
    visited: set[str] = set()
    for folder, below, files in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in visited:  # links can go round in circles
            below.clear()
            continue
        visited.add(real)
        if any(name in files for name in RUN_FILES):
            below.clear()
            yield Path(folder)


def read_run(folder: Path) -> Run:
    """A finished training run's folder; UnusableError if it is not one, or damaged."""
    config = read_checked(folder / "config.json", Settings)
    if config.evaluate:
        raise UnusableError(
            f"evaluate=True: it trained nothing, and played the policy of {config.checkpoint_path}"
        )
    if not (folder / "summary.json").exists():
        raise UnusableError(_unfinished(folder, config.t_max))
    summary = read_checked(folder / "summary.json", Summary)
    if not summary.dataset_fingerprint:
        raise UnusableError("it learnt online: there is no dataset to put it under")
    if not summary.scores:
        raise UnusableError(f"it has no score: test_nepisode={config.test_nepisode}")
    return Run(folder, config, summary)


def read_checked(path: Path, schema: type[BaseModel]) -> Any:
    """The JSON file as `schema` has it; UnusableError that says what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnusableError(f"{path.name} is missing") from None
    except (OSError, ValueError) as error:  # ValueError: no JSON, or not even text
        raise UnusableError(f"{path.name} is damaged: {error}") from None
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "its content"
        raise UnusableError(f"{path.name} cannot be used: {key}: {first['msg']}") from None


def read_history(folder: Path, metric: str) -> dict[int, float]:
    """One metric's records in metrics.csv by gradient step; UnusableError if there is none, or the file is damaged."""
    path = folder / "metrics.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        history = {int(row["step"]): float(row[metric]) for row in rows if row.get(metric)}
    except FileNotFoundError:
        raise UnusableError("metrics.csv is missing") from None
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UnusableError(f"metrics.csv is damaged: {type(error).__name__}: {error}") from None
    if not history:
        raise UnusableError(f"metrics.csv has no record of {metric}")
    if not all(map(math.isfinite, history.values())):
        raise UnusableError(f"metrics.csv: {metric} is not finite at some step")
    return history


def drop_superseded(
    runs: Sequence[Run], skipped: Iterable[SkippedRun]
) -> tuple[list[Run], list[SkippedRun]]:
    """Leaves out the runs that another of `runs` goes on with, also by way of runs that were cut off themselves.

    The run that was gone on with is found by its folder's name, wherever both folders have been moved to since.
    """
    configs = {run.folder: run.config for run in runs}
    for folder, _ in skipped:
        with suppress(UnusableError):
            configs[folder] = read_checked(folder / "config.json", Settings)
    superseded: dict[Path, Path] = {}
    for run in runs:
        folder: Path | None = run.folder
        seen = set()
        while (folder := _origin(folder, configs)) is not None and folder not in seen:
            seen.add(folder)
            superseded.setdefault(folder, run.folder)
    kept = [run for run in runs if run.folder not in superseded]
    reasons = [
        SkippedRun(
            run.folder, f"gone on with by {superseded[run.folder].name}, which stands for both"
        )
        for run in runs
        if run.folder in superseded
    ]
    return kept, reasons


def _origin(folder: Path, configs: Mapping[Path, Settings]) -> Path | None:
    """The run that the one in `folder` goes on with, if it is among `configs` and no other has its name."""
    config = configs[folder]
    for part in reversed(Path(config.checkpoint_path or "").parts):
        found = [other for other in configs if other.name == part and other != folder]
        if len(found) == 1:
            origin = configs[found[0]]
            same = (origin.name, origin.env_config, origin.seed) == (
                config.name,
                config.env_config,
                config.seed,
            )
            return found[0] if same else None
    return None


def _unfinished(folder: Path, t_max: int) -> str:
    """Why there is no summary, as far as the folder tells."""
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            last = max(int(row["step"]) for row in csv.DictReader(file))
        progress = f"its last record is of step {last} of {t_max}"
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        progress = f"there is no record of any of its {t_max} steps"
    try:
        status = json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"]
    except (OSError, ValueError, TypeError, KeyError):
        status = "unknown"
    hint = "; if it diverged, leaving it out flatters the algorithm" if status == "FAILED" else ""
    return f"unfinished (no summary.json, status {status}): {progress}{hint}"

"""Reads run folders: the finished runs, and the folders that cannot be used, with the reason."""

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from inspo.envs import NOT_THE_GAME, game_labels
from inspo.run.run_folder import last_step
from inspo.utils.errors import ComparisonError
from inspo.utils.files import read_json

# A folder with one of these files is a run folder.
RUN_FILES = ("config.json", "run_info.json", "summary.json")
# How tables write env_args.simulator.
SIMULATORS = {"smax": "SMAX", "smacv2": "SMACv2", "starcraft2": "SC2"}


class Settings(BaseModel):
    """config.json. The comparison needs these settings; all others are kept as they are."""

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
    """One metric's three scores."""

    final: FiniteFloat
    last5: FiniteFloat
    best: FiniteFloat


class Summary(BaseModel):
    """summary.json: the part that the comparison reads."""

    env_args: dict[str, Any]
    game_version: str = ""  # of StarCraft II; empty for other games
    dataset: str
    dataset_fingerprint: str  # empty after an online run
    dataset_return: dict[str, float] | None
    reference_return: tuple[FiniteFloat, FiniteFloat] | None = None  # normalised: 0 and 1
    software: dict[str, str]
    scores: dict[str, Score]


@dataclass(frozen=True)
class RunRecord:
    """A finished training run."""

    folder: Path
    config: Settings
    summary: Summary

    @property
    def algorithm(self) -> str:
        """The name in the algorithm's YAML."""
        return self.config.name

    @property
    def simulator(self) -> str:
        """The simulator of StarCraft's battles; empty in other games."""
        return game_labels(self.summary.env_args).get("simulator", "")

    @property
    def environment(self) -> str:
        """The environment's name in tables: `SMAX-2s3z` in battles, else the name of its YAML."""
        if not self.simulator:
            return self.config.env_config
        labels = game_labels(self.summary.env_args)
        labels["simulator"] = SIMULATORS.get(self.simulator, self.simulator)
        return "-".join(labels.values())

    @property
    def dataset(self) -> str:
        """The dataset's name in tables."""
        name = Path(self.summary.dataset).name.removesuffix(".h5")
        limit = self.config.max_episodes
        return name if limit is None else f"{name}, {limit} episodes"

    @property
    def fingerprint(self) -> str:
        """Identifies the content of the dataset."""
        return self.summary.dataset_fingerprint

    @cached_property
    def game(self) -> dict[str, Any]:
        """The settings and the version of the game. Runs with different ones are not compared."""
        env_args = self.summary.env_args
        game = {key: value for key, value in env_args.items() if key not in NOT_THE_GAME}
        if self.summary.game_version:  # the installed one, which the settings need not name
            game["game_version"] = self.summary.game_version
        return game

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings by name, those of the environment as `env_args.x`."""
        flat = self.config.model_dump()
        env_args = flat.pop("env_args")
        return flat | {f"env_args.{key}": value for key, value in env_args.items()}


class SkippedRun(NamedTuple):
    """A folder that the comparison does not use."""

    folder: Path
    reason: str


class UnusableError(Exception):
    """A run folder cannot be used; the message is the reason."""


def read_runs(paths: Sequence[Path]) -> tuple[list[RunRecord], list[SkippedRun]]:
    """Reads all run folders at or below `paths`.

    Returns:
        the finished training runs, sorted by folder, and the folders that cannot be used.

    Raises:
        ComparisonError: a path does not exist, or there is no run folder at all.
    """
    folders = {}
    skipped = []
    for path in paths:
        if not path.exists():
            raise ComparisonError(
                f"{path}: there is no such folder; give run folders, or folders that hold them"
            )
        if not path.is_dir():  # `results/*` may name files too
            skipped.append(SkippedRun(path, "not a folder"))
        for folder in find_run_folders(path):
            folders[folder.resolve()] = folder
    if not folders:
        where = ", ".join(map(str, paths))
        raise ComparisonError(
            f"no run folder in {where}: a run folder holds config.json and summary.json"
        )
    runs = []
    for folder in sorted(folders.values()):
        try:
            runs.append(read_record(folder))
        except UnusableError as reason:
            skipped.append(SkippedRun(folder, str(reason)))
    return runs, skipped


def find_run_folders(path: Path) -> Iterator[Path]:
    """The run folders at or below `path`. Follows links, and does not search inside run folders."""
    visited: set[str] = set()
    for folder, subfolders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        is_run = any(name in files for name in RUN_FILES)
        if is_run and real not in visited:
            yield Path(folder)
        if is_run or real in visited:  # links can form circles
            subfolders.clear()
        visited.add(real)


def read_record(folder: Path) -> RunRecord:
    """Reads a finished training run.

    Raises:
        UnusableError: the folder holds none, or its files are damaged.
    """
    config = read_checked(folder / "config.json", Settings)
    if config.evaluate:
        raise UnusableError(
            f"evaluate=True: it trained nothing, it evaluated {config.checkpoint_path}"
        )
    if not (folder / "summary.json").exists():
        raise UnusableError(_unfinished(folder, config.t_max))
    summary = read_checked(folder / "summary.json", Summary)
    if not summary.dataset_fingerprint:
        raise UnusableError("it learned online, without a dataset")
    if not summary.scores:
        raise UnusableError(f"it has no score (test_nepisode={config.test_nepisode})")
    return RunRecord(folder, config, summary)


def read_checked(path: Path, schema: type[BaseModel]) -> Any:
    """The JSON file's content, checked.

    Raises:
        UnusableError: the file is missing, damaged, or does not fit the schema.
    """
    _refuse_pipe(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnusableError(f"{path.name} is missing") from None
    # ValueError: no JSON, or not even text. RecursionError: nested thousands deep.
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableError(f"{path.name} is damaged: {error}") from None
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "its content"
        raise UnusableError(f"{path.name} cannot be used: {key}: {first['msg']}") from None


def _refuse_pipe(path: Path) -> None:
    """Raises UnusableError for what is no regular file. Reading a pipe may never end."""
    if path.exists() and not path.is_file():
        raise UnusableError(f"{path.name} is damaged: not a regular file")


def read_history(folder: Path, metric: str) -> dict[int, float]:
    """One metric in metrics.csv: gradient step -> value.

    Raises:
        UnusableError: the file is missing or damaged, or has no finite record of the metric.
    """
    path = folder / "metrics.csv"
    _refuse_pipe(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file, strict=True) if row.get(metric)]
        history = {int(row["step"]): float(row[metric]) for row in rows}
    except FileNotFoundError:
        raise UnusableError("metrics.csv is missing") from None
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UnusableError(f"metrics.csv is damaged: {type(error).__name__}: {error}") from None
    if not history:
        raise UnusableError(f"metrics.csv has no record of {metric}")
    if not all(map(math.isfinite, history.values())):
        raise UnusableError(f"metrics.csv: {metric} is not finite at some step")
    if len(history) < len(rows):
        step, times = Counter(int(row["step"]) for row in rows).most_common(1)[0]
        raise UnusableError(
            f"metrics.csv is damaged: it records {metric} {times} times at step {step}"
        )
    return history


def _unfinished(folder: Path, t_max: int) -> str:
    """Why there is no summary, as far as the folder's files tell."""
    _refuse_pipe(folder / "metrics.csv")
    last = last_step(folder)
    progress = f"last record at step {last} of {t_max}"
    if last < 0:
        progress = f"no record of any of its {t_max} steps"
    status = read_json(folder / "run.json").get("status", "unknown")
    reason = f"unfinished (no summary.json, status {status}): {progress}"
    if status == "FAILED" and last > 0:
        reason += ". If training diverged, the mean without this run is too optimistic"
    return reason

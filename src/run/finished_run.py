"""A run after its end, as Python sees it: `inspo.Run`."""

import csv
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from inspo.controllers import BasicMAC
from inspo.envs import game_labels
from inspo.run.checkpoint import load_policy
from inspo.run.run_folder import run_title
from inspo.utils.errors import UserError
from inspo.utils.files import found_path


@dataclass(frozen=True)
class Run:
    """A finished run: what is in its folder.

    It is a path itself: whatever takes a run folder takes a Run.

    Raises:
        UserError: `folder` is not the folder of a finished run.
    """

    folder: Path

    def __post_init__(self) -> None:
        folder = found_path(self.folder).absolute()
        object.__setattr__(self, "folder", folder)
        if not (folder / "summary.json").is_file():
            raise UserError(_why_no_run(folder))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What was run on what, with which versions, and how it ended: summary.json."""
        return self._read_json("summary.json")

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """`final`, `last5` and `best` of each score. The best one is selected after the fact."""
        return self.summary["scores"]

    @cached_property
    def config(self) -> dict[str, Any]:
        """Every setting of the run: config.json."""
        return self._read_json("config.json")

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        """A dict of numbers for each step in metrics.csv. What was not logged then is left out."""
        labels = game_labels(self.config["env_args"])
        lines = self._read("metrics.csv").splitlines()
        try:
            return [_numbers(row, without=labels) for row in csv.DictReader(lines)]
        except (ValueError, TypeError, KeyError, csv.Error) as error:
            raise UserError(f"{self.folder / 'metrics.csv'}: damaged: {error}") from None

    def policy(self, step: int = 0) -> BasicMAC:
        """The trained policies, as `load_policy` returns them.

        Args:
            step: which checkpoint; 0: the newest.

        Raises:
            UserError: there is no such checkpoint.
        """
        return load_policy(self.folder, step)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        steps = f"{self.summary['steps']} {self.summary['step_unit']}"
        title = f"{run_title(self.summary)}: {steps}"
        return "\n".join([title, *self._score_lines(), str(self.folder)])

    def _repr_html_(self) -> str:
        title, *lines = (html.escape(line) for line in str(self).splitlines())
        return f"<b>{title}</b><br>" + "<br>".join(lines)

    def _score_lines(self) -> Iterator[str]:
        for name, score in self.scores.items():
            last5, best = f"{score['last5']:.3f}", f"{score['best']:.3f}"
            yield f"{name}: {score['final']:.3f} (mean of last five {last5}, best {best})"

    def _read(self, name: str) -> str:
        path = self.folder / name
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: damaged: {error}") from None

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads(self._read(name))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.folder / name}: damaged: {error}") from None
        if not isinstance(content, dict):
            raise UserError(f"{self.folder / name}: damaged: it must hold a JSON record")
        return content


def _why_no_run(folder: Path) -> str:
    """What is missing in a folder without summary.json, and what to do."""
    if not folder.is_dir():
        return f"{folder}: there is no such folder"
    if (folder / "run_info.json").is_file():
        return (
            f"{folder}: summary.json is missing, so the run is not finished; "
            "inspo.train(..., checkpoint_path=folder) resumes it from its newest checkpoint"
        )
    inside = sorted(path.parent.name for path in folder.glob("*/summary.json"))
    hint = f"; it holds {len(inside)} of them, such as {inside[-1]}" if inside else ""
    return f"{folder}: summary.json is missing, so this is not a run folder{hint}"


def _numbers(row: Mapping[str, str], without: Iterable[str]) -> dict[str, float]:
    """The filled cells of a row, the step as an integer."""
    values = {name: float(value) for name, value in row.items() if value and name not in without}
    return values | {"step": int(row["step"])}

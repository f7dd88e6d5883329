"""Which runs a comparison uses: those that the user selects, each of them once."""

import fnmatch
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspo.comparison.runs import RunRecord, SkippedRun
from inspo.comparison.settings import MISSING, PROTOCOL, variant_settings
from inspo.utils.config import suggestion
from inspo.utils.errors import ComparisonError

SCORE_CHOICES = ("final", "last5", "best")


@dataclass(frozen=True)
class Selection:
    """The arguments of `compare_runs` that select and group runs."""

    score: str = "final"
    metric: str | None = None
    environments: Sequence[str] = ()
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)  # as written by the user
    group_by: Sequence[str] | None = None
    allow: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.score not in SCORE_CHOICES:
            raise ComparisonError(f"score={self.score}: one of {', '.join(SCORE_CHOICES)}")
        if unknown := set(self.allow) - set(PROTOCOL):
            raise ComparisonError(f"allow={min(unknown)}: one of {', '.join(PROTOCOL)}")


def select(runs: Sequence[RunRecord], selection: Selection) -> list[RunRecord]:
    """The runs that `--env` and `--where` ask for.

    Raises:
        ComparisonError: no run is left, or no run has a setting that the selection names.
    """
    known = {key for run in runs for key in run.settings}
    for key in (*selection.where, *(selection.group_by or ())):
        if key not in known:
            raise ComparisonError(f"no run has a setting '{key}'{suggestion(key, known)}")
    selected = [run for run in runs if _is_selected(run, selection)]
    if not selected:
        environments = ", ".join(sorted({run.environment for run in runs}))
        raise ComparisonError(f"no run matches --env and --where; the runs are of {environments}")
    return selected


def drop_resumed(runs: Sequence[RunRecord]) -> tuple[list[RunRecord], list[SkippedRun]]:
    """Skips a run that another one resumes: the longer run replaces it.

    Run folders may have been moved since. So the folder that `checkpoint_path` lies in is found
    by its name.
    """
    successors = {}
    for run in runs:
        resumed = re.sub(r":\d+$", "", run.config.checkpoint_path or "")  # of RUN:STEP
        for part in Path(resumed).parts:
            successors[part, _experiment(run)] = run
    kept, skipped = [], []
    for run in runs:
        successor = successors.get((run.folder.name, _experiment(run)), run)
        if successor is run:
            kept.append(run)
        else:
            reason = f"{successor.folder.name} resumes it and replaces it"
            skipped.append(SkippedRun(run.folder, reason))
    return kept, skipped


def drop_repeated(
    runs: Sequence[RunRecord], allow: Sequence[str]
) -> tuple[list[RunRecord], list[SkippedRun]]:
    """Of runs of one column with equal settings and seed, keeps the newest: the last by name."""
    newest: dict[str, RunRecord] = {}
    skipped = []
    for run in sorted(runs, key=lambda run: (run.folder.name, run.folder)):
        identity = [run.algorithm, run.config.seed, variant_settings(run, allow)]
        key = json.dumps(identity, sort_keys=True)
        older = newest.get(key)
        if older is not None:
            same = older.summary.scores == run.summary.scores
            score = "the same score" if same else "ANOTHER score"
            reason = (
                f"repeats seed {run.config.seed}: "
                f"{run.folder.name} is newer and has the same settings and {score}"
            )
            skipped.append(SkippedRun(older.folder, reason))
        newest[key] = run
    return list(newest.values()), skipped


def _is_selected(run: RunRecord, selection: Selection) -> bool:
    matches = [
        fnmatch.fnmatchcase(name.lower(), pattern.lower())
        for name in (run.environment, run.config.env_config)
        for pattern in selection.environments
    ]
    if selection.environments and not any(matches):
        return False
    for key, values in selection.where.items():
        setting = run.settings.get(key, MISSING)
        if not any(_has_value(setting, written) for written in values):
            return False
    return True


def _has_value(setting: Any, written: str) -> bool:
    """Whether a setting has the value that the command line writes."""
    if setting is None:
        return written in ("null", "None")
    if isinstance(setting, int | float) and not isinstance(setting, bool):
        with suppress(ValueError):
            return float(written) == setting
    return str(setting).lower() == written.lower()


def _experiment(run: RunRecord) -> tuple[str, str, int]:
    """What a run and the one that resumes it have in common."""
    return run.algorithm, run.config.env_config, run.config.seed

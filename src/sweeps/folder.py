"""The runs in a sweep's folder: which are finished, and which can be resumed.

All that a sweep remembers lies in the run folders, so that it can be killed at any time.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspo.run.checkpoint import checkpoints_in
from inspo.run.run_folder import last_step
from inspo.sweeps.identity import identity
from inspo.utils.files import code_hash, read_json

SWEEP = "sweep"  # the subfolder of the sweep's log, tables and the output of its runs
DATASETS = "datasets"  # therein: what is known of the datasets


@dataclass(frozen=True)
class FoundRun:
    """A run folder."""

    folder: Path
    identity: str
    code: str  # hash of the code that made it; empty: unknown
    fingerprint: str  # of its dataset
    finished: bool
    step: int  # of its newest checkpoint; -1: none

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json."""
        return read_json(self.folder / "summary.json")


class SweepFolder:
    """The run folders of a sweep, by the identities of their settings."""

    def __init__(self, path: Path):
        self.path = path
        self.work = path / SWEEP
        self._identities: dict[str, str] = {}  # by name of the run folder

    def runs_of(self, wanted: str) -> list[FoundRun]:
        """The runs whose settings have this identity, by name. Damaged ones are left out."""
        self._look_for_new()
        names = sorted(name for name, found in self._identities.items() if found == wanted)
        return [run for name in names if (run := self._read(name))]

    def progress(self, wanted: str) -> int:
        """The step that the newest run of this identity has recorded; -1: none."""
        names = [name for name, found in self._identities.items() if found == wanted]
        steps = [last_step(self.path / name) for name in names]
        return max(steps, default=-1)

    def _look_for_new(self) -> None:
        """Reads the settings of folders that were not there before."""
        names = os.listdir(self.path) if self.path.is_dir() else []
        for name in names:
            if name in self._identities:
                continue
            config = read_json(self.path / name / "config.json")
            if config and not config.get("evaluate"):
                self._identities[name] = identity(config)

    def _read(self, name: str) -> FoundRun | None:
        """None if files are missing or damaged, as in a run that was killed at its start."""
        folder = self.path / name
        summary = read_json(folder / "summary.json")
        info = summary or read_json(folder / "run_info.json")
        if not info:
            return None
        return FoundRun(
            folder,
            self._identities[name],
            info.get("code_hash", ""),
            info.get("dataset_fingerprint", ""),
            bool(summary),
            _newest_checkpoint(folder),
        )


def finished_run(found: list[FoundRun], fingerprint: str | None) -> FoundRun | None:
    """The newest finished run of this code and dataset.

    Args:
        found: runs of equal settings.
        fingerprint: of the dataset; None: not known yet, any will do.
    """
    fitting = [run for run in found if run.finished and _fits(run, fingerprint)]
    return fitting[-1] if fitting else None


def run_to_resume(found: list[FoundRun], fingerprint: str | None) -> FoundRun | None:
    """The unfinished run of this code and dataset that has come furthest."""
    fitting = [
        run for run in found if not run.finished and run.step >= 0 and _fits(run, fingerprint)
    ]
    return max(fitting, key=lambda run: run.step, default=None)


def _fits(run: FoundRun, fingerprint: str | None) -> bool:
    return run.code == code_hash() and fingerprint in (None, run.fingerprint)


def _newest_checkpoint(folder: Path) -> int:
    files = checkpoints_in(folder / "checkpoints")
    return int(files[-1].stem.rpartition("_")[2]) if files else -1

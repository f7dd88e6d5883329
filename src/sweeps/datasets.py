"""The datasets that runs share: made once, before them, with their behaviour models."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspo.components.behaviour import KEY_SETTINGS
from inspo.run.settings import find_learner
from inspo.sweeps.child import signature
from inspo.sweeps.folder import DATASETS, SweepFolder
from inspo.sweeps.jobs import Task, carry_out
from inspo.sweeps.plan import PlannedRun
from inspo.sweeps.pool import Job, Pool
from inspo.utils.config import BehaviourConfig, RunConfig
from inspo.utils.errors import UserError
from inspo.utils.files import read_json

# Settings that choose the data of a run.
DATA_SETTINGS = ("env_config", "dataset_root", "max_episodes", "reward_scalarisation")
# Beside KEY_SETTINGS, what the behaviour models of a run depend on.
MODEL_SETTINGS = (
    "learner",
    "mac",
    "teammates_model",
    "chunk_length",
    "standardise_obs",
    *KEY_SETTINGS,
)
ERROR_LINE = re.compile(r"^\w*Error: ")


class SharedDataset:
    """A dataset, and the runs that learn from it."""

    def __init__(self, runs: Sequence[PlannedRun], folder: SweepFolder):
        self.runs = runs
        self.label = _label(runs[0].config)
        key = hashlib.blake2b(_key(runs[0].config).encode(), digest_size=6).hexdigest()
        name = re.sub(r"[^\w.+-]+", "-", self.label)[:80]
        self.id = f"{name}_{key}"
        self.file = folder.work / DATASETS / f"{self.id}.json"
        self.log = folder.work / DATASETS / f"{self.id}.log"

    @property
    def fingerprint(self) -> str | None:
        """Of the content; None if the dataset was not prepared yet or has changed since."""
        known = read_json(self.file)
        path = Path(known.get("path", ""))
        if not known or not path.exists() or signature(path) != known["signature"]:
            return None
        return known["fingerprint"]

    def preparation(self, runs: Sequence[PlannedRun]) -> Task | None:
        """Makes the dataset and the behaviour models of these runs. None if all are there."""
        there = read_json(self.file).get("models", []) if self.fingerprint else []
        members = {_model_key(run.config): run for run in runs or self.runs[:1]}
        if (runs and members.keys() <= set(there)) or (not runs and self.fingerprint):
            return None
        job: Job = {
            "kind": "prepare",
            "note": "preparing",
            "output": str(self.file),
            "log": str(self.log),
            "members": [described(run) for run in members.values()],
            "models": sorted({*there, *members}),
        }
        ready = members.keys() | set(there)
        return Task(
            self.id,
            f"dataset {self.label}",
            make=lambda: job,
            succeeded=lambda: ready <= set(read_json(self.file).get("models", ())),
            retries=0,
        )


def described(run: PlannedRun) -> dict[str, Any]:
    """The run as its process is told."""
    return {
        "config": run.cell.algorithm,
        "env_config": run.cell.environment,
        "words": list(run.words),
    }


def shared_datasets(plan: Sequence[PlannedRun], folder: SweepFolder) -> list[SharedDataset]:
    """The datasets of a plan. Online runs have none."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in plan:
        if run.config.env_args["dataset"]:
            groups.setdefault(_key(run.config), []).append(run)
    return [SharedDataset(runs, folder) for runs in groups.values()]


def prepare(tasks: Sequence[Task], pool: Pool) -> None:
    """Makes datasets and behaviour models.

    Raises:
        UserError: lists what failed, and why.
    """
    failed = carry_out(tasks, pool)
    if failed:
        reasons = [f"{task.label}: {error_of(task.lines)}" for task in failed]
        raise UserError("no run was started:\n" + "\n".join(reasons))


def error_of(lines: Sequence[str]) -> str:
    """The error message among the last lines of an output, or all of them."""
    starts = [number for number, line in enumerate(lines) if ERROR_LINE.match(line)]
    return "\n".join(lines[starts[-1] :] if starts else lines)


def _label(config: RunConfig) -> str:
    names = [config.env_config, config.env_args.get("map_name"), config.env_args["dataset"]]
    return " ".join(Path(str(name)).name for name in names if name)


def _key(config: RunConfig) -> str:
    """Equal for runs on the same data of the same game."""
    chosen = [getattr(config, key) for key in DATA_SETTINGS]
    return json.dumps([chosen, config.env, config.env_args], sort_keys=True)


def _model_key(config: RunConfig) -> str:
    """Equal for runs with the same behaviour models. Runs without any need only the dataset."""
    if not isinstance(config, BehaviourConfig):
        return find_learner(config.learner).__name__
    return json.dumps([getattr(config, key, None) for key in MODEL_SETTINGS])

"""Checkpoints: all that a run needs to resume to the same numbers, in one file."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch as th

from inspo import controllers
from inspo.controllers import BasicMAC
from inspo.envs import RUNNING_ARGS, EnvInfo
from inspo.run.checkpoint_content import check_content, checkpoint_errors, difference, shown
from inspo.utils.config import RunConfig, lookup
from inspo.utils.errors import CheckpointError
from inspo.utils.files import found_path, load_torch, save_torch, short_path, storage_errors

VERSION = 1
STEM = re.compile(r"step_\d+")
# Where a run is read from and recorded. They change no result.
RECORD_SETTINGS = {
    "checkpoint_path",
    "load_step",
    "local_results_path",
    "dataset_root",
    "save_model",
    "save_model_interval",
    "keep_checkpoints",
    "require_simulator",
    "use_tensorboard",
    "group",
    "tags",
    "use_wandb",
    "wandb_project",
    "wandb_team",
    "wandb_mode",
    "use_mlflow",
    "mlflow_experiment",
    "mlflow_tracking_uri",
}
# A resumed run may change these, too: they affect how long it runs and what it measures.
FREE_SETTINGS = (
    RECORD_SETTINGS
    | {
        "reward_scalarisation",  # the dataset's content is compared
        "t_max",
        "use_cuda",
        "device",
        "use_cuda_graphs",
        "num_threads",
        "evaluate",
        "test_nepisode",
        "test_greedy",
        "test_interval",
        "log_interval",
        "medium_score",
        "expert_score",
    }
    | {f"env_args.{key}" for key in RUNNING_ARGS}
)
# Settings that earlier checkpoints lack, and what they did.
LATER_SETTINGS = {
    "chunk_length": None,
    "precision": "float32",
    "standardise_rewards": False,
    "standardise_obs": False,
}
BEGIN_AGAIN = "for another t_max, begin again, without checkpoint_path"
# A policy is rebuilt from these: an evaluation must not change them.
POLICY_SETTINGS = {
    "mac",
    "agent",
    "hidden_dim",
    "share_parameters",
    "obs_agent_id",
    "obs_last_action",
}


def find_checkpoint(run: str | os.PathLike, step: int = 0) -> Path:
    """The checkpoint file that `run` names.

    Args:
        run: a run folder, `RUN:STEP`, a run's checkpoints/ folder, or a checkpoint file.
        step: which checkpoint of a folder; 0: the newest.

    Raises:
        CheckpointError: there is none, or `run` names another step.
    """
    folder, _, named = os.fspath(run).rpartition(":")
    with storage_errors(Path(run)):
        path, wanted = found_path(run), step or None
        if path.is_file():
            return path
        if folder and named.isdecimal() and not path.exists():
            path, wanted = found_path(folder), int(named)
        below = path / "checkpoints"
        found = checkpoints_in(below if below.is_dir() else path)
    if step and step != wanted:
        raise CheckpointError(f"{short_path(run)} and step {step}: give one of the two")
    names = [file.stem for file in found]
    if wanted is not None and checkpoint_name(wanted) in names:
        return found[names.index(checkpoint_name(wanted))]
    if wanted is None and found:
        return found[-1]
    which = "" if wanted is None else f" of step {wanted}"
    others = f"; there are {', '.join(names)}. keep_checkpoints=0 keeps all" if found else ""
    raise CheckpointError(f"{short_path(path)}: no checkpoint{which} found{others}")


def open_checkpoint(run: str | os.PathLike, step: int = 0) -> tuple[Path, dict[str, Any]]:
    """The checkpoint file that `run` names, and what is in it, on the CPU.

    Args:
        run, step: as those of `find_checkpoint`.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    file = find_checkpoint(run, step)
    return file, load_checkpoint(file)


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder, by step."""
    files = folder.glob("step_*.pt")
    return sorted(file for file in files if STEM.fullmatch(file.stem) and file.is_file())


def checkpoint_name(step: int) -> str:
    """File name of a step's checkpoint, without suffix. Names sort by step."""
    return f"step_{step:010d}"


def save_checkpoint(
    folder: Path, step: int, state: dict[str, Any], args: RunConfig, fingerprint: str
) -> Path:
    """Writes the checkpoint of `step`, then removes the oldest beyond `keep_checkpoints`."""
    path = folder / f"{checkpoint_name(step)}.pt"
    write_checkpoint(path, step, state, args, fingerprint)
    if args.keep_checkpoints:
        for old in checkpoints_in(folder)[: -args.keep_checkpoints]:
            old.unlink()
    return path


def write_checkpoint(
    path: Path, step: int, state: dict[str, Any], args: RunConfig, fingerprint: str
) -> None:
    """Writes a checkpoint atomically.

    Args:
        state: what `TrainingSession.state` returns.
        fingerprint: of the dataset; empty if there is none.
    """
    content = {
        "version": VERSION,
        "step": step,
        "config": args.model_dump(),
        "dataset": fingerprint,
        **state,
    }
    save_torch(content, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU. Nothing in the file is executed.

    Raises:
        CheckpointError: the file is damaged, of another version, or lacks something.
    """
    try:
        content = load_torch(path)
    except ValueError as error:
        raise CheckpointError(f"cannot be read as a checkpoint: {error}") from None
    version = content.get("version") if isinstance(content, dict) else None
    if type(version) is not int or version != VERSION or "learner" not in content:
        raise CheckpointError(f"{path}: not a checkpoint of this version of the project")
    with checkpoint_errors(path, "cannot be read as a checkpoint"):
        check_content(content, path)
    env_args = content["config"]["env_args"]
    if env_args.get("common_reward") in ("mean", "sum"):  # its name in version 0.1
        env_args["reward_scalarisation"] = env_args.pop("common_reward")
    return content


def check_fits(
    content: dict[str, Any],
    path: Path,
    args: RunConfig,
    env_info: dict[str, int],
    fingerprint: str | None,
) -> None:
    """Checks that a run with these settings can use a checkpoint.

    Args:
        content: what `load_checkpoint` returned for `path`.
        env_info: sizes of the run's environment.
        fingerprint: of the run's dataset. None for an evaluation, which only needs the policy.

    Raises:
        CheckpointError: it cannot. Lists all differences.
    """
    policy_only = fingerprint is None
    saved, ours = _flat(content["config"]), _flat(args.model_dump())
    keys = POLICY_SETTINGS if policy_only else (saved.keys() | ours.keys()) - FREE_SETTINGS
    saved = LATER_SETTINGS | saved
    pairs = {key: (saved.get(key, "(none)"), ours.get(key, "(none)")) for key in sorted(keys)}
    ends = saved["t_max"], ours["t_max"]
    differences = [
        f"{short_path(key)}: {shown(there)} there, {shown(here)} here"
        + (f" (it ends with t_max: {BEGIN_AGAIN})" if (there, here) == ends else "")
        for key, (there, here) in pairs.items()
        if there != here
    ]
    if _sizes(content["env_info"]) != _sizes(env_info):
        differences.append(f"the environment's sizes: {content['env_info']} there, {env_info} here")
    if not policy_only and content["dataset"] != fingerprint:
        differences.append(
            f"the dataset's content: fingerprint {content['dataset']} there, {fingerprint} here"
        )
    if differences:
        listed = "\n  ".join(differences)
        raise CheckpointError(
            f"{path} does not fit this configuration; "
            f"use the same settings, or start a new run:\n  {listed}"
        )


def load_policy(path: str | os.PathLike, step: int = 0) -> BasicMAC:
    """The trained policies of a run, ready to act, on the CPU.

    Args:
        path: a run, its folder, `RUN:STEP`, or a checkpoint file.
        step: which checkpoint of a run folder; 0: the newest.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    file, content = open_checkpoint(path, step)
    return policy_of(content, file)


def policy_of(content: dict[str, Any], path: Path | str = "the checkpoint") -> BasicMAC:
    """The policies in a checkpoint that `load_checkpoint` has read.

    Args:
        path: of the checkpoint, for messages.

    Raises:
        CheckpointError: they are not those that its settings describe.
    """
    # Not a RunConfig: a policy must load even if its learner's settings have changed since.
    args = SimpleNamespace(**content["config"])
    weights = content["learner"]["modules"]["mac"]
    with checkpoint_errors(path, "its policies cannot be restored"):
        make = lookup(controllers.REGISTRY, args.mac, "mac")
        info = EnvInfo(**content["env_info"])
        with th.device("meta"):  # takes no memory, whatever sizes the settings claim
            expected = make(args, info).state_dict()
        if problem := difference({**weights}, {**expected}, "learner.modules.mac"):
            raise CheckpointError(f"{path}: its settings describe other policies: {problem}")
        with th.random.fork_rng(()):  # the first weights are random, and replaced at once
            mac = make(args, info)
        mac.load_state_dict(weights)
        mac.scale_observations(content.get("scaling", {}))
    return mac.requires_grad_(False).eval()


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """All settings on one level, without the dataset's name: only its content must be the same."""
    flat = {key: value for key, value in config.items() if key != "env_args"}
    for key, value in config["env_args"].items():
        if key != "dataset":
            flat[f"env_args.{key}"] = value
    return flat


def _sizes(env_info: dict[str, int]) -> dict[str, int]:
    """Without the time limit, which is unknown if there is no simulator."""
    return {name: size for name, size in env_info.items() if name != "episode_limit"}

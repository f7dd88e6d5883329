"""Checkpoints: all that a run needs to go on to the same numbers, in one file that is there whole or not at all."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch as th

from inspo import controllers
from inspo.controllers import BasicMAC
from inspo.envs import RUNNING_ARGS, EnvInfo
from inspo.utils.config import RunConfig, lookup
from inspo.utils.errors import CheckpointError
from inspo.utils.files import load_torch, write_atomically

VERSION = 1
# Settings that a resumed run may change: they decide how long it goes on and what it writes, not what it computes.
FREE_SETTINGS = {
    "t_max",
    "use_cuda",
    "num_threads",
    "dataset_root",
    "local_results_path",
    "use_tensorboard",
} | {
    *(
        "save_model",
        "save_model_interval",
        "keep_checkpoints",
        "checkpoint_path",
        "load_step",
        "evaluate",
    ),
    *("test_nepisode", "require_simulator", "test_greedy", "test_interval", "log_interval"),
    *("medium_score", "expert_score", *(f"env_args.{key}" for key in RUNNING_ARGS)),
}
# What a policy is rebuilt from: all that an evaluation has to agree with.
POLICY_SETTINGS = (
    "mac",
    "agent",
    "hidden_dim",
    "share_parameters",
    "obs_agent_id",
    "obs_last_action",
)


def find_checkpoint(path: Path, step: int = 0) -> Path:
    """The checkpoint file that `checkpoint_path` and `load_step` mean.

    Args:
        path: a checkpoint file, a run folder, or its checkpoints/ folder.
        step: which one; 0: the newest.

    Raises:
        CheckpointError: there is none.
    """
    if path.is_file():
        return path
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    found = sorted(folder.glob("step_*.pt"))
    wanted = [file for file in found if file.stem == checkpoint_name(step)] if step else found
    if not wanted:
        there = f"; there are {', '.join(file.stem for file in found)}" if found else ""
        which = f" of step {step}" if step else ""
        raise CheckpointError(f"checkpoint_path={path}: no checkpoint{which} found{there}")
    return wanted[-1]


def checkpoint_name(step: int) -> str:
    """File name of a step's checkpoint, without suffix; names sort as the steps do."""
    return f"step_{step:010d}"


def save_checkpoint(
    folder: Path, step: int, state: dict[str, Any], args: RunConfig, fingerprint: str
) -> Path:
    """Writes `state` for `step`, then removes the oldest files beyond `keep_checkpoints`."""
    path = folder / f"{checkpoint_name(step)}.pt"
    write_checkpoint(path, step, state, args, fingerprint)
    if args.keep_checkpoints:
        for old in sorted(folder.glob("step_*.pt"))[: -args.keep_checkpoints]:
            old.unlink()
    return path


def write_checkpoint(
    path: Path, step: int, state: dict[str, Any], args: RunConfig, fingerprint: str
) -> None:
    """Writes `state` for `step` to `path`, for `load_checkpoint` to read."""
    content = {
        "version": VERSION,
        "step": step,
        "config": args.model_dump(),
        "dataset": fingerprint,
        **state,
    }
    with write_atomically(path) as temporary:
        th.save(content, temporary)


def load_checkpoint(path: Path, device: th.device) -> dict[str, Any]:
    """Reads a checkpoint; nothing in the file is executed. CheckpointError if it is damaged or of another version."""
    try:
        content = load_torch(path, device)
    except ValueError as error:
        raise CheckpointError(f"cannot be read as a checkpoint: {error}") from None
    if (
        not isinstance(content, dict)
        or content.get("version") != VERSION
        or "learner" not in content
    ):
        raise CheckpointError(f"{path}: not a checkpoint of this version of the project")
    return content


def check_fits(
    content: dict[str, Any],
    path: Path,
    args: RunConfig,
    env_info: dict[str, int],
    fingerprint: str | None,
) -> None:
    """Raises CheckpointError that lists every setting in which the checkpoint's run and this one differ.

    Args:
        fingerprint: of this run's dataset, wherever it lies. None for an evaluation, which only needs the same policy.
    """
    mine, saved = _flat(args.model_dump()), _flat(content["config"])
    keys = {*mine, *saved} - FREE_SETTINGS if fingerprint is not None else POLICY_SETTINGS
    differing = [
        f"{key}: {saved.get(key, '(none)')!r} there, {mine.get(key, '(none)')!r} here"
        for key in sorted(keys)
        if saved.get(key, "(none)") != mine.get(key, "(none)")
    ]
    # The time limit may differ: without a simulator it is unknown, and the settings say it where it can be set.
    there, here = ({**info, "episode_limit": None} for info in (content["env_info"], env_info))
    if there != here:
        differing.append(f"the environment's sizes: {content['env_info']} there, {env_info} here")
    if fingerprint is not None and content["dataset"] != fingerprint:
        differing.append(
            f"the dataset's content: fingerprint {content['dataset']} there, {fingerprint} here"
        )
    if differing:
        raise CheckpointError(
            f"{path} does not fit this configuration; give this run the same settings, or start anew:\n  "
            + "\n  ".join(differing)
        )


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Environment settings beside the others, without the dataset's name: its content is what counts."""
    env_args = {
        f"env_args.{key}": value for key, value in config["env_args"].items() if key != "dataset"
    }
    return {key: value for key, value in config.items() if key != "env_args"} | env_args


def load_policy(path: str | Path, step: int = 0) -> BasicMAC:
    """The trained policies of a run, ready to act; see the README for a use of it.

    Args:
        path: a run folder or a checkpoint file.
        step: which checkpoint of a run folder; 0: the newest.
    """
    return policy_of(load_checkpoint(find_checkpoint(Path(path), step), th.device("cpu")))


def policy_of(content: dict[str, Any]) -> BasicMAC:
    """The policies in what `load_checkpoint` read, on the CPU."""
    # Plain attributes suffice here, so that a policy loads without its learner's settings being checked again.
    args = SimpleNamespace(**content["config"])
    make = lookup(controllers.REGISTRY, args.mac, "mac")
    mac = make(args, EnvInfo(**content["env_info"]))
    mac.load_state_dict(content["learner"]["modules"]["mac"])
    return mac.requires_grad_(False).eval()

"""What a checkpoint must hold. Hand-made and damaged ones are refused before anything is built."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch as th
from torch import Tensor

from inspo.envs import EnvInfo
from inspo.learners.base_learner import adam_state
from inspo.utils.errors import CheckpointError, UserError

MAX_DEPTH = 50  # of nested mappings and lists
SHOWN_LETTERS = 200  # of a value or an error, in messages
TYPES = {
    "step": int,
    "config": dict,
    "dataset": str,
    "learner": dict,
    "env_info": dict,
}
# Only runs that resume need them.
RESUMED_TYPES = {
    "metrics": list,
    "torch_random_state": Tensor,
    "origin": dict,
    "buffer": dict,
    "milestones": dict,
    "snapshots": list,
    "recent": dict,
    "env_steps": int,
    "wall_seconds": float,
}
CONFIG_TYPES = {
    "name": str,
    "env_config": str,
    "env": str,
    "env_args": dict,
    "mac": str,
    "learner": str,
    "agent": str,
    "hidden_dim": int,
    "seed": int,
    "test_greedy": bool,
    "test_nepisode": int,
    "use_cuda": bool,
}
MILESTONE_TYPES = {"step": int, "metric": str, "score": float}
ADAM_NUMBERS = ("lr", "initial_lr", "betas", "eps", "weight_decay")
ADAM_STATE = {"step", "exp_avg", "exp_avg_sq"}
Problems = Iterator[str]


@contextmanager
def checkpoint_errors(path: Path | str, what: str) -> Iterator[None]:
    """Turns any error about a checkpoint's content into a CheckpointError.

    Args:
        what: cannot be done with the checkpoint.
    """
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for content of wrong types
        reason = f"{type(error).__name__}: {shown(error)}"
        raise CheckpointError(f"{path}: {what} ({reason}); was it edited by hand?") from None


def check_content(content: Mapping[str, Any], path: Path) -> None:
    """Raises CheckpointError if a part is missing or has the wrong type."""
    problem = next(_problems(content), "")
    if problem:
        raise CheckpointError(f"{path}: not a sound checkpoint: {problem}; was it edited by hand?")


def shown(value: Any) -> str:
    """A value in a message, on one line, without what is too long."""
    text = " ".join((str if isinstance(value, Exception) else repr)(value).split())
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}..."


def _problems(content: Mapping[str, Any]) -> Problems:
    yield from _value_problems(content, "content", MAX_DEPTH)
    yield from _type_problems(content, TYPES, "")
    yield from _type_problems(content["config"], CONFIG_TYPES, "config.")
    yield from _type_problems(content["config"]["env_args"], {"dataset": str}, "config.env_args.")
    if _holds_tensor(content["config"]):
        yield "config holds arrays"
    if content["step"] < 0:
        yield f"step is {content['step']}"
    yield from _size_problems(content["env_info"])
    yield from _module_problems(content["learner"])
    yield from _scaling_problems(content)
    there = {key: kind for key, kind in RESUMED_TYPES.items() if key in content}
    yield from _type_problems(content, there, "")
    if not 0 <= content.get("wall_seconds", 0.0) < math.inf:
        yield f"wall_seconds is {content['wall_seconds']}"
    yield from _metric_problems(content.get("metrics", []))
    yield from _snapshot_problems(content.get("snapshots", []))
    for name, entry in content.get("milestones", {}).items():
        if not isinstance(entry, dict):
            yield f"milestones.{shown(name)} is no mapping"
        yield from _type_problems(entry, MILESTONE_TYPES, f"milestones.{shown(name)}.")


def _value_problems(value: Any, name: str, depth: int) -> Problems:
    """Values of other types, nested too deep, or arrays that claim more than the file holds."""
    if depth == 0:
        yield f"nested more than {MAX_DEPTH} deep"
    elif isinstance(value, Tensor):
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            yield f"{name} claims to hold {value.numel()} numbers"
    elif isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str | int | float | bool | None):
                yield f"{name} has a {type(key).__name__} as a key"
            yield from _value_problems(entry, f"{name}.{shown(key)}", depth - 1)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _value_problems(entry, name, depth - 1)
    elif not isinstance(value, str | int | float | bool | None):
        yield f"{name} is a {type(value).__name__}"


def _type_problems(content: Mapping[Any, Any], types: Mapping[str, type], prefix: str) -> Problems:
    for key in content:
        if not isinstance(key, str):
            yield f"{prefix}{shown(key)} is no name"
    for key, kind in types.items():
        if key not in content:
            yield f"{prefix}{key} is missing"
        elif not _is_a(content[key], kind):
            yield f"{prefix}{key} is {shown(content[key])}, no {kind.__name__}"


def _is_a(value: Any, kind: type) -> bool:
    """As isinstance, but True is no number."""
    return isinstance(value, kind) and (kind is not int or not isinstance(value, bool))


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_tensor, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_tensor, value))
    return isinstance(value, Tensor)


def _size_problems(env_info: Mapping[str, Any]) -> Problems:
    names = {field.name for field in fields(EnvInfo)}
    if env_info.keys() != names:
        yield f"env_info holds {shown(sorted(env_info))}, not {sorted(names)}"
    for name, size in env_info.items():
        if not _is_a(size, int) or size < 1:
            yield f"env_info.{name} is {shown(size)}"


def _module_problems(learner: Mapping[str, Any]) -> Problems:
    modules = learner.get("modules")
    if not isinstance(modules, dict) or not isinstance(modules.get("mac"), dict):
        yield "learner.modules.mac is missing"
        return
    yield from _weight_problems(modules["mac"], "learner.modules.mac")


def _weight_problems(weights: Mapping[str, Any], place: str) -> Problems:
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            yield f"{place}.{shown(name)} is {shown(value)}, no weights"


def _snapshot_problems(snapshots: list[Any]) -> Problems:
    """Of the policies that an on-policy run keeps until `medium`."""
    for snapshot in snapshots:
        if not isinstance(snapshot, dict):
            yield f"snapshots hold {shown(snapshot)}"
            return
        yield from _type_problems(snapshot, {"step": int, "mac": dict}, "snapshots.")
        yield from _weight_problems(snapshot["mac"], "snapshots.mac")


def _scaling_problems(content: Mapping[str, Any]) -> Problems:
    scaling, sizes = content.get("scaling", {}), content["env_info"]
    if not isinstance(scaling, dict):
        yield f"scaling is {shown(scaling)}"
        return
    names = set()
    if content["config"].get("standardise_obs"):
        names |= {"obs_mean", "obs_std", "state_mean", "state_std"}
    if content["config"].get("standardise_rewards"):
        names.add("reward_scale")
    if scaling.keys() != names:
        yield f"scaling holds {shown(sorted(scaling))}, not {sorted(names)}"
    lengths = {"obs": sizes["obs_shape"], "state": sizes["state_shape"], "reward": 1}
    for name, values in scaling.items():
        length = lengths[name.partition("_")[0]]
        is_row = isinstance(values, Tensor) and values.shape == (length,)
        if not is_row or values.dtype != th.float32 or not values.isfinite().all():
            yield f"scaling.{name} is {shown(values)}"
        elif not name.endswith("_mean") and not (values > 0).all():
            yield f"scaling.{name} is not positive"


def _metric_problems(rows: list[Any]) -> Problems:
    for row in rows:
        if not isinstance(row, dict) or not _is_a(row.get("step"), int):
            yield "metrics hold a row without a step"
            return
        for name, value in row.items():
            number = isinstance(value, int | float) and math.isfinite(value)
            if not isinstance(name, str) or not number:
                yield f"metrics hold {shown(name)} = {shown(value)}"


def difference(found: Any, expected: Any, name: str) -> str:
    """How a saved state's structure differs from that of a new object; empty if it does not.

    Keys, kinds of values, and shapes of arrays must be the same. Random states differ by device.
    """
    if isinstance(expected, Tensor):
        same = isinstance(found, Tensor) and found.dtype == expected.dtype
        if same and (found.shape == expected.shape or name.endswith(".generator")):
            return ""
        there = tuple(found.shape) if isinstance(found, Tensor) else shown(found)
        return f"{name} is {there}, expected {tuple(expected.shape)}"
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            there = shown(list(found)) if isinstance(found, dict) else shown(found)
            return f"{name} holds {there}, expected {shown(list(expected))}"
        parts = (difference(found[key], expected[key], f"{name}.{key}") for key in expected)
        return next(filter(None, parts), "")
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            return f"{name} is {shown(found)}, expected {len(expected)} entries"
        parts = (difference(*pair, name) for pair in zip(found, expected, strict=True))
        return next(filter(None, parts), "")
    same = type(found) is type(expected)
    if same and isinstance(found, float) and not math.isfinite(found):
        same = False
    return "" if same else f"{name} is {shown(found)}"


def optimiser_difference(found: Any, optimiser: th.optim.Optimizer, name: str) -> str:
    """As `difference`, of an Adam optimiser. A new one has no state of its parameters yet."""
    if not isinstance(found, dict) or not isinstance(found.get("state"), dict):
        return f"{name}.state is missing"
    groups, expected_groups = found.get("param_groups"), adam_state(optimiser)["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(expected_groups):
        return f"{name}.param_groups is {shown(groups)}"
    for group, expected in zip(groups, expected_groups, strict=True):
        if not isinstance(group, dict):
            return f"{name}.param_groups holds {shown(group)}"
        if group.get("params") != expected["params"]:  # the wrong ones would crash torch
            return f"{name}.params is {shown(group.get('params'))}"
        for key in ADAM_NUMBERS:
            if problem := difference(group.get(key), expected[key], f"{name}.{key}"):
                return problem
        # Versions of torch know different switches.
        for key in (group.keys() & expected.keys()) - {"params", *ADAM_NUMBERS}:
            if shown(group[key]) != shown(expected[key]):
                return f"{name}.{key} is {shown(group[key])}"
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for number, state in found["state"].items():
        if not _is_a(number, int) or not 0 <= number < len(parameters):
            return f"{name}.state has no parameter {shown(number)}"
        shape = parameters[number].shape
        expected = {key: th.empty(() if key == "step" else shape) for key in ADAM_STATE}
        if problem := difference(state, expected, f"{name}.state.{number}"):
            return problem
    return ""

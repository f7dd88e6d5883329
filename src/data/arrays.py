"""The arrays of a dataset: names, axes, dtypes and sizes, and the hash of their content."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

# Number of axes of each array. The fingerprint reads the arrays in this order.
AXES = {
    "lengths": 1,
    "state": 2,
    "obs": 3,
    "actions": 2,
    "avail_actions": 3,
    "reward": 1,
    "terminated": 1,
    "truncated": 1,
}
# The arrays with one entry per row, and their dtypes. Actions are stored in a smaller one.
ROW_FIELDS: dict[str, type] = {
    "state": np.float32,
    "obs": np.float32,
    "actions": np.int64,
    "avail_actions": np.bool_,
    "reward": np.float32,
    "terminated": np.bool_,
    "truncated": np.bool_,
}
READ_BYTES = 1 << 23


class Sizes(NamedTuple):
    """What all episodes of a dataset have in common."""

    n_agents: int
    n_actions: int
    obs: int
    state: int

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> "Sizes":
        """The sizes of arrays by name; only their last axes count."""
        n_agents, n_actions = arrays["avail_actions"].shape[-2:]
        n_obs = arrays["obs"].shape[-1]
        n_state = arrays["state"].shape[-1]
        return cls(n_agents, n_actions, n_obs, n_state)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of each field."""
        return {
            "state": (self.state,),
            "obs": (self.n_agents, self.obs),
            "actions": (self.n_agents,),
            "avail_actions": (self.n_agents, self.n_actions),
            "reward": (),
            "terminated": (),
            "truncated": (),
        }

    def dtypes(self) -> dict[str, np.dtype]:
        """The compact dtype of each field, in memory and in this project's files."""
        dtypes = {name: np.dtype(dtype) for name, dtype in ROW_FIELDS.items()}
        return dtypes | {"actions": action_dtype(self.n_actions)}

    def bytes_per_row(self) -> int:
        """Bytes of one row of all fields, in compact dtypes."""
        shapes, dtypes = self.shapes(), self.dtypes()
        return sum(math.prod(shapes[name]) * dtypes[name].itemsize for name in ROW_FIELDS)


def action_dtype(n_actions: int) -> np.dtype:
    """The smallest dtype that holds 0..n_actions."""
    if n_actions < 2**8:
        return np.dtype(np.uint8)
    return np.dtype(np.int16 if n_actions < 2**15 else np.int32)


def compact_actions(actions: np.ndarray, n_actions: int) -> np.ndarray:
    """`actions` in the smallest integer dtype.

    Values outside 0..n_actions-1 become n_actions: still outside, so that the checks find them.
    """
    outside = (actions < 0) | (actions > n_actions)
    return np.where(outside, n_actions, actions).astype(action_dtype(n_actions))


def fingerprint(arrays: Mapping[str, Any]) -> str:
    """BLAKE2b hash (8 bytes, hexadecimal) of name, dtype, shape and content of each array.

    Args:
        arrays: NumPy arrays, or an open h5 file, which is read a few MiB at a time.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in AXES:
        array = arrays[name]
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        for part in in_parts(array, READ_BYTES):
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def in_parts(array: Any, n_bytes: int) -> Iterator[np.ndarray]:
    """A NumPy or h5 array in parts of whole rows, each of at most `n_bytes` or one row."""
    row_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
    n_rows = max(1, n_bytes // max(1, row_bytes))
    for start in range(0, len(array), n_rows):
        yield array[start : start + n_rows]

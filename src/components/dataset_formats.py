"""Dataset files: the project's own h5 format, written and read, and AlberDICE's folders of npy files, read.

Own format, version 1: one h5 file. Attributes `format`, `format_version` and `metadata` (a JSON record); datasets
`lengths` and the row fields of `EpisodeData`, gzip-compressed. Foreign files are only ever read.
"""

import json
import logging
import operator
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil

from components.episode_data import EpisodeData, compact_actions
from utils.errors import DatasetError
from utils.files import software_versions, write_atomically

FORMAT = "inspo-offline-dataset"
FORMAT_VERSION = 1
MUST_SAY = ("environment", "env_args", "behaviour", "command")  # what only its maker knows
METADATA_KEYS = (*MUST_SAY, "episodes", "return_mean", "return_std", "return_min", "return_max")
ROW_FIELDS: dict[str, type] = {
    "state": np.float32,
    "obs": np.float32,
    "actions": np.int64,
    "avail_actions": np.bool_,
    "reward": np.float32,
    "terminated": np.bool_,
    "truncated": np.bool_,
}
log = logging.getLogger(__name__)
DTYPES = {**ROW_FIELDS, "filled": np.bool_}


def load_dataset(path: Path, max_episodes: int | None = None) -> EpisodeData:
    """Reads and checks the dataset at `path`, an h5 file or a folder of npy files.

    Args:
        max_episodes: read the first so many episodes only.

    Raises:
        DatasetError: the file is missing, damaged, of an unknown layout, too large for the memory, or fails a check.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path}: there is no such dataset")
    if path.is_dir():
        if not (path / "obs.npy").exists() and not (path / "state.npy").exists():
            raise DatasetError(f"{path}: this folder is no dataset; known layouts: our h5 file, AlberDICE's npy folder")
        data = read_alberdice(path, max_episodes)
    else:
        data = read_h5(path, max_episodes)
    data.check()
    return data


def write_h5(data: EpisodeData, path: Path) -> None:
    """Writes `data` with its metadata completed; checked first, whole or not at all.

    Raises:
        DatasetError: a check fails, or the metadata lacks what it must say.
        FileExistsError: nothing is written over.
    """
    data.check()
    if path.exists():
        raise FileExistsError(f"{path} exists already; nothing is written over")
    if missing := [key for key in MUST_SAY if key not in data.metadata]:
        raise DatasetError(f"{path}: the metadata must also say: {', '.join(missing)}")
    metadata = {
        **data.metadata,
        "episodes": data.n_episodes,
        "transitions": data.n_transitions,
        **data.return_statistics(),
        "fingerprint": data.fingerprint,
        "format_version": FORMAT_VERSION,
        "software": software_versions(),
    }
    with write_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["metadata"] = json.dumps(metadata)
        for name in ("lengths", *ROW_FIELDS):
            file.create_dataset(name, data=getattr(data, name), compression="gzip", compression_opts=4)


def read_h5(path: Path, max_episodes: int | None = None) -> EpisodeData:
    """Reads a file of the project's own format, array by array into its final place."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise DatasetError(
                    f"{path}: not a dataset of this project: its h5 attribute 'format' is not '{FORMAT}'"
                )
            version = file.attrs.get("format_version")
            if version != FORMAT_VERSION:
                raise DatasetError(f"{path}: format version {version}; this code reads version {FORMAT_VERSION}")
            metadata = _metadata(path, file.attrs.get("metadata"))
            fields = {name: _h5_dataset(path, file, name) for name in ("lengths", *ROW_FIELDS)}
            lengths = _integers(path, "lengths", fields.pop("lengths")[:])
            if lengths.ndim != 1:
                raise DatasetError(f"{path}: field 'lengths' has shape {lengths.shape}; expected one axis")
            if len(lengths) != metadata["episodes"]:
                raise DatasetError(f"{path}: {len(lengths)} episodes, but the metadata says {metadata['episodes']}")
            all_rows = int((lengths + 1).sum())
            for name, field in fields.items():
                if field.shape[:1] != (all_rows,):
                    raise DatasetError(
                        f"{path}: field '{name}' has shape {field.shape}; the episode lengths need {all_rows} rows"
                    )
            lengths = lengths[:max_episodes]
            rows = int((lengths + 1).sum())
            check_memory(
                path, sum(_n_bytes(field.shape[1:], ROW_FIELDS[name]) for name, field in fields.items()) * rows
            )
            arrays = {name: _cast(path, name, field[:rows]) for name, field in fields.items()}
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        IndexError,
        AttributeError,
    ) as error:  # h5py's words
        raise DatasetError(f"{path}: cannot be read as h5 (truncated or damaged?): {error}") from None
    arrays["actions"] = _compact(arrays)
    return EpisodeData(lengths=lengths, **arrays, metadata=metadata, path=str(path))


def read_alberdice(path: Path, max_episodes: int | None = None) -> EpisodeData:
    """Reads a folder of AlberDICE's (Matsunaga et al. 2023): npy arrays padded to the longest episode and one row more.

    `filled` marks L + 1 rows, the last of them the final observation. Every end is stored as terminated; an episode
    without the flag counts as truncated.
    """
    shapes = {"state": 3, "obs": 4, "actions": 4, "avail_actions": 4, "reward": 3, "terminated": 3, "filled": 3}
    arrays = {name: _npy(path, name, ndim) for name, ndim in shapes.items()}
    leading = {name: array.shape[:2] for name, array in arrays.items()}
    if len(set(leading.values())) > 1:
        raise DatasetError(f"{path}: the fields disagree on episodes and steps: {leading}")
    episodes = _alberdice_episodes(path, len(arrays["filled"]))
    episodes = min(episodes, max_episodes or episodes)
    arrays = {name: array[:episodes] for name, array in arrays.items()}
    for name in ("actions", "reward", "terminated", "filled"):
        if arrays[name].shape[-1] != 1:
            raise DatasetError(f"{path}: field '{name}' has shape {arrays[name].shape}; its last axis must be 1")

    filled = _cast(path, "filled", arrays.pop("filled"))[..., 0]
    rows_of = filled.sum(axis=1)
    for episode in np.flatnonzero(rows_of < 2):
        raise DatasetError(
            f"{path}: field 'filled': nothing filled in episode {episode}: no step with what followed it"
        )
    gaps = (filled != (np.arange(filled.shape[1]) < rows_of[:, None])).any(axis=1)
    for episode in np.flatnonzero(gaps):
        raise DatasetError(f"{path}: field 'filled': episode {episode} has gaps; only its end may be unfilled")
    per_row = sum(_n_bytes(arrays[name].shape[2:], dtype) for name, dtype in ROW_FIELDS.items() if name in arrays)
    check_memory(path, per_row * int(filled.sum()))
    rows = {name: _cast(path, name, array[filled]) for name, array in arrays.items()}
    for name in ("actions", "reward", "terminated"):
        rows[name] = rows[name][..., 0]
    rows["actions"] = _compact(rows)
    final = np.cumsum(rows_of) - 1
    # Row L stores one more action, never executed; and only the last step can end an episode.
    rows["actions"][final] = 0
    rows["reward"][final] = 0
    rows["truncated"] = np.zeros_like(rows["terminated"])
    rows["truncated"][final - 1] = ~rows["terminated"][final - 1]
    metadata = {"behaviour": "AlberDICE folder", "source": str(path)}
    return EpisodeData(lengths=rows_of.astype(np.int64) - 1, **rows, metadata=metadata, path=str(path))


def from_episodes(episodes: Iterable[dict[str, np.ndarray]], metadata: dict[str, Any], path: str) -> EpisodeData:
    """Joins episodes, each a dict of the row fields with L + 1 rows, into one EpisodeData.

    Raises:
        DatasetError: there is no episode, or one lacks a field or has fields of different lengths.
    """
    episodes = list(episodes)
    if not episodes:
        raise DatasetError(f"{path}: there is no episode")
    for number, episode in enumerate(episodes):
        lengths = {name: len(episode[name]) for name in ROW_FIELDS if name in episode}
        if missing := [name for name in ROW_FIELDS if name not in episode]:
            raise DatasetError(f"{path}: episode {number} lacks {', '.join(missing)}")
        if len(set(lengths.values())) > 1:
            raise DatasetError(f"{path}: the fields of episode {number} differ in their number of rows: {lengths}")
    rows = {name: np.concatenate([episode[name] for episode in episodes]) for name in ROW_FIELDS}
    rows = {name: _cast(Path(path), name, array) for name, array in rows.items()}
    rows["actions"] = _compact(rows)
    lengths = np.array([len(episode["reward"]) - 1 for episode in episodes], dtype=np.int64)
    return EpisodeData(lengths=lengths, **rows, metadata=metadata, path=path)


def check_memory(path: Path, n_bytes: int) -> None:
    """Raises DatasetError before an allocation that the memory cannot take."""
    free = psutil.virtual_memory().available
    log.info("%s will take %.1f MiB of memory; %.1f GiB are free", path, n_bytes / 2**20, free / 2**30)
    if n_bytes > 0.9 * free:
        raise DatasetError(
            f"{path}: needs {n_bytes / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free; "
            f"train on a part of it with max_episodes=N"
        )


def _metadata(path: Path, text: Any) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
        missing = [key for key in METADATA_KEYS if key not in metadata]
    except (TypeError, ValueError):
        raise DatasetError(f"{path}: the h5 attribute 'metadata' is missing or no JSON record") from None
    if missing:
        raise DatasetError(f"{path}: the metadata record lacks {', '.join(missing)}")
    return metadata


def _h5_dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    if name not in file:
        raise DatasetError(f"{path}: field '{name}' is missing")
    if not isinstance(file[name], h5py.Dataset):
        raise DatasetError(f"{path}: field '{name}' is a {type(file[name]).__name__}, not an array")
    return file[name]


def _npy(path: Path, name: str, ndim: int) -> np.ndarray:
    file = path / f"{name}.npy"
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of arrays, not one array")
    except FileNotFoundError:
        if name == "obs":  # every agent sees the state
            state, actions = _npy(path, "state", 3), _npy(path, "actions", 4)
            return np.broadcast_to(state[:, :, None], (*state.shape[:2], actions.shape[2], state.shape[2]))
        raise DatasetError(f"{path}: field '{name}' is missing: there is no {file.name}") from None
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{file}: cannot be read (truncated or damaged?): {error}") from None
    if array.ndim != ndim:
        raise DatasetError(f"{path}: field '{name}' has shape {array.shape}; expected {ndim} axes")
    return array


def _alberdice_episodes(path: Path, stored: int) -> int:
    try:
        count = operator.index(json.loads((path / "meta.json").read_text())["episodes_in_buffer"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: meta.json must say 'episodes_in_buffer': {error}") from None
    if not 0 < count <= stored:
        raise DatasetError(f"{path}: meta.json says {count} episodes, the arrays hold {stored}")
    return count


def _cast(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise DatasetError(f"{path}: field '{name}' holds {array.dtype}, not numbers")
    if name == "actions":
        return _integers(path, name, array)
    if DTYPES[name] is np.bool_ and array.dtype != bool:
        bad = (array != 0) & (array != 1)
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise DatasetError(f"{path}: field '{name}' must hold 0 and 1 only; row {row} holds {array[bad][0]}")
    return array.astype(DTYPES[name], copy=False)


def _integers(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and not (array == np.rint(array)).all()):
        raise DatasetError(f"{path}: field '{name}' must hold integers, not {array.dtype}")
    return array.astype(np.int64, copy=False) if name == "lengths" else array


def _compact(rows: dict[str, np.ndarray]) -> np.ndarray:
    return compact_actions(rows["actions"], rows["avail_actions"].shape[-1])


def _n_bytes(shape: tuple[int, ...], dtype: Callable) -> int:
    width = 1 if dtype in (np.bool_, np.int64) else 4  # actions end up in one byte
    return int(np.prod(shape, dtype=np.int64)) * width

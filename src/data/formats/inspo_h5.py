"""This project's own layout: one h5 file, rows end to end. `docs/dataset-format.md` is its specification."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from inspo.data.episode_data import EpisodeData, Finding
from inspo.data.formats.h5_files import H5_ERRORS, find_fields, h5_errors, open_h5, reading, rows_of
from inspo.data.formats.reader import BLOCK_BYTES, Reader
from inspo.data.formats.schema import (
    ROW_FIELDS,
    Sizes,
    cast,
    check_metadata,
    metadata_json,
    raise_problems,
)
from inspo.utils.errors import DatasetError
from inspo.utils.files import software_versions, write_atomically
from inspo.utils.progress import Progress

FORMAT = "inspo-offline-dataset"
FORMAT_VERSION = 1
COUNTED = ("episodes", "return_mean", "return_std", "return_min", "return_max")  # by the writer
AXES = {
    "lengths": 1,
    "state": 2,
    "obs": 3,
    "actions": 2,
    "avail_actions": 3,
    "reward": 1,
} | dict.fromkeys(("terminated", "truncated"), 1)
LIBVER = (
    "v110",
    "v110",
)  # the first whose structures carry checksums: what damage does to them is noticed
CHUNK_TARGET = (
    1 << 18
)  # bytes; a chunk holds whole rows, so that reading episodes unpacks nothing else


class InspoH5Reader(Reader):
    """Reads a file of the project's own layout."""

    layout = "this project's h5"

    def __init__(self, path: Path, findings: list[Finding] | None = None):
        super().__init__(path, findings)
        self.file = open_h5(path)
        with reading(self.file, path):
            self.metadata = _header(path, self.file)
            self.fields, problems = find_fields(self.file, AXES)
            if "lengths" in self.fields:
                problems += self._read_lengths()
            raise_problems(path, problems)
            self.sizes, problems = self._read_sizes()
            raise_problems(path, problems or self._unusable_sizes())

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if not path.is_file():
            return False
        try:
            with h5py.File(path, "r") as file:
                return file.attrs.get("format") == FORMAT or all(name in file for name in AXES)
        except H5_ERRORS:
            return False

    def close(self) -> None:
        self.file.close()

    def _read_lengths(self) -> list[Finding]:
        problems: list[Finding] = []
        self.lengths = cast(
            "lengths",
            self.fields.pop("lengths")[:],
            lambda name, problem, _: problems.append(Finding(name, problem)),
        )
        if len(self.lengths) != self.metadata["episodes"]:
            said = self.metadata["episodes"]
            problems.append(
                Finding("lengths", f"{len(self.lengths)} episodes, but the metadata says {said}")
            )
        if (short := np.flatnonzero(self.lengths < 1)).size:
            problems.append(
                Finding("lengths", f"episode {short[0]} has {self.lengths[short[0]]} steps")
            )
            return problems
        rows = sum(self.lengths.tolist()) + len(
            self.lengths
        )  # in Python's integers, which do not overflow
        for name, field in self.fields.items():
            if field.shape[0] != rows:
                problems.append(
                    Finding(name, f"has shape {field.shape}; the episode lengths need {rows} rows")
                )
        return problems

    def _read_sizes(self) -> tuple[Sizes, list[Finding]]:
        agents = {name: self.fields[name].shape[1] for name in ("obs", "actions", "avail_actions")}
        widths = self.fields["obs"].shape[2], self.fields["state"].shape[1]
        sizes = Sizes(*self.fields["avail_actions"].shape[1:], *widths)
        if len(set(agents.values())) > 1:
            return sizes, [Finding("obs", f"the fields disagree on the number of agents: {agents}")]
        return sizes, []

    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        end = int(self.row_ends[last - 1])
        start = int(self.row_ends[first] - self.lengths[first] - 1)
        with h5_errors(self.path):
            return {name: self.fields[name][start:end] for name in ROW_FIELDS}

    def load(self, max_episodes: int | None = None) -> EpisodeData:
        """As any reader's; and a whole file must have the content that its metadata's fingerprint was taken of."""
        data = super().load(max_episodes)
        if data.n_episodes == self.n_episodes:
            self._compare(data.fingerprint)
        return data

    def verify(self) -> None:
        with h5_errors(self.path):
            fingerprint = fingerprint_of(self.file)
        self._compare(fingerprint)

    def _compare(self, fingerprint: str) -> None:
        recorded = self.metadata.get("fingerprint", fingerprint)
        if fingerprint != recorded:
            raise DatasetError(
                f"{self.path}: the content was changed after it was written: its fingerprint is {fingerprint}, "
                f"the metadata says {recorded}"
            )


def _header(path: Path, file: h5py.File) -> dict[str, Any]:
    if file.attrs.get("format") != FORMAT:
        raise DatasetError(
            f"{path}: not a dataset of this project: its h5 attribute 'format' is not '{FORMAT}'"
        )
    version = file.attrs.get("format_version")
    if np.ndim(version) or version != FORMAT_VERSION:
        raise DatasetError(
            f"{path}: format version {version}; this code reads version {FORMAT_VERSION}"
        )
    try:
        metadata = json.loads(file.attrs.get("metadata"))
    except (TypeError, ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise DatasetError(f"{path}: the h5 attribute 'metadata' is missing or no JSON record")
    check_metadata(path, metadata)
    for key in COUNTED:
        if not isinstance(metadata.get(key), int | float):
            raise DatasetError(f"{path}: the metadata's '{key}' must be a number")
    return metadata


def write_h5(data: EpisodeData, path: Path) -> None:
    """Writes `data` with its metadata completed; checked first, whole or not at all.

    Raises:
        DatasetError: a check fails, or the metadata lacks what it must say.
        FileExistsError: nothing is written over.
    """
    data.check()
    path = Path(path)
    write_blocks(path, data.lengths, Sizes.of(data), [data], data.metadata)


def write_blocks(
    path: Path,
    lengths: np.ndarray,
    sizes: Sizes,
    blocks: Iterable[EpisodeData],
    metadata: dict[str, Any],
    folder: Path | None = None,
    verify: Callable[[Path], None] | None = None,
) -> None:
    """Writes checked blocks of episodes, which together have these lengths, as one dataset; whole or not at all.

    Args:
        folder: where the file is made; None: beside `path`.
        verify: called with the finished file before it gets its name; raises if it is not as it should be.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already; nothing is written over")
    metadata_json(path, metadata)
    returns = []
    with write_atomically(path, folder) as temporary:
        with h5py.File(temporary, "w", libver=LIBVER) as file:
            create_fields(file, lengths, sizes, compression="gzip", compression_opts=4)
            row = 0
            shown = Progress(len(lengths), f"Writing {path.name}")
            for block in blocks:
                for name in ROW_FIELDS:
                    file[name][row : row + len(block.reward)] = getattr(block, name)
                row += len(block.reward)
                returns.append(block.returns)
                shown.advance(block.n_episodes)
            shown.close()
            values = np.concatenate(returns)
            complete = {
                **metadata,
                "episodes": len(lengths),
                "transitions": int(lengths.sum()),
                "return_mean": float(values.mean()),
                "return_std": float(values.std()),
                "return_min": float(values.min()),
                "return_max": float(values.max()),
                "fingerprint": fingerprint_of(file),
                "format_version": FORMAT_VERSION,
                "software": software_versions(),
            }
            file.attrs["format"] = FORMAT
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["metadata"] = metadata_json(path, complete)
        if verify is not None:
            verify(temporary)
        if path.exists():
            raise FileExistsError(f"{path} exists already; nothing is written over")


def create_fields(
    file: h5py.File, lengths: np.ndarray, sizes: Sizes, **compression: object
) -> None:
    """The arrays of a dataset in an open file: `lengths` written, the row fields to be filled."""
    file.create_dataset("lengths", data=lengths, dtype=np.int64, **compression)
    rows, dtypes = int((lengths + 1).sum()), sizes.dtypes()
    for name, shape in sizes.shapes().items():
        row_bytes = int(np.prod(shape)) * dtypes[name].itemsize
        chunk = (min(rows, max(1, CHUNK_TARGET // row_bytes)), *shape)
        file.create_dataset(
            name, shape=(rows, *shape), dtype=dtypes[name], chunks=chunk, **compression
        )


def fingerprint_of(file: h5py.File) -> str:
    """EpisodeData.fingerprint of an open file's content, read a bounded number of bytes at a time."""
    digest = hashlib.blake2b(digest_size=8)
    for name in ("lengths", *ROW_FIELDS):
        field = file[name]
        digest.update(f"{name}{field.dtype}{field.shape}".encode())
        for part in rows_of(field, BLOCK_BYTES):
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()

"""This project's own layout: one h5 file, specified in `docs/dataset-format.md`."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from inspo.data.arrays import AXES, ROW_FIELDS, Sizes, fingerprint
from inspo.data.episode_data import PER_AGENT, EpisodeData, Finding, differing_agents
from inspo.data.formats.h5_files import (
    H5_ERRORS,
    find_fields,
    h5_errors,
    has_link,
    open_h5,
    read_text,
    reading,
    write_text,
)
from inspo.data.formats.h5_writing import new_h5
from inspo.data.formats.metadata import check_metadata, metadata_json
from inspo.data.formats.reader import Reader, with_progress
from inspo.data.formats.schema import cast, check_index, count_rows, raise_problems
from inspo.data.formats.staging import new_file
from inspo.utils.errors import DatasetError
from inspo.utils.files import software_versions

FORMAT = "inspo-offline-dataset"
FORMAT_VERSION = 1
COUNTED = ("episodes", "return_mean", "return_std", "return_min", "return_max")
LIBVER = ("v110", "v110")  # the first file format whose checksums detect damage
CHUNK_TARGET = 1 << 18  # bytes, of whole rows: reading episodes unpacks few others


class InspoH5Reader(Reader):
    """Reads a file of the project's own layout."""

    layout = "this project's h5"

    def __init__(self, path: Path, *arguments: Any):
        super().__init__(path, *arguments)
        self.file = open_h5(path)
        with reading(self.file, path):
            self.metadata = _read_metadata(path, self.file)
            self.fields, problems = find_fields(self.file, AXES)
            if "lengths" in self.fields:
                problems += self._read_lengths()
            raise_problems(path, problems)
            per_agent = {name: self.fields[name] for name in PER_AGENT}
            raise_problems(path, list(differing_agents(per_agent)))
            self.sizes = Sizes.of(self.fields)
            raise_problems(path, self._unusable_sizes())

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if not path.is_file():
            return False
        try:
            with open_h5(path) as file:
                if read_text(file, "format") == FORMAT:
                    return True
                return all(has_link(file, name) for name in AXES)
        except (*H5_ERRORS, DatasetError):
            return False

    def close(self) -> None:
        self.file.close()

    def load(self, max_episodes: int | None = None) -> EpisodeData:
        """Loads episodes as any reader does. A whole file must also match its fingerprint."""
        data = super().load(max_episodes)
        if data.n_episodes == self.n_episodes:
            self._compare(data.fingerprint)
        return data

    def verify(self) -> None:
        self._compare(self.fingerprint())

    def fingerprint(self) -> str:
        """Hash of the content, without loading it as a whole."""
        with h5_errors(self.path):
            return fingerprint(self.file)

    def _compare(self, found: str) -> None:
        recorded = self.metadata.get("fingerprint", found)
        if found != recorded:
            raise DatasetError(
                f"{self.path}: the content was changed after it was written: "
                f"its fingerprint is {found}, the metadata says {recorded!s:.80}"
            )

    def _read_lengths(self) -> list[Finding]:
        """Reads the episodes' lengths; returns what is wrong with them."""
        problems: list[Finding] = []

        def report_problem(name: str, problem: str, _: np.ndarray) -> None:
            problems.append(Finding(name, problem))

        field = self.fields.pop("lengths")
        check_index(self.path, len(field), "episodes")
        self.lengths = cast("lengths", field[:], report_problem)
        expected = self.metadata["episodes"]
        if self.n_episodes != expected:
            problem = f"{self.n_episodes} episodes, but the metadata says {expected}"
            problems.append(Finding("lengths", problem))
        if (too_short := np.flatnonzero(self.lengths < 1)).size:
            episode = too_short[0]
            problem = f"episode {episode} has {self.lengths[episode]} steps"
            return [*problems, Finding("lengths", problem)]
        n_rows = count_rows(self.lengths)
        for name, field in self.fields.items():
            if field.shape[0] != n_rows:
                problem = f"has shape {field.shape}; the episode lengths need {n_rows} rows"
                problems.append(Finding(name, problem))
        return problems

    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        start = int(self.row_ends[first] - self.lengths[first] - 1)
        end = int(self.row_ends[last - 1])
        with h5_errors(self.path):
            return {name: self.fields[name][start:end] for name in ROW_FIELDS}


def _read_metadata(path: Path, file: h5py.File) -> dict[str, Any]:
    if read_text(file, "format") != FORMAT:
        problem = f"its h5 attribute 'format' is not '{FORMAT}'"
        raise DatasetError(f"{path}: not a dataset of this project: {problem}")
    version = file.attrs.get("format_version")
    if np.ndim(version) or version != FORMAT_VERSION:
        needed = f"this code reads version {FORMAT_VERSION}"
        raise DatasetError(f"{path}: format version {version}; {needed}")
    try:
        metadata = json.loads(read_text(file, "metadata"))
    except (TypeError, ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        problem = "is missing or no JSON record"
        raise DatasetError(f"{path}: the h5 attribute 'metadata' {problem}")
    check_metadata(path, metadata)
    for key in COUNTED:
        if not isinstance(metadata.get(key), int | float):
            raise DatasetError(f"{path}: the metadata's '{key}' must be a number")
    return metadata


def write_h5(data: EpisodeData, path: Path) -> None:
    """Checks `data` and writes it atomically, with its metadata completed.

    Raises:
        DatasetError: a check fails, or the metadata lacks a required key.
        FileExistsError: the file exists already.
    """
    data.check()
    path = Path(path)
    metadata_json(path, data.metadata)
    with new_file(path) as temporary:
        write_blocks(temporary, path, [data], data.lengths, data.sizes, data.metadata)


def write_blocks(
    temporary: Path,
    path: Path,
    blocks: Iterable[EpisodeData],
    lengths: np.ndarray,
    sizes: Sizes,
    metadata: dict[str, Any],
) -> None:
    """Writes blocks of episodes as one file.

    Args:
        temporary: the file to write.
        path: what the dataset will be called.
        blocks: checked.
        lengths: steps of all their episodes, int [E].
        metadata: is completed.
    """
    metadata_json(path, metadata)
    returns = []
    with new_h5(temporary, libver=LIBVER) as (file, disk):
        create_fields(file, lengths, sizes, compression="gzip", compression_opts=4)
        row = 0
        for block in with_progress(blocks, len(lengths), f"Writing {path.name}"):
            end = row + len(block.reward)
            for name in ROW_FIELDS:
                file[name][row:end] = getattr(block, name)
            disk.check()
            returns.append(block.returns)
            row = end
        all_returns = np.concatenate(returns)
        complete = {
            **metadata,
            "episodes": len(lengths),
            "transitions": int(lengths.sum()),
            "return_mean": float(all_returns.mean()),
            "return_std": float(all_returns.std()),
            "return_min": float(all_returns.min()),
            "return_max": float(all_returns.max()),
            "fingerprint": fingerprint(file),
            "format_version": FORMAT_VERSION,
            "software": software_versions(),
        }
        write_text(file, "format", FORMAT)
        file.attrs["format_version"] = FORMAT_VERSION
        write_text(file, "metadata", metadata_json(path, complete))


def create_fields(
    file: h5py.File, lengths: np.ndarray, sizes: Sizes, **compression: object
) -> None:
    """Creates the arrays of a dataset in an open file. Only `lengths` is filled."""
    file.create_dataset("lengths", data=lengths, dtype=np.int64, **compression)
    n_rows, dtypes = int((lengths + 1).sum()), sizes.dtypes()
    for name, shape in sizes.shapes().items():
        row_bytes = int(np.prod(shape)) * dtypes[name].itemsize
        rows_per_chunk = min(n_rows, max(1, CHUNK_TARGET // row_bytes))
        file.create_dataset(
            name,
            shape=(n_rows, *shape),
            dtype=dtypes[name],
            chunks=(rows_per_chunk, *shape),
            **compression,
        )

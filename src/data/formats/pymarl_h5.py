"""h5 files of PyMARL episode batches: CFCQL's single files, and OffPyMARL's folders of parts.

CFCQL (Shao et al. 2023): one file `{map}_{quality}.h5`. Its `probs` are zero unless they were
switched on, and not used here.
OffPyMARL: a folder with `part_0.h5`, `part_1.h5`, ..., with `actions_onehot`. Files converted from
Vaults also hold `corrected_terminated`, which ends episodes a step early and is not used here.
"""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from inspo.data.episode_data import EpisodeData, Finding
from inspo.data.formats.assume import with_way_out
from inspo.data.formats.h5_files import find_fields, h5_errors, h5_keys, open_h5
from inspo.data.formats.h5_writing import new_h5
from inspo.data.formats.padded import PADDED_AXES, PaddedReader
from inspo.data.formats.reader import Reader
from inspo.data.formats.schema import raise_problems
from inspo.utils.errors import DatasetError

CFCQL_KEYS = (*PADDED_AXES, "probs")
CHUNK_TARGET = 1 << 20  # bytes


class PymarlH5Reader(PaddedReader):
    """Reads one h5 file of padded arrays, or a folder of them."""

    def __init__(self, path: Path, *arguments: Any):
        super().__init__(path, *arguments)
        self.files: list[h5py.File] = []
        try:
            self.parts = self._open_parts()
            self.align = (getattr(self.parts[0].get("obs"), "chunks", None) or (1,))[0]
            self._prepare(self.layout)
        except DatasetError:
            self.close()
            raise

    def close(self) -> None:
        for file in self.files:
            file.close()

    def _open_parts(self) -> list[dict[str, h5py.Dataset]]:
        parts, problems = [], []
        for path in part_files(self.path):
            file = open_h5(path)
            self.files.append(file)
            with h5_errors(path):
                fields, findings = find_fields(file, dict.fromkeys(self.stored_names))
                if self.options.assume:
                    fields |= find_fields(file, {"actions_onehot": None})[0]
            parts.append(fields)
            where = f"{path.name}: " if self.path.is_dir() else ""
            findings = self._needed_only(fields, findings)
            problems += [f"{where}{with_way_out(finding)}" for finding in findings]
        raise_problems(self.path, problems)
        return parts

    def _needed_only(self, fields: dict[str, Any], findings: list[Finding]) -> list[Finding]:
        """The findings without one about indices where one-hot actions take their place."""
        if "actions=onehot" in self.options.assume and "actions_onehot" in fields:
            return [finding for finding in findings if finding.field != "actions"]
        return findings

    def _padded(self, name: str, first: int, last: int) -> np.ndarray:
        with h5_errors(self.path):
            return super()._padded(name, first, last)


class CFCQLReader(PymarlH5Reader):
    """Reads CFCQL's file."""

    layout = "CFCQL's h5"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_file() and len(h5_keys(path, CFCQL_KEYS)) == len(CFCQL_KEYS)


class OffPymarlReader(PymarlH5Reader):
    """Reads OffPyMARL's folder of parts, or one part."""

    layout = "OffPyMARL's h5 parts"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        files = part_files(path)
        if not files or len(h5_keys(files[0], PADDED_AXES)) < len(PADDED_AXES):
            return False
        # A folder of CFCQL's files is not one dataset: each of them is.
        return path.is_file() or not h5_keys(files[0], ["probs"])

    @classmethod
    def resembles(cls, path: Path) -> bool:
        """Whether some of the arrays are there, so that others can be assumed."""
        files = part_files(path)
        return bool(files) and len(h5_keys(files[0], [*PADDED_AXES, "actions_onehot"])) >= 3


def part_files(path: Path) -> list[Path]:
    """The file itself, or the h5 files of the folder in the order of their numbers.

    Parts have the same name but for the number at its end. Other folders have no parts.
    """
    if path.is_file():
        return [path]
    numbers = {file: re.search(r"[0-9]*$", file.stem).group() for file in h5_in(path)}
    names = {file.stem.removesuffix(number) for file, number in numbers.items()}
    if len(names) != 1:
        return []
    return sorted(numbers, key=lambda file: (int(numbers[file] or 0), file.name))


def h5_in(folder: Path) -> list[Path]:
    """The h5 files of a folder by name. Hidden ones are unfinished and left out."""
    return [
        file
        for file in sorted(folder.glob("*.h5"))
        if file.is_file() and not file.name.startswith(".")
    ]


def write_offpymarl(reader: Reader, path: Path, title: str) -> None:
    """Checks all episodes of a reader and writes them as one part of OffPyMARL's.

    As there, a truncated episode has no `terminated` and L + 1 filled rows.

    Args:
        title: shown with the progress.

    Raises:
        DatasetError: the episodes fail a check.
    """
    n_rows = int(reader.lengths.max()) + 1
    with new_h5(path) as (file, disk):
        _create_part(file, reader, n_rows)
        for block in reader.shown_blocks(title):
            block.check()
            _write_part(file, block, n_rows)
            disk.check()


def _create_part(file: h5py.File, reader: Reader, n_rows: int) -> None:
    sizes = reader.sizes
    per_row = {
        "state": ((sizes.state,), np.float32),
        "obs": ((sizes.n_agents, sizes.obs), np.float32),
        "actions": ((sizes.n_agents, 1), np.int64),
        "actions_onehot": ((sizes.n_agents, sizes.n_actions), np.float32),
        "avail_actions": ((sizes.n_agents, sizes.n_actions), np.int32),
        "reward": ((1,), np.float32),
        "terminated": ((1,), np.uint8),
        "filled": ((1,), np.int64),
    }
    for name, (shape, dtype) in per_row.items():
        episode_bytes = n_rows * int(np.prod(shape)) * np.dtype(dtype).itemsize
        per_chunk = min(reader.n_episodes, max(1, CHUNK_TARGET // episode_bytes))
        file.create_dataset(
            name,
            shape=(reader.n_episodes, n_rows, *shape),
            dtype=dtype,
            chunks=(per_chunk, n_rows, *shape),
            compression="gzip",
            compression_opts=4,
        )


def _write_part(file: h5py.File, block: EpisodeData, n_rows: int) -> None:
    """Pads the episodes of a block and writes them to their place in the file."""
    kept = np.arange(n_rows) <= block.lengths[:, None]
    n_actions = block.avail_actions.shape[-1]
    rows = {name: getattr(block, name) for name in PADDED_AXES if name != "filled"}
    rows["filled"] = np.ones(len(block.reward))
    rows["actions_onehot"] = np.arange(n_actions) == block.actions[..., None]
    first = block.first_episode
    for name, values in rows.items():
        field = file[name]
        padded = np.zeros((block.n_episodes, *field.shape[1:]), dtype=field.dtype)
        padded[kept] = values.reshape(len(values), *field.shape[2:])
        field[first : first + block.n_episodes] = padded

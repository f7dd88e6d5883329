"""h5 files of PyMARL episode batches: CFCQL's single files, and OffPyMARL's folders of parts.

CFCQL (Shao et al. 2023): one file `{map}_{quality}.h5`, with `probs`, which is zero wherever it was not switched on.
OffPyMARL: a folder with `part_0.h5`, `part_1.h5`, ..., with `actions_onehot`; files converted from Vaults also hold
`corrected_terminated`, which ends episodes a step early and is not used here.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from inspo.data.episode_data import Finding
from inspo.data.formats.h5_files import find_fields, h5_errors, h5_keys, open_h5
from inspo.data.formats.padded import PADDED_AXES, PaddedReader
from inspo.data.formats.reader import Reader
from inspo.data.formats.schema import raise_problems
from inspo.data.formats.staging import StagingFolder
from inspo.utils.errors import DatasetError
from inspo.utils.files import write_atomically
from inspo.utils.progress import Progress

CFCQL_KEYS = (*PADDED_AXES, "probs")


class PymarlH5Reader(PaddedReader):
    """Reads one h5 file of padded arrays, or a folder of them."""

    def __init__(self, path: Path, findings: list[Finding] | None = None):
        super().__init__(path, findings)
        self.files: list[h5py.File] = []
        try:
            problems: list[str] = []
            self.parts = []
            for file in part_files(path):
                self.files.append(open_h5(file))
                with h5_errors(file):
                    fields, wrong = find_fields(self.files[-1], PADDED_AXES)
                self.parts.append(fields)
                problems += [
                    f"{file.name}: {finding}" if path.is_dir() else str(finding)
                    for finding in wrong
                ]
            raise_problems(path, problems)
            self.align = (self.parts[0]["obs"].chunks or (1,))[0]
            self._prepare(self.layout)
        except DatasetError:
            self.close()
            raise

    def close(self) -> None:
        for file in self.files:
            file.close()

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
        return path.is_file() or not h5_keys(
            files[0], ["probs"]
        )  # a folder of CFCQL's is no dataset: each file is one


def part_files(path: Path) -> list[Path]:
    """The parts of a dataset in the order of their numbers: the file itself, or the h5 files of the folder.

    None if these are not parts of one thing: parts have one name, but for the number at its end.
    """
    if path.is_file():
        return [path]
    files = h5_in(path)
    numbers = {file: re.search(r"[0-9]*$", file.stem).group() for file in files}
    names = {file.stem.removesuffix(number) for file, number in numbers.items()}
    return (
        sorted(files, key=lambda file: (int(numbers[file] or 0), file.name))
        if len(names) == 1
        else []
    )


def h5_in(folder: Path) -> list[Path]:
    """The h5 files of a folder by name. Hidden ones are unfinished work and left out."""
    return sorted(
        file for file in folder.glob("*.h5") if file.is_file() and not file.name.startswith(".")
    )


def write_offpymarl(reader: Reader, path: Path, title: str, verify: Callable[[Path], None]) -> None:
    """Writes all of a reader's episodes as one part of OffPyMARL's, a block at a time; whole or not at all.

    An episode that was truncated is stored as there: `terminated` nowhere, L + 1 rows filled.

    Args:
        verify: called with the finished file before it gets its name; raises if it is not as it should be.

    Raises:
        DatasetError: the episodes fail a check.
        FileExistsError: nothing is written over.
    """
    place = StagingFolder(path)
    place.take()
    try:
        shutil.rmtree(place.folder, ignore_errors=True)  # what a kill left: it is begun anew
        with write_atomically(path, place.folder) as temporary:
            _write_part(reader, temporary, title)
            verify(temporary)
    finally:
        shutil.rmtree(place.folder, ignore_errors=True)
        place.leave()


def _write_part(reader: Reader, path: Path, title: str) -> None:
    sizes, rows = reader.sizes, int(reader.lengths.max()) + 1
    shapes = {
        "state": ((sizes.state,), np.float32),
        "obs": ((sizes.n_agents, sizes.obs), np.float32),
        "actions": ((sizes.n_agents, 1), np.int64),
        "actions_onehot": ((sizes.n_agents, sizes.n_actions), np.float32),
        "avail_actions": ((sizes.n_agents, sizes.n_actions), np.int32),
        "reward": ((1,), np.float32),
        "terminated": ((1,), np.uint8),
        "filled": ((1,), np.int64),
    }
    shown = Progress(reader.n_episodes, title)
    with h5py.File(path, "w") as file:
        for name, (shape, dtype) in shapes.items():
            whole = (reader.n_episodes, rows, *shape)
            row_bytes = rows * int(np.prod(shape)) * np.dtype(dtype).itemsize
            chunk = (min(reader.n_episodes, max(1, (1 << 20) // row_bytes)), *whole[1:])
            file.create_dataset(
                name, shape=whole, dtype=dtype, chunks=chunk, compression="gzip", compression_opts=4
            )
        for block in reader.blocks():
            block.check()
            place = slice(block.first_episode, block.first_episode + block.n_episodes)
            kept = np.arange(rows) <= block.lengths[:, None]
            onehot = np.arange(sizes.n_actions) == block.actions[..., None]
            for name, (shape, dtype) in shapes.items():
                padded = np.zeros((block.n_episodes, rows, *shape), dtype=dtype)
                values = {"filled": np.ones(len(block.reward)), "actions_onehot": onehot}.get(name)
                values = getattr(block, name) if values is None else values
                padded[kept] = values.reshape(len(values), *shape)
                file[name][place] = padded
            shown.advance(block.n_episodes)
    shown.close()

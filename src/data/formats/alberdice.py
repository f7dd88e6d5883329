"""AlberDICE's folders (Matsunaga et al. 2023): an npy file per padded array, and meta.json."""

from pathlib import Path
from typing import Any

from inspo.data.episode_data import Finding
from inspo.data.formats.assume import with_way_out
from inspo.data.formats.metadata import load_json
from inspo.data.formats.npy import NpyArray
from inspo.data.formats.padded import PaddedReader
from inspo.data.formats.schema import array_problem
from inspo.utils.errors import DatasetError


class AlberDICEReader(PaddedReader):
    """Reads a folder of npy files.

    AlberDICE gives every agent the state as its observation where obs.npy is missing. Here that
    must be asked for, because a file may also have been lost.
    """

    layout = "AlberDICE's npy folder"

    def __init__(self, path: Path, *arguments: Any):
        super().__init__(path, *arguments)
        problems: list[str] = []
        arrays = {}
        for name in self.stored_names:
            try:
                arrays[name] = _open_array(path, name)
            except DatasetError as error:
                problems.append(str(error))
        if problems:
            raise DatasetError("\n  ".join(problems))
        stored = min(len(array) for array in arrays.values())
        n_episodes = _count_episodes(path, stored)
        for array in arrays.values():
            array.keep_first(n_episodes)
        self.parts = [arrays]
        self._prepare(self.layout)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        names = ("obs.npy", "state.npy")
        return path.is_dir() and any((path / name).exists() for name in names)


def _open_array(path: Path, name: str) -> NpyArray:
    file = path / f"{name}.npy"
    if file.exists() and not file.is_file():
        raise DatasetError(f"{file}: not a regular file")
    try:
        array = NpyArray(file)
    except FileNotFoundError:
        finding = with_way_out(Finding(name, f"missing: there is no {file.name}"))
        raise DatasetError(f"{path}: {finding}") from None
    except Exception as error:  # noqa: BLE001 - NumPy raises many kinds for a damaged header
        problem = "cannot be read (truncated or damaged?)"
        raise DatasetError(f"{file}: {problem}: {error}") from None
    if problem := array_problem(array, None):
        raise DatasetError(f"{path}: {with_way_out(Finding(name, problem))}")
    return array


def _count_episodes(path: Path, stored: int) -> int:
    """How many of the stored episodes were recorded."""
    file = path / "meta.json"
    if file.exists() and not file.is_file():
        raise DatasetError(f"{file}: not a regular file")
    try:
        meta = load_json(file)
        count = meta["episodes_in_buffer"]
        if type(count) is not int:
            raise TypeError(f"not a whole number: {count!r:.80}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = "meta.json must say 'episodes_in_buffer'"
        raise DatasetError(f"{path}: {problem}: {error}") from None
    if not 0 < count <= stored:
        problem = f"meta.json says {count} episodes, the arrays hold {stored}"
        raise DatasetError(f"{path}: {problem}")
    return count

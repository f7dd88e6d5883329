"""AlberDICE's folders (Matsunaga et al. 2023): one npy file for each padded array, and meta.json."""

import json
import operator
from pathlib import Path

import numpy as np

from inspo.data.episode_data import Finding
from inspo.data.formats.padded import PADDED_AXES, PaddedReader
from inspo.data.formats.schema import raise_problems
from inspo.utils.errors import DatasetError


class AlberDICEReader(PaddedReader):
    """Reads a folder of npy files. Without obs.npy every agent observes the state."""

    layout = "AlberDICE's npy folder"

    def __init__(self, path: Path, findings: list[Finding] | None = None):
        super().__init__(path, findings)
        problems: list[str] = []
        arrays = {}
        for name, ndim in PADDED_AXES.items():
            try:
                arrays[name] = _npy(path, name, ndim)
            except DatasetError as error:
                problems.append(str(error))
        if problems:
            raise DatasetError("\n  ".join(problems))
        episodes = _episodes(path, len(arrays["filled"]))
        self.parts = [{name: array[:episodes] for name, array in arrays.items()}]
        self._prepare(self.layout)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_dir() and ((path / "obs.npy").exists() or (path / "state.npy").exists())


def _npy(path: Path, name: str, ndim: int) -> np.ndarray:
    file = path / f"{name}.npy"
    if name == "obs" and not file.exists():
        state, actions = _npy(path, "state", 3), _npy(path, "actions", 4)
        return np.broadcast_to(
            state[:, :, None], (*state.shape[:2], actions.shape[2], state.shape[2])
        )
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of arrays, not one array")
    except FileNotFoundError:
        raise DatasetError(f"{path}: field '{name}': missing: there is no {file.name}") from None
    except Exception as error:  # noqa: BLE001 - what numpy raises over a damaged header is not one kind of error
        raise DatasetError(f"{file}: cannot be read (truncated or damaged?): {error}") from None
    problem = ""
    if array.dtype.kind not in "biuf":
        problem = f"holds {array.dtype}, not numbers"
    elif array.ndim != ndim:
        problem = f"has shape {array.shape}; expected {ndim} axes"
    elif not array.size:
        problem = f"has shape {array.shape}: there is nothing in it"
    if problem:
        raise_problems(path, [Finding(name, problem)])
    return array


def _episodes(path: Path, stored: int) -> int:
    try:
        count = operator.index(json.loads((path / "meta.json").read_text())["episodes_in_buffer"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f"{path}: meta.json must say 'episodes_in_buffer': {error}") from None
    if not 0 < count <= stored:
        raise DatasetError(f"{path}: meta.json says {count} episodes, the arrays hold {stored}")
    return count

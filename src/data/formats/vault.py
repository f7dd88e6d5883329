"""OG-MARL's Vaults (flashbax), read with tensorstore alone: `{scenario}.vlt/{uid}/`.

A uid holds zarr arrays in one OCDBT store. They are one timeline: row t holds what was seen before
action t, the action, and the reward and the flags after it. There is no final observation. An
episode ends where the `terminals` or the `truncations` of all agents are set. A truncated episode
loses its last transition, because its outcome was not recorded. So does the unfinished tail.
"""

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inspo.data.arrays import Sizes
from inspo.data.episode_data import Finding, differing_agents
from inspo.data.formats.h5_files import COMPRESSION_LIMIT, large_chunk
from inspo.data.formats.metadata import load_json
from inspo.data.formats.reader import BLOCK_BYTES
from inspo.data.formats.schema import check_index, raise_problems
from inspo.data.formats.timeline import CONTINUOUS, TimelineReader, not_flags
from inspo.utils.errors import DatasetError

# Names in the store and numbers of axes. The first axis of every array has size 1.
REQUIRED = {"observations": 4, "actions": 3, "rewards": 3, "terminals": 3}
OPTIONAL = {"truncations": 3, "infos.legals": 4, "infos.state": 3}
CACHE_BYTES = 1 << 26
log = logging.getLogger(__name__)


class VaultReader(TimelineReader):
    """Reads one uid of a Vault; needs the extra `vault` (tensorstore)."""

    layout = "OG-MARL's Vault"

    def __init__(self, path: Path, *arguments: Any):
        super().__init__(path, *arguments)
        self.folder = _uid_folder(path)
        self.arrays = self._open()
        self.n_rows = self._read_index()
        raise_problems(path, list(self._wrong_shapes()))
        check_index(path, self.n_rows, "rows")
        self._find_episodes()
        self.sizes = self._find_sizes()
        raise_problems(path, self._unusable_sizes())
        self.metadata = {
            "behaviour": f"Vault {self.folder.name}",
            "source": str(path),
            "final_observation": "zeros where an episode terminated: the source has none",
        }
        self._note_scalarisation(self.arrays["rewards"].shape[2])
        if "infos.state" not in self.arrays:
            self.metadata["state"] = "all observations, side by side: the source has none"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_dir() and bool(_uid_folders(path))

    def _open(self) -> dict[str, Any]:
        """The store's arrays, not read yet."""
        try:
            import tensorstore as ts
        except ImportError:
            raise DatasetError(
                f"{self.path} is a Vault: reading it needs tensorstore; "
                "pip install tensorstore (the extra 'vault')"
            ) from None
        # A chunk holds more rows than a block, so keep it for the next block.
        context = ts.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}})
        base = f"file://{self.folder.resolve()}"
        arrays = {}
        for name in ("vault_index", *REQUIRED, *OPTIONAL):
            key = name if name == "vault_index" else f"{name}."
            store = {"driver": "ocdbt", "base": base, "path": key}
            spec = {"driver": "zarr", "kvstore": store}
            try:
                opening = ts.open(spec, open=True, read=True, context=context)
                arrays[name] = opening.result()
            except ValueError as error:
                if "NOT_FOUND" not in str(error):
                    problem = f"cannot be opened (damaged?): {error}"[:300]
                    raise_problems(self.path, [Finding(name, problem)])
        missing = [name for name in ("vault_index", *REQUIRED) if name not in arrays]
        raise_problems(self.path, [Finding(name, "missing") for name in missing])
        return arrays

    def _read_index(self) -> int:
        """How many rows were recorded."""
        array = self.arrays.pop("vault_index")
        if array.dtype.numpy_dtype.kind not in "iu" or math.prod(array.shape) != 1:
            dtype, shape = array.dtype.numpy_dtype, tuple(array.shape)
            problem = f"holds {dtype} of shape {shape}, not one whole number"
            raise_problems(self.path, [Finding("vault_index", problem)])
        return int(self._get(array, "vault_index").item())

    def _wrong_shapes(self) -> Iterator[Finding]:
        unusable = False
        for name, array in self.arrays.items():
            if problem := _array_problem(name, array):
                unusable = True
                yield Finding(name, problem)
        if unusable:
            return
        for name, array in self.arrays.items():
            room = array.shape[1]
            if not 0 < self.n_rows <= room:
                problem = f"says {self.n_rows} rows; field '{name}' has room for {room}"
                yield Finding("vault_index", problem)
        per_agent = dict(self.arrays)
        per_agent.pop("infos.state", None)
        yield from differing_agents(per_agent, axis=2)
        yield from self._false_claim()

    def _false_claim(self) -> Iterator[Finding]:
        """A finding if the store cannot hold as many rows as it claims."""
        row_bytes = 0
        for array in self.arrays.values():
            row_bytes += math.prod(array.shape[2:]) * array.dtype.numpy_dtype.itemsize
        claimed = self.n_rows * row_bytes
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        stored = sum(file.stat().st_size for file in files)
        if claimed > COMPRESSION_LIMIT * stored:
            problem = f"claims {self.n_rows} rows, {claimed} bytes; {stored} are stored"
            yield Finding("vault_index", problem)

    def _find_episodes(self) -> None:
        """Sets `begins`, `lengths`, `cut` and `has_final`."""
        ended, terminated = self._read_flags()
        ends = np.flatnonzero(ended)
        starts = np.concatenate(([0], ends + 1))
        terminated = terminated[ends]
        # The last row of a truncated episode becomes its final observation.
        lengths = ends - starts[:-1] + terminated
        kept = lengths > 0
        if not kept.any():
            problem = "no episode ends: there is none to learn from"
            raise_problems(self.path, [Finding("terminals", problem)])
        left_out = int((~kept).sum())
        n_tail = self.n_rows - int(starts[-1])
        n_single = int((lengths == 1).sum())
        if n_tail:
            text = "%s: its last %d rows belong to an unfinished episode and are left out"
            log.warning(text, self.path, n_tail)
        if left_out:
            text = "%s: %d truncated episodes of one row are left out"
            log.warning(text, self.path, left_out)
        if n_single:
            text = "%s: %d episodes have one step; a faulty subsampling leaves such"
            log.warning(text, self.path, n_single)
        self.lengths = lengths[kept].astype(np.int64)
        self.begins = starts[:-1][kept]
        self.cut = ~terminated[kept]
        self.has_final = self.cut

    def _read_flags(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether an episode ends with each row, and whether it terminates; bool [rows] each."""
        ended, terminated = [], []
        first_row = 0
        for part in self._parts("terminals", "truncations"):
            for name in ("terminals", "truncations"):
                if name in part:
                    problems = list(not_flags(name, part[name], first_row))
                    raise_problems(self.path, problems)
            game_over = (part["terminals"] != 0).all(axis=1)
            ends = game_over
            if "truncations" in part:
                ends = game_over | (part["truncations"] != 0).all(axis=1)
            ended.append(ends)
            terminated.append(game_over)
            first_row += len(game_over)
        return np.concatenate(ended), np.concatenate(terminated)

    def _find_sizes(self) -> Sizes:
        n_agents, n_obs = self.arrays["observations"].shape[2:]
        if "infos.legals" in self.arrays:
            n_actions = self.arrays["infos.legals"].shape[-1]
        else:
            largest = [int(part["actions"].max()) for part in self._parts("actions")]
            n_actions = 1 + max(largest)
        n_state = n_agents * n_obs
        if "infos.state" in self.arrays:
            n_state = self.arrays["infos.state"].shape[-1]
        return Sizes(n_agents, n_actions, n_obs, n_state)

    def _parts(self, *names: str) -> Iterator[dict[str, np.ndarray]]:
        """Fields of the whole timeline, a bounded number of rows at a time."""
        step = max(1, BLOCK_BYTES // (16 * self.arrays["observations"].shape[2]))
        present = [name for name in names if name in self.arrays]
        for start in range(0, self.n_rows, step):
            yield self._read(present, start, min(start + step, self.n_rows))

    def _read(self, names: Iterable[str], start: int, end: int) -> dict[str, np.ndarray]:
        """The rows start..end-1 of some fields."""
        return {name: self._get(self.arrays[name][0, start:end], name) for name in names}

    def _slice(self, start: int, end: int) -> dict[str, np.ndarray]:
        raw = self._read(self.arrays, start, end)
        obs = raw["observations"]
        n_rows, n_agents = obs.shape[:2]
        state = raw.get("infos.state", obs.reshape(n_rows, -1))
        all_available = np.ones((n_rows, n_agents, self.sizes.n_actions))
        return {
            "state": state.copy(),
            "obs": obs.copy(),
            "actions": raw["actions"].reshape(n_rows, -1).astype(np.int64),
            "avail_actions": raw.get("infos.legals", all_available).copy(),
            "reward": raw["rewards"].copy(),
        }

    def _get(self, array: Any, name: str) -> np.ndarray:
        try:
            return np.asarray(array.read().result())
        except (ValueError, OSError, RuntimeError) as error:
            problem = f"cannot be read (damaged?): {str(error)[:300]}"
            raise DatasetError(f"{self.path}: field '{name}': {problem}") from None


def _array_problem(name: str, array: Any) -> str:
    """Why an array of the store cannot be used; empty if it can."""
    n_axes = (REQUIRED | OPTIONAL)[name]
    dtype = np.dtype(array.dtype.numpy_dtype)
    shape = tuple(array.shape)
    if name == "actions" and len(shape) == 4 and shape[-1] == 1:
        shape = shape[:-1]
    if dtype.kind not in "biuf":
        return f"holds {dtype}, not numbers"
    if name == "actions" and (dtype.kind == "f" or len(shape) == 4):
        return CONTINUOUS.format(shape=shape, dtype=dtype)
    if len(shape) != n_axes or shape[0] != 1 or 0 in shape:
        return f"has shape {shape}; expected {n_axes} axes, the first of size 1"
    return large_chunk(array.chunk_layout.read_chunk.shape, dtype)


def _uid_folders(path: Path) -> list[Path]:
    if (path / "manifest.ocdbt").is_file():
        return [path]
    return sorted(folder.parent for folder in path.glob("*/manifest.ocdbt"))


def _uid_folder(path: Path) -> Path:
    """The folder of the only uid, of a known version."""
    folders = _uid_folders(path)
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        problem = f"give the path of one of them: {names}"
        raise DatasetError(f"{path}: a Vault with several datasets; {problem}")
    for file in folders[0].rglob("*"):
        if not file.is_file() and not file.is_dir():
            raise DatasetError(f"{file}: not a regular file")
    try:
        metadata = load_json(folders[0] / "metadata.json")
        version = metadata.get("version")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        problem = "metadata.json of the Vault cannot be read"
        raise DatasetError(f"{path}: {problem}: {error}") from None
    if not isinstance(version, float | int) or int(version) != 1:
        raise DatasetError(f"{path}: Vault version {version}; this code reads version 1")
    return folders[0]

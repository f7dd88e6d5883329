"""OG-MARL's Vaults (flashbax), read with tensorstore alone: `{scenario}.vlt/{uid}/`, zarr arrays in one OCDBT store.

A Vault is one timeline: row t holds what was seen before action t, the action, and the reward and the flags after it.
There is no final observation. An episode ends where all agents' `terminals` are set, or all agents' `truncations`. One
that was only truncated loses its last transition, whose outcome nobody recorded; so does the unfinished tail.
"""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inspo.data.episode_data import Finding
from inspo.data.formats.h5_files import COMPRESSION_LIMIT
from inspo.data.formats.reader import BLOCK_BYTES
from inspo.data.formats.schema import Sizes, raise_problems
from inspo.data.formats.timeline import CONTINUOUS, TimelineReader, not_flags
from inspo.utils.errors import DatasetError

# Names in the store and numbers of axes, with the leading axis of 1 that every array has.
REQUIRED = {"observations": 4, "actions": 3, "rewards": 3, "terminals": 3}
CACHE_BYTES = 1 << 26
OPTIONAL = {"truncations": 3, "infos.legals": 4, "infos.state": 3}
log = logging.getLogger(__name__)


class VaultReader(TimelineReader):
    """Reads one uid of a Vault; needs the extra `vault` (tensorstore)."""

    layout = "OG-MARL's Vault"

    def __init__(self, path: Path, findings: list[Finding] | None = None):
        super().__init__(path, findings)
        self.folder = _uid_folder(path)
        self.arrays, self.rows = self._open()
        raise_problems(path, list(self._wrong_shapes()))
        self._find_episodes()
        first = self.arrays["observations"]
        legals = self.arrays.get("infos.legals")
        n_actions = legals.shape[-1] if legals is not None else self._largest_action() + 1
        n_agents, n_obs = first.shape[2:]
        n_state = (
            self.arrays["infos.state"].shape[-1]
            if "infos.state" in self.arrays
            else n_agents * n_obs
        )
        self.sizes = Sizes(n_agents, n_actions, n_obs, n_state)
        raise_problems(path, self._unusable_sizes())
        self.metadata = {"behaviour": f"Vault {self.folder.name}", "source": str(path)}
        self.metadata["final_observation"] = (
            "zeros where an episode terminated: the source has none"
        )
        if self.rewards_differ:
            log.warning("%s: the agents' rewards differ; their mean is taken", path)
            self.metadata["reward"] = "mean over the agents, whose rewards differ"
        if "infos.state" not in self.arrays:
            self.metadata["state"] = "all observations, side by side: the source has none"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_dir() and bool(_uid_folders(path))

    def _open(self) -> tuple[dict[str, Any], int]:
        """The store's arrays, not read yet, and the number of rows written to them."""
        try:
            import tensorstore as ts
        except ImportError:
            raise DatasetError(
                f"{self.path} is a Vault: reading it needs tensorstore; pip install tensorstore (the extra 'vault')"
            ) from None
        # A chunk holds more rows than a block: keep it for the next one.
        context = ts.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}})
        arrays = {}
        for name in ("vault_index", *(f"{name}." for name in (*REQUIRED, *OPTIONAL))):
            store = {"driver": "ocdbt", "base": f"file://{self.folder.resolve()}", "path": name}
            try:
                arrays[name.rstrip(".")] = ts.open(
                    {"driver": "zarr", "kvstore": store}, open=True, read=True, context=context
                ).result()
            except ValueError as error:
                if "NOT_FOUND" not in str(error):
                    raise_problems(
                        self.path,
                        [Finding(name.rstrip("."), f"cannot be opened (damaged?): {error}"[:300])],
                    )
        if missing := [name for name in ("vault_index", *REQUIRED) if name not in arrays]:
            raise_problems(self.path, [Finding(name, "missing") for name in missing])
        return arrays, int(self._get(arrays.pop("vault_index"), "vault_index").ravel()[0])

    def _wrong_shapes(self) -> Iterator[Finding]:
        for name, array in self.arrays.items():
            ndim = (REQUIRED | OPTIONAL)[name]
            dtype = np.dtype(array.dtype.numpy_dtype)
            shape = tuple(array.shape)
            if name == "actions" and len(shape) == 4 and shape[-1] == 1:
                shape = shape[:-1]
            if dtype.kind not in "biuf":
                yield Finding(name, f"holds {dtype}, not numbers")
            elif name == "actions" and (dtype.kind == "f" or len(shape) == 4):
                yield Finding(name, CONTINUOUS.format(shape=shape, dtype=dtype))
            elif len(shape) != ndim or shape[0] != 1 or 0 in shape:
                yield Finding(name, f"has shape {shape}; expected {ndim} axes, the first of size 1")
            elif not 0 < self.rows <= shape[1]:
                yield Finding(
                    "vault_index", f"says {self.rows} rows; field '{name}' has room for {shape[1]}"
                )
        agents = {
            name: array.shape[2] for name, array in self.arrays.items() if name != "infos.state"
        }
        if len(set(agents.values())) > 1:
            yield Finding("observations", f"the fields disagree on the number of agents: {agents}")
        row_bytes = sum(
            math.prod(array.shape[2:]) * array.dtype.numpy_dtype.itemsize
            for array in self.arrays.values()
        )
        stored = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        if self.rows * row_bytes > COMPRESSION_LIMIT * stored:
            yield Finding(
                "vault_index",
                f"claims {self.rows} rows, {self.rows * row_bytes} bytes; {stored} are stored",
            )

    def _find_episodes(self) -> None:
        ended, terminated, self.rewards_differ = [], [], False
        for part in self._parts("terminals", "truncations", "rewards"):
            self.rewards_differ |= bool((part["rewards"] != part["rewards"][:, :1]).any())
            for name in ("terminals", "truncations"):
                raise_problems(
                    self.path,
                    list(not_flags(name, part.get(name, np.zeros(1)), sum(map(len, ended)))),
                )
            game_over = (part["terminals"] != 0).all(axis=1)
            cut = (
                (part["truncations"] != 0).all(axis=1)
                if "truncations" in part
                else np.zeros_like(game_over)
            )
            ended.append(game_over | cut)
            terminated.append(game_over)
        ends = np.flatnonzero(np.concatenate(ended))
        starts = np.concatenate(([0], ends + 1))
        if (tail := self.rows - int(starts[-1])) > 0:
            log.warning(
                "%s: its last %d rows belong to an unfinished episode and are left out",
                self.path,
                tail,
            )
        terminated = np.concatenate(terminated)[ends]
        lengths = (
            ends - starts[:-1] + terminated
        )  # a truncated episode's last row becomes its final observation
        kept = lengths > 0
        if not kept.any():
            raise_problems(
                self.path, [Finding("terminals", "no episode ends: there is none to learn from")]
            )
        if not kept.all():
            log.warning(
                "%s: %d truncated episodes of one row are left out", self.path, (~kept).sum()
            )
        if single := int((lengths == 1).sum()):
            log.warning(
                "%s: %d episodes have one step; a faulty subsampling leaves such", self.path, single
            )
        self.lengths, self.begins = lengths[kept].astype(np.int64), starts[:-1][kept]
        self.has_final, self.cut = ~terminated[kept], ~terminated[kept]

    def _largest_action(self) -> int:
        return max(int(part["actions"].max()) for part in self._parts("actions"))

    def _parts(self, *names: str) -> Iterator[dict[str, np.ndarray]]:
        """Fields of the whole timeline, a bounded number of rows at a time."""
        step = max(1, BLOCK_BYTES // (16 * self.arrays["observations"].shape[2]))
        for start in range(0, self.rows, step):
            end = min(start + step, self.rows)
            yield {
                name: self._get(self.arrays[name][0, start:end], name)
                for name in names
                if name in self.arrays
            }

    def _slice(self, start: int, end: int) -> dict[str, np.ndarray]:
        raw = {name: self._get(array[0, start:end], name) for name, array in self.arrays.items()}
        obs = raw["observations"]
        avail = raw.get("infos.legals")
        return {
            "state": raw.get("infos.state", obs.reshape(len(obs), -1)).copy(),
            "obs": obs.copy(),
            "actions": raw["actions"].reshape(len(obs), -1).astype(np.int64),
            "avail_actions": np.ones((*obs.shape[:2], self.sizes.n_actions))
            if avail is None
            else avail.copy(),
            "reward": raw["rewards"].mean(axis=1, dtype=np.float64),
        }

    def _get(self, array: Any, name: str) -> np.ndarray:
        try:
            return np.asarray(array.read().result())
        except (ValueError, OSError, RuntimeError) as error:
            raise DatasetError(
                f"{self.path}: field '{name}': cannot be read (damaged?): {str(error)[:300]}"
            ) from None


def _uid_folders(path: Path) -> list[Path]:
    if (path / "manifest.ocdbt").is_file():
        return [path]
    return sorted(folder.parent for folder in path.glob("*/manifest.ocdbt"))


def _uid_folder(path: Path) -> Path:
    folders = _uid_folders(path)
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise DatasetError(
            f"{path}: a Vault with several datasets; give the path of one of them: {names}"
        )
    try:
        version = json.loads((folders[0] / "metadata.json").read_text()).get("version")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{path}: metadata.json of the Vault cannot be read: {error}") from None
    if not isinstance(version, float | int) or int(version) != 1:
        raise DatasetError(f"{path}: Vault version {version}; this code reads version 1")
    return folders[0]

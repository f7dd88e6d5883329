"""Episodes written in other projects' layouts, as those projects write them."""

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from inspo.data.episode_data import EpisodeData
from inspo.data.formats import ROW_FIELDS


def padded_arrays(data: EpisodeData, rows: int | None = None) -> dict[str, np.ndarray]:
    """PyMARL's episode batches [E, T, ...]. L + 1 rows are filled, the last with an action."""
    rows = rows or int(data.lengths.max()) + 1
    arrays = {}
    dtypes = {"actions": np.int64, "avail_actions": np.int32, "terminated": np.uint8}
    for name in ROW_FIELDS:
        if name == "truncated":
            continue
        values = getattr(data, name)
        padded = np.zeros(
            (data.n_episodes, rows, *values.shape[1:]), dtype=dtypes.get(name, np.float32)
        )
        for episode, (start, length) in enumerate(zip(data.starts, data.lengths, strict=True)):
            padded[episode, : length + 1] = values[start : start + length + 1]
            if name == "actions":
                padded[episode, length] = 1
        arrays[name] = padded[..., None] if name in ("actions", "reward", "terminated") else padded
    arrays["filled"] = (np.arange(rows) <= data.lengths[:, None]).astype(np.int64)[..., None]
    return arrays


def without_final_rows(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same as OffPyMARL converts it from Vaults, with L rows filled."""
    arrays = {name: array.copy() for name, array in arrays.items()}
    final = arrays["filled"][..., 0].sum(axis=1) - 1
    for array in arrays.values():
        array[np.arange(len(final)), final] = 0
    return arrays


def ended(data: EpisodeData, truncated: Sequence[int] = ()) -> EpisodeData:
    """The same episodes, all terminated except those with the given numbers."""
    last = data.final_rows - 1
    data.truncated[last] = np.isin(np.arange(data.n_episodes), truncated)
    data.terminated[last] = ~data.truncated[last]
    return data


def blank_finals(data: EpisodeData, episodes: Sequence[int] | None = None) -> EpisodeData:
    """The same episodes, with what replaces final observations that a layout does not store."""
    final = data.final_rows if episodes is None else data.final_rows[episodes]
    data.state[final], data.obs[final] = 0, 0
    data.avail_actions[final] = np.arange(data.avail_actions.shape[-1]) == 0
    return data


def write_alberdice(data: EpisodeData, folder: Path, **change) -> dict[str, np.ndarray]:
    """AlberDICE's npy folder; `change` replaces arrays, or leaves them out (None)."""
    arrays = padded_arrays(data)
    folder.mkdir()
    for name, values in {**arrays, **change}.items():
        if values is not None:
            np.save(folder / f"{name}.npy", values)
    (folder / "meta.json").write_text(json.dumps({"episodes_in_buffer": data.n_episodes}))
    return arrays


def write_cfcql(data: EpisodeData, path: Path, rows: int | None = None) -> None:
    """CFCQL's file: a resizable first axis, chunked, uncompressed, `probs` all zero."""
    arrays = padded_arrays(data, rows)
    arrays["probs"] = np.zeros_like(arrays["avail_actions"], dtype=np.float32)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, maxshape=(None, *array.shape[1:]))


def write_offpymarl(parts: list[dict[str, np.ndarray]], folder: Path) -> None:
    """OffPyMARL's parts: gzip 9, `actions_onehot`."""
    folder.mkdir(parents=True)
    for number, arrays in enumerate(parts):
        onehot = arrays["actions"] == np.arange(arrays["avail_actions"].shape[-1])
        arrays = {
            **arrays,
            "actions_onehot": (onehot & (arrays["filled"][..., None] == 1)).astype(np.float32),
        }
        with h5py.File(folder / f"part_{number}.h5", "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, compression="gzip", compression_opts=9)


def write_omiga(data: EpisodeData, path: Path, onehot: bool = False) -> None:
    """OMIGA's hdf5: flat rows, the last of each episode with `d` set; one state for every agent."""
    n_agents, n_actions = data.avail_actions.shape[1:]
    done = np.zeros((len(data.reward), 1))
    done[data.final_rows] = 1
    actions = (
        np.eye(n_actions)[data.actions] if onehot else data.actions[..., None].astype(np.float64)
    )
    with h5py.File(path, "w") as file:
        file["s"] = np.repeat(data.state[:, None], n_agents, axis=1)
        file["o"], file["a"], file["r"], file["d"] = data.obs, actions, data.reward, done


def vault_leaves(data: EpisodeData) -> dict[str, np.ndarray]:
    """OG-MARL's timeline of the episodes, without their final rows."""
    rows = np.setdiff1d(np.arange(len(data.reward)), data.final_rows)
    agents = np.ones(data.actions.shape[1], dtype=np.float32)
    return {
        "observations": data.obs[rows],
        "actions": data.actions[rows].astype(np.int32),
        "rewards": data.reward[rows, None] * agents,
        "terminals": data.terminated[rows, None] * agents,
        "truncations": data.truncated[rows, None] * agents,
        "infos.legals": data.avail_actions[rows].astype(np.float32),
        "infos.state": data.state[rows],
    }


def write_vault(
    leaves: dict[str, np.ndarray],
    folder: Path,
    version: float = 1.2,
    index: np.ndarray | None = None,
) -> None:
    """A Vault as flashbax stores it, written with tensorstore. `index` replaces vault_index."""
    import tensorstore as ts

    folder.mkdir(parents=True)
    rows = len(leaves["observations"])
    arrays = {f"{name}.": array[None] for name, array in leaves.items()} | {
        "vault_index": np.array([rows], np.int32) if index is None else index
    }
    for name, array in arrays.items():
        long = name != "vault_index"
        shape = (1, 10**13, *array.shape[2:]) if long else array.shape
        chunks = (1, 16, *array.shape[2:]) if long else array.shape
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "ocdbt", "base": f"file://{folder}", "path": name},
            "metadata": {
                "compressor": {"id": "gzip", "level": 5},
                "shape": list(shape),
                "chunks": list(chunks),
                "dtype": array.dtype.str,
            },
        }
        store = ts.open(spec, create=True).result()
        (store[:, : array.shape[1]] if long else store).write(array).result()
    (folder / "metadata.json").write_text(json.dumps({"version": version}))


def write_npz(data: EpisodeData, path: Path) -> None:
    """This project's arrays in an npz file."""
    arrays = {name: getattr(data, name) for name in ("lengths", *ROW_FIELDS)}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def write_padded_npz(data: EpisodeData, path: Path) -> None:
    """PyMARL's padded arrays in an npz file."""
    with path.open("wb") as file:
        np.savez(file, **padded_arrays(data))


def write_minari(data: EpisodeData, folder: Path) -> None:
    """A Minari dataset of the first agent, as version 0.5 of the package stores it."""
    (folder / "data").mkdir(parents=True)
    space = {"type": "Discrete", "dtype": "int64", "start": 0, "n": data.avail_actions.shape[-1]}
    stated = {"dataset_id": "test/random-v0", "action_space": json.dumps(space)}
    (folder / "data" / "metadata.json").write_text(json.dumps(stated))
    with h5py.File(folder / "data" / "main_data.hdf5", "w", track_order=True) as file:
        for number, (start, length) in enumerate(zip(data.starts, data.lengths, strict=True)):
            steps = slice(start, start + length)
            group = file.create_group(f"episode_{number}")
            group.attrs["id"] = number
            group.attrs["total_steps"] = length
            arrays = {
                "observations": data.obs[start : start + length + 1, 0],
                "actions": data.actions[steps, 0].astype(np.int64),
                "rewards": data.reward[steps],
                "terminations": data.terminated[steps],
                "truncations": data.truncated[steps],
            }
            for name, values in arrays.items():
                shape = (None, *values.shape[1:])
                group.create_dataset(name, data=values, chunks=True, maxshape=shape)
            group.create_dataset("infos", (length + 1,), h5py.string_dtype())[:] = "{}"

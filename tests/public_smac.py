"""Public datasets of SMAC's maps, small, in the folders that their archives unpack to."""

import shutil
from pathlib import Path

import numpy as np
from conftest import make_data
from public_layouts import (
    ended,
    padded_arrays,
    vault_leaves,
    without_final_rows,
    write_cfcql,
    write_offpymarl,
    write_vault,
)

from inspo.data.episode_data import EpisodeData
from inspo.envs import EnvInfo

# Agents, actions, numbers of an observation and of the state, and the limit of steps.
MAPS = {
    "2s3z": EnvInfo(5, 11, 80, 120, 120),
    "3s_vs_5z": EnvInfo(3, 11, 48, 68, 250),
    "5m_vs_6m": EnvInfo(5, 12, 55, 98, 70),
    "6h_vs_8z": EnvInfo(6, 14, 78, 140, 150),
}
QUALITIES = {
    "CFCQL": ("medium", "expert", "medium_replay", "mixed"),
    "OffPyMARL": ("medium", "expert", "medium-replay"),
    "OffPyMARL from Vaults": ("medium", "expert", "poor"),
    "OG-MARL": ("Expert", "Medium", "Medium-Replay", "Mixed"),
}


def random_battles(map_name: str) -> EpisodeData:
    """Three episodes of random numbers; one reaches the limit.

    These projects store time-outs as terminated.
    """
    info = MAPS[map_name]
    sizes = {"obs_shape": info.obs_shape, "state_shape": info.state_shape}
    lengths = (7, info.episode_limit, 5)
    return ended(make_data(0, info.n_agents, info.n_actions, lengths, **sizes))


def write_public(source: str, map_name: str, root: Path) -> None:
    """Writes all qualities of a source below `root`, with the same episodes in each."""
    first, *others = [_place(source, map_name, quality, root) for quality in QUALITIES[source]]
    first.parent.mkdir(parents=True, exist_ok=True)
    data, rows = random_battles(map_name), MAPS[map_name].episode_limit + 1
    arrays = padded_arrays(data, rows)
    if source == "CFCQL":
        write_cfcql(data, first, rows)
    elif source == "OffPyMARL":
        write_offpymarl([arrays, arrays], first / "seed_1_10_00_00")
    elif source == "OffPyMARL from Vaults":
        write_offpymarl([_corrected(without_final_rows(arrays))], first)
    else:
        write_vault(vault_leaves(data), first)
    for other in others:
        (shutil.copytree if first.is_dir() else shutil.copy)(first, other)


def _place(source: str, map_name: str, quality: str, root: Path) -> Path:
    """Where the archive of a source puts a dataset."""
    return {
        "CFCQL": root / "offline_datasets" / f"{map_name}_{quality}.h5",
        "OffPyMARL": root / "dataset" / "sc2" / map_name / quality,
        "OffPyMARL from Vaults": root / "sc2" / map_name / quality,
        "OG-MARL": root / "vaults" / "cfcql" / "smac_v1" / f"{map_name}.vlt" / quality,
    }[source]


def _corrected(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With the column that the conversion adds: set in the last two filled rows."""
    episodes = np.arange(len(arrays["filled"]))
    last = arrays["filled"][..., 0].sum(axis=1) - 1
    corrected = arrays["terminated"].copy()
    corrected[episodes, last - 1] = corrected[episodes, last] = 1
    return {**arrays, "corrected_terminated": corrected}

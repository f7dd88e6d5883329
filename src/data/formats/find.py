"""Finds other projects' datasets in the folders that their archives unpack to."""

from pathlib import Path

from inspo.data.formats.pymarl_h5 import h5_in

VAULT_DEPTH = 4  # folders between the root and a Vault


def find_public(root: Path, map_name: str, quality: str) -> Path | None:
    """A dataset of another project for a StarCraft II map, laid out as it was downloaded.

    Searched in this order:
        CFCQL      `{map}_{quality}.h5`, in root or in root/offline_datasets
        OffPyMARL  `[dataset/][sc2/]{map}/{quality}[/{token}]/` with h5 parts; the last token
        OG-MARL    `{map}.vlt/{quality}/`, in root or at most four folders below

    Args:
        quality: case, hyphens and underscores do not matter: `medium_replay` finds `Medium-Replay`.

    Returns:
        a path for `load_dataset`, or None.
    """
    return (
        _find_cfcql(root, map_name, quality)
        or _find_offpymarl(root, map_name, quality)
        or _find_vault(root, map_name, quality)
    )


def _find_cfcql(root: Path, map_name: str, quality: str) -> Path | None:
    wanted = _plain(f"{map_name}_{quality}")
    for folder in (root, root / "offline_datasets"):
        for file in _children(folder):
            is_h5 = file.is_file() and file.suffix in (".h5", ".hdf5")
            if is_h5 and _plain(file.stem) == wanted:
                return file
    return None


def _find_offpymarl(root: Path, map_name: str, quality: str) -> Path | None:
    for base in (root, root / "sc2", root / "dataset", root / "dataset" / "sc2"):
        for folder in _children(base / map_name):
            if not folder.is_dir() or _plain(folder.name) != _plain(quality):
                continue
            for candidate in (folder, *reversed(_children(folder))):
                if candidate.is_dir() and h5_in(candidate):
                    return candidate
    return None


def _find_vault(root: Path, map_name: str, quality: str) -> Path | None:
    for depth in range(VAULT_DEPTH + 1):
        for vault in sorted(root.glob("*/" * depth + f"{map_name}.vlt")):
            for folder in _children(vault):
                is_dataset = (folder / "manifest.ocdbt").is_file()
                if is_dataset and _plain(folder.name) == _plain(quality):
                    return folder
    return None


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")

"""Where the datasets of other projects lie, in the folders that their archives unpack to."""

from pathlib import Path

from inspo.data.formats.pymarl_h5 import h5_in


def find_foreign(root: Path, map_name: str, quality: str) -> Path | None:
    """The dataset of a StarCraft II map and quality that somebody put under `root`, laid out as it was downloaded.

    Looked for, in this order:
        `{map}_{quality}.h5`                          CFCQL, in root or in root/offline_datasets
        `[dataset/][sc2/]{map}/{quality}[/{token}]/`  OffPyMARL, with h5 parts; of several tokens the last by name
        `{map}.vlt/{quality}/`                        OG-MARL's Vaults, in root or at most four folders further down
    A quality is found however it writes its hyphens, underscores and capitals: `medium_replay` is `Medium-Replay`.

    Returns:
        a path for `load_dataset`, or None.
    """
    wanted, name = _plain(quality), _plain(f"{map_name}_{quality}")
    for folder in (root, root / "offline_datasets"):
        for file in _children(folder):
            if file.is_file() and file.suffix in (".h5", ".hdf5") and _plain(file.stem) == name:
                return file
    for base in (root, root / "sc2", root / "dataset", root / "dataset" / "sc2"):
        for folder in _children(base / map_name):
            if folder.is_dir() and _plain(folder.name) == wanted:
                for place in (folder, *reversed(_children(folder))):
                    if place.is_dir() and h5_in(place):
                        return place
    for depth in range(5):
        for vault in sorted(root.glob("*/" * depth + f"{map_name}.vlt")):
            for folder in _children(vault):
                if _plain(folder.name) == wanted and (folder / "manifest.ocdbt").is_file():
                    return folder
    return None


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")

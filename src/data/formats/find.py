"""Finds other projects' datasets in the folders that their archives unpack to."""

from collections.abc import Iterator
from pathlib import Path

from inspo.data.formats.pymarl_h5 import h5_in

VAULT_DEPTH = 4  # folders between the root and a Vault


def find_public(root: Path, map_name: str, quality: str) -> Path | None:
    """The first of a map's public datasets of this quality, or None.

    Args:
        quality: case, hyphens and underscores do not matter: `medium_replay` finds `Medium-Replay`.
    """
    wanted = _plain(quality)
    found = public_datasets(root, map_name)
    return next((path for name, path in found if _plain(name) == wanted), None)


def public_datasets(root: Path, map_name: str) -> Iterator[tuple[str, Path]]:
    """Other projects' datasets for a StarCraft II map, laid out as they were downloaded.

    Searched in this order; `root` may also be the map's own folder:
        CFCQL      `{map}_{quality}.h5`, in root or in root/offline_datasets
        OffPyMARL  `[dataset/][sc2/]{map}/{quality}[/{token}]/` with h5 parts; the last token
        OG-MARL    `{map}.vlt/{quality}/`, in root or at most four folders below

    Yields:
        quality, and a path for `load_dataset`.
    """
    if root.name in (map_name, f"{map_name}.vlt"):
        root = root.parent
    yield from _cfcql(root, map_name)
    yield from _offpymarl(root, map_name)
    yield from _vaults(root, map_name)


def _cfcql(root: Path, map_name: str) -> Iterator[tuple[str, Path]]:
    start = f"{_plain(map_name)}_"
    for folder in (root, root / "offline_datasets"):
        for file in _children(folder):
            quality = _plain(file.stem).removeprefix(start)
            is_h5 = file.suffix in (".h5", ".hdf5") and file.is_file()
            # Another map's name may go on, as 3s5z_vs_3s6z does.
            if is_h5 and quality != _plain(file.stem) and not quality.startswith("vs_"):
                yield quality, file


def _offpymarl(root: Path, map_name: str) -> Iterator[tuple[str, Path]]:
    for base in (root, root / "sc2", root / "dataset", root / "dataset" / "sc2"):
        for folder in _children(base / map_name):
            candidates = (folder, *reversed(_children(folder)))
            parts = (path for path in candidates if path.is_dir() and h5_in(path))
            if found := next(parts, None):
                yield folder.name, found


def _vaults(root: Path, map_name: str) -> Iterator[tuple[str, Path]]:
    for depth in range(VAULT_DEPTH + 1):
        for vault in sorted(root.glob("*/" * depth + f"{map_name}.vlt")):
            for folder in _children(vault):
                if (folder / "manifest.ocdbt").is_file():
                    yield folder.name, folder


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")

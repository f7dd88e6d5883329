"""Which reader a dataset needs: told by what is in it, not by what it is called."""

from pathlib import Path

from inspo.data.episode_data import EpisodeData, Finding
from inspo.data.formats import h5_files
from inspo.data.formats.alberdice import AlberDICEReader
from inspo.data.formats.inspo_h5 import InspoH5Reader
from inspo.data.formats.omiga import OmigaReader
from inspo.data.formats.padded import PADDED_AXES
from inspo.data.formats.pymarl_h5 import CFCQLReader, OffPymarlReader, h5_in, part_files
from inspo.data.formats.reader import Reader
from inspo.data.formats.schema import ROW_FIELDS
from inspo.data.formats.vault import VaultReader
from inspo.utils.errors import DatasetError

READERS: tuple[type[Reader], ...] = (
    InspoH5Reader,
    CFCQLReader,
    OffPymarlReader,
    OmigaReader,
    AlberDICEReader,
    VaultReader,
)
NAMES_SHOWN = 10
H5_LAYOUTS = {
    "this project's h5": {"lengths", *ROW_FIELDS},
    "CFCQL's or OffPyMARL's h5": {*PADDED_AXES},
    "OMIGA's hdf5": {"s", "o", "a", "r", "d"},
}


def open_dataset(path: Path, findings: list[Finding] | None = None) -> Reader:
    """Opens the dataset at `path`, a file or a folder of any known layout; its structure is checked, nothing more read.

    Args:
        findings: collects what is wrong with the rows as they are read, instead of an error at the first such thing.

    Raises:
        DatasetError: the path is missing, of an unknown layout, or its structure is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path}: there is no such dataset")
    for file in part_files(path):
        h5_files.check_in_child(file)
    for reader in READERS:
        if reader.recognises(path):
            return reader(path, findings)
    raise DatasetError(
        f"{path}: {_why_unknown(path)}\nKnown layouts: {', '.join(r.layout for r in READERS)}"
    )


def load_dataset(path: Path, max_episodes: int | None = None) -> EpisodeData:
    """Reads and checks the dataset at `path`, a file or a folder of any known layout.

    Args:
        max_episodes: read the first so many episodes only.

    Raises:
        DatasetError: the file is missing, damaged, of an unknown layout, too large for the memory, or fails a check.
    """
    with open_dataset(path) as reader:
        return reader.load(max_episodes)


def _why_unknown(path: Path) -> str:
    """What is nearest to the content, and what it lacks."""
    if not path.is_dir() and not path.is_file():
        return "neither a file nor a folder"
    files = part_files(path)
    inside = [file.name for file in h5_in(path)]  # of a folder
    several = f"this folder is not one dataset; give the path of what lies in it: {', '.join(inside[:NAMES_SHOWN])}"
    if not files:
        return (
            several
            if inside
            else "this folder is no dataset: it holds none of the files that a known layout has"
        )
    found = {layout: h5_files.h5_keys(files[0], needed) for layout, needed in H5_LAYOUTS.items()}
    if not any(found.values()):
        return "cannot be read as h5 (truncated or damaged?), or holds nothing of any known layout"
    if inside and any(found[layout] == H5_LAYOUTS[layout] for layout in found):
        return several
    layout = max(found, key=lambda name: len(found[name]) / len(H5_LAYOUTS[name]))
    missing = ", ".join(
        f"field '{name}' is missing" for name in sorted(H5_LAYOUTS[layout] - found[layout])
    )
    return f"nearest to {layout}, but {missing}"

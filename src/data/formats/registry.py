"""Which reader a dataset needs, recognised by its content and not by its name."""

from collections.abc import Iterator
from pathlib import Path

from inspo.data.arrays import AXES
from inspo.data.episode_data import EpisodeData, Finding
from inspo.data.formats import h5_files
from inspo.data.formats.alberdice import AlberDICEReader
from inspo.data.formats.assume import way_out
from inspo.data.formats.inspo_h5 import InspoH5Reader
from inspo.data.formats.minari import MinariReader
from inspo.data.formats.npz import NpzPaddedReader, NpzReader, npz_keys
from inspo.data.formats.omiga import OmigaReader
from inspo.data.formats.other_files import describe_file
from inspo.data.formats.padded import PADDED_AXES, PaddedReader
from inspo.data.formats.pymarl_h5 import CFCQLReader, OffPymarlReader, h5_in, part_files
from inspo.data.formats.reader import DEFAULT_OPTIONS, Reader
from inspo.data.formats.schema import ReadOptions
from inspo.data.formats.vault import VaultReader
from inspo.utils.addresses import refuse_address
from inspo.utils.errors import DatasetError

READERS: tuple[type[Reader], ...] = (
    InspoH5Reader,
    CFCQLReader,
    OffPymarlReader,
    OmigaReader,
    AlberDICEReader,
    VaultReader,
    NpzReader,
    NpzPaddedReader,
    MinariReader,
)
PADDED_READERS = (OffPymarlReader, NpzPaddedReader)
NAMES_SHOWN = 10
NEAR = 3  # a file with so many arrays of a layout is probably meant to be of that layout
# The arrays of layouts, by the name of the layout as h5 and as npz.
LAYOUTS = {
    ("this project's h5", NpzReader.layout): {*AXES},
    ("CFCQL's or OffPyMARL's h5", NpzPaddedReader.layout): {*PADDED_AXES},
    ("OMIGA's hdf5", "OMIGA's hdf5"): {"s", "o", "a", "r", "d"},
}


def open_dataset(
    path: Path,
    findings: list[Finding] | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Reader:
    """Opens a dataset of any known layout. Checks its structure, and reads no rows yet.

    Args:
        path: file or folder.
        findings: collects problems of the rows, which otherwise raise an error at the first one.
        options: what the user states about the data.

    Raises:
        DatasetError: the path is missing, of an unknown layout, or its structure is damaged.
    """
    refuse_address(path)
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path}: there is no such dataset")
    for file in part_files(path):
        h5_files.check_in_child(file)  # says why, where recognising a layout would say no
    for reader in _candidates(path, options):
        if options.assume and not issubclass(reader, PaddedReader):
            raise DatasetError(
                f"{path} is {reader.layout}; --assume is for padded arrays [E, T, ...] with a mask"
            )
        return reader(path, findings, options)
    layouts = ", ".join(reader.layout for reader in READERS)
    raise DatasetError(f"{path}: {_why_unknown(path)}\nKnown layouts: {layouts}")


def _candidates(path: Path, options: ReadOptions) -> Iterator[type[Reader]]:
    """The readers that recognise a dataset, and then those that could with assumptions."""
    yield from (reader for reader in READERS if reader.recognises(path))
    if options.assume:
        yield from (reader for reader in PADDED_READERS if reader.resembles(path))


def load_dataset(
    path: Path,
    max_episodes: int | None = None,
    reward_scalarisation: str | None = None,
) -> EpisodeData:
    """Reads and checks a dataset of any known layout.

    Args:
        path: file or folder.
        max_episodes: reads only the first so many episodes.
        reward_scalarisation: `mean` or `sum`: how rewards per agent become the team's. None refuses
            rewards that differ between agents.

    Raises:
        DatasetError: the file is missing, damaged, of an unknown layout, too large for the memory,
            or fails a check.
    """
    path = Path(path).expanduser()
    with open_dataset(path, options=ReadOptions(reward_scalarisation)) as reader:
        return reader.load(max_episodes)


def _why_unknown(path: Path) -> str:
    """The nearest layout and what is missing for it, or why there is none."""
    if not path.is_dir() and not path.is_file():
        return "neither a file nor a folder"
    names = [file.name for file in h5_in(path)]  # in a folder
    inside = ", ".join(names[:NAMES_SHOWN])
    no_dataset = f"this folder is not one dataset; give the path of a file in it: {inside}"
    files = part_files(path)
    if not files and inside:
        return no_dataset
    if not files:
        entries = [entry.name for entry in sorted(path.iterdir())[:NAMES_SHOWN]]
        holds = f" (it holds {', '.join(entries)})" if entries else " (it is empty)"
        return f"this folder is no dataset: it holds no files of any known layout{holds}"
    found = {}
    for layout, needed in LAYOUTS.items():
        found[layout] = h5_files.h5_keys(files[0], needed) or needed & npz_keys(files[0]).keys()
    if max(len(names) for names in found.values()) < NEAR:
        return describe_file(files[0])
    if inside and any(found[layout] == LAYOUTS[layout] for layout in found):
        return no_dataset
    layout = max(found, key=lambda name: len(found[name]) / len(LAYOUTS[name]))
    missing = sorted(LAYOUTS[layout] - found[layout])
    padded = LAYOUTS[layout] == {*PADDED_AXES}
    ways = {name: way_out(name, "missing") if padded else "" for name in missing}
    fields = ", ".join(
        f"field '{name}' is missing" + (f" ({way})" if way else "") for name, way in ways.items()
    )
    about = "" if all(ways.values()) else f". It {describe_file(files[0])}"
    name = layout[1] if npz_keys(files[0]) else layout[0]
    return f"nearest to {name}, but {fields}{about}"

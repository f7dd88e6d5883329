"""Reading and writing of dataset files.

    load_dataset(path)                       any layout -> EpisodeData, checked
    open_dataset(path)                       any layout -> Reader, to read blocks of episodes:
        reader.lengths, .sizes, .metadata        known at once
        reader.blocks()                          EpisodeData, a few MiB at a time
    find_public(root, map_name, quality)     path of CFCQL's, OffPyMARL's or OG-MARL's data, or None
    public_datasets(root, map_name)          all of them
    from_episodes(episodes, metadata, path)  dicts of arrays -> EpisodeData
    write_h5(data, path)                     EpisodeData -> a file of this project's layout
    EpisodeWriter(path, metadata)            the same for episodes that are recorded over time:

        with EpisodeWriter(path, metadata) as writer:
            writer.n_episodes                    already there from an interrupted run
            writer.append(episodes)              EpisodeData or dicts, on the disk when it returns
            writer.extend(episodes)              an iterator of dicts, a few MiB at a time

A reader is chosen by the content of a file or folder, never by its name.
`docs/dataset-format.md` specifies this project's layout and `REQUIRED_METADATA`.
"""

from inspo.data.arrays import ROW_FIELDS, Sizes
from inspo.data.formats.episodes import from_episodes
from inspo.data.formats.find import find_public, public_datasets
from inspo.data.formats.inspo_h5 import write_h5
from inspo.data.formats.metadata import REQUIRED_METADATA
from inspo.data.formats.reader import Reader
from inspo.data.formats.registry import READERS, load_dataset, open_dataset
from inspo.data.formats.writer import EpisodeWriter

__all__ = [
    "EpisodeWriter",
    "READERS",
    "REQUIRED_METADATA",
    "ROW_FIELDS",
    "Reader",
    "Sizes",
    "find_public",
    "from_episodes",
    "load_dataset",
    "open_dataset",
    "public_datasets",
    "write_h5",
]

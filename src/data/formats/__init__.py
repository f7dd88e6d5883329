"""Datasets in files: every layout is read through one door, and this project's own is written.

    load_dataset(path)                          any layout -> EpisodeData, checked
    open_dataset(path) -> Reader                any layout, a block of episodes at a time:
        reader.lengths, .sizes, .metadata           known at once
        reader.blocks() -> EpisodeData ...          for data larger than the memory
    from_episodes(episodes, metadata, path)     dicts of arrays -> EpisodeData
    write_h5(data, path)                        EpisodeData -> a file of our layout
    find_foreign(root, map_name, quality)       where CFCQL's, OffPyMARL's or OG-MARL's data lie -> path or None
    EpisodeWriter(path, metadata)               the same for episodes that come in over time:

        with EpisodeWriter(path, metadata) as writer:       # metadata must hold MUST_SAY
            writer.n_episodes                               # so many are there from an interrupted run
            writer.append(episodes)                         # EpisodeData or dicts; on the disk when it returns
            writer.extend(episodes)                         # an iterator of dicts, in blocks of a few MiB

A reader is picked by what is in a file or folder, never by its name. `docs/dataset-format.md` specifies our own layout.
"""

from inspo.data.formats.find import find_foreign
from inspo.data.formats.inspo_h5 import write_h5
from inspo.data.formats.reader import Reader
from inspo.data.formats.registry import READERS, load_dataset, open_dataset
from inspo.data.formats.schema import MUST_SAY, ROW_FIELDS, Sizes, from_episodes
from inspo.data.formats.writer import EpisodeWriter

__all__ = [
    "EpisodeWriter",
    "MUST_SAY",
    "READERS",
    "ROW_FIELDS",
    "Reader",
    "Sizes",
    "find_foreign",
    "from_episodes",
    "load_dataset",
    "open_dataset",
    "write_h5",
]

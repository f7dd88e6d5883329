"""A dataset written block by block as it is recorded, and resumed after an interruption."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from h5py import File

from inspo.data.arrays import ROW_FIELDS, Sizes
from inspo.data.episode_data import EpisodeData
from inspo.data.formats.episodes import from_episodes
from inspo.data.formats.h5_files import h5_errors, open_h5, read_text, write_text
from inspo.data.formats.h5_writing import new_h5
from inspo.data.formats.inspo_h5 import LIBVER, create_fields, write_blocks
from inspo.data.formats.metadata import metadata_json
from inspo.data.formats.staging import locked_folder, new_file
from inspo.utils.addresses import refuse_address
from inspo.utils.errors import DatasetError
from inspo.utils.files import read_json, write_atomically

EXTEND_BYTES = 1 << 22
log = logging.getLogger(__name__)


class EpisodeWriter:
    """Streams episodes to disk, and joins them into one dataset at `path` in the end.

        with EpisodeWriter(path, metadata) as writer:
            for block in make_episodes(first=writer.n_episodes):
                writer.append(block)

    When `append` returns, the block is on the disk, in the folder `.NAME.partial` beside `path`. A
    clean exit joins the blocks and completes the metadata. After an exception or a kill the folder
    stays, and a new writer with the same arguments resumes: `n_episodes` are there already.

    Args:
        path: the new dataset. Existing files are never overwritten.
        metadata: the required keys (`REQUIRED_METADATA`) and anything else, as plain JSON values.
            To resume, it must be the same as before; only `command` may differ.

    Raises:
        FileExistsError: on entering, `path` exists.
        DatasetError: on entering, the metadata lacks something, the unfinished dataset is another
            one, or another process is writing it.
        OSError: the folder cannot be written to.
    """

    def __init__(self, path: Path, metadata: dict[str, Any]):
        refuse_address(path)
        self.path = Path(path).absolute()
        self.metadata = metadata
        self.sizes: Sizes | None = None
        self.lengths: list[np.ndarray] = []  # of each block
        self.sums: Counter[str] = Counter()  # see `append`
        self.lock = ExitStack()

    @property
    def n_blocks(self) -> int:
        """Blocks on the disk so far: each was one `append`."""
        return len(self.lengths)

    @property
    def n_episodes(self) -> int:
        """Episodes on the disk so far."""
        return sum(len(lengths) for lengths in self.lengths)

    def __enter__(self) -> "EpisodeWriter":
        metadata_json(self.path, self.metadata)
        with ExitStack() as stack:
            self.folder = stack.enter_context(locked_folder(self.path))
            self._open_folder()
            self._read_blocks()
            self.lock = stack.pop_all()  # keeps the lock if nothing was raised
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            if kind is None:
                self._finish()
            elif not self.lengths:
                shutil.rmtree(self.folder)  # nothing to resume
            else:
                text = "%s: %d episodes are recorded; the same command goes on from there"
                log.info(text, self.path, self.n_episodes)

    def append(
        self,
        episodes: EpisodeData | Iterable[dict[str, np.ndarray]],
        sums: Mapping[str, float] | None = None,
    ) -> None:
        """Checks a block of episodes and writes it to the disk.

        Blocks of a MiB or more take the least time.

        Args:
            episodes: EpisodeData, or dicts of the row fields with L + 1 rows as `from_episodes`
                takes them.
            sums: totals over these episodes that the rows do not show, such as {"battle_won": 7}.
                The metadata gets the mean over all episodes, here as `battle_won_mean`.

        Raises:
            DatasetError: a check fails, or the sizes differ from those before. Nothing is written.
        """
        data = episodes
        if not isinstance(data, EpisodeData):
            data = from_episodes(data, {}, str(self.path))
        data.check()
        if self.sizes not in (None, data.sizes):
            raise DatasetError(
                f"{data.path}: the episodes have {data.sizes}, those before have {self.sizes}"
            )
        with (
            write_atomically(self._block(self.n_blocks)) as temporary,
            new_h5(temporary, libver=LIBVER) as (file, _),
        ):
            create_fields(file, data.lengths, data.sizes, compression="lzf")
            write_text(file, "sums", json.dumps(dict(sums or {})))
            for name in ROW_FIELDS:
                file[name][:] = getattr(data, name)
        self.sizes = data.sizes
        self.lengths.append(data.lengths)
        self.sums.update(sums or {})

    def extend(self, episodes: Iterable[dict[str, np.ndarray]]) -> None:
        """Appends episodes as they come, a few MiB at a time. A kill loses the last few MiB."""
        waiting: list[dict[str, np.ndarray]] = []
        n_bytes = 0
        for episode in episodes:
            waiting.append(episode)
            n_bytes += _count_bytes(episode)
            if n_bytes >= EXTEND_BYTES:
                self.append(waiting)
                waiting, n_bytes = [], 0
        if waiting:
            self.append(waiting)

    def _open_folder(self) -> None:
        """Creates the folder of the unfinished dataset, or checks that it is the same dataset."""
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "metadata.json"
        metadata = json.loads(json.dumps(self.metadata))
        del metadata["command"]
        if not file.exists():
            with write_atomically(file) as temporary:
                temporary.write_text(json.dumps(metadata))
        elif read_json(file) != metadata:
            raise DatasetError(
                f"{self.path}: {self.folder} holds the beginning of another dataset; "
                "finish that one with its own settings, or remove the folder"
            )

    def _read_blocks(self) -> None:
        """Reads the lengths, sums and sizes of the blocks that an earlier writer left."""
        while (block := self._block(self.n_blocks)).exists():
            with self._opened(block) as file:
                self.lengths.append(file["lengths"][:])
                self.sums.update(json.loads(read_text(file, "sums")))
                self.sizes = Sizes.of(file)
        if self.lengths:
            log.info("%s: resuming after %d episodes", self.path, self.n_episodes)

    def _finish(self) -> None:
        """Joins the blocks."""
        if self.sizes is None:
            shutil.rmtree(self.folder)
            raise DatasetError(f"{self.path}: there is no episode")
        lengths = np.concatenate(self.lengths)
        metadata = dict(self.metadata)
        for name, total in self.sums.items():
            metadata[f"{name}_mean"] = total / len(lengths)
        blocks = self._blocks()
        with new_file(self.path, self.folder) as temporary:
            write_blocks(temporary, self.path, blocks, lengths, self.sizes, metadata)
        shutil.rmtree(self.folder)

    def _blocks(self) -> Iterator[EpisodeData]:
        for number, lengths in enumerate(self.lengths):
            block = self._block(number)
            with self._opened(block) as file:
                rows = {name: file[name][:] for name in ROW_FIELDS}
            yield EpisodeData(lengths, **rows, metadata={}, path=str(block))

    @contextmanager
    def _opened(self, block: Path) -> Iterator[File]:
        """Opens a block for reading."""
        try:
            with h5_errors(block), open_h5(block) as file:
                yield file
        except DatasetError as error:
            raise DatasetError(f"{error}; remove the folder {self.folder} to begin again") from None

    def _block(self, number: int) -> Path:
        return self.folder / f"block-{number:06d}.h5"


def _count_bytes(episode: Any) -> int:
    """How many bytes an episode takes; 0 for one that `append` will refuse."""
    try:
        return sum(np.asarray(values).nbytes for values in episode.values())
    except (AttributeError, ValueError, TypeError, RuntimeError):
        return 0

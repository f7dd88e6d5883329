"""A dataset written as it comes in, block by block, and gone on with after an interruption."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from inspo.data.episode_data import EpisodeData
from inspo.data.formats.h5_files import h5_errors
from inspo.data.formats.inspo_h5 import LIBVER, create_fields, write_blocks
from inspo.data.formats.schema import ROW_FIELDS, Sizes, from_episodes, metadata_json
from inspo.data.formats.staging import StagingFolder
from inspo.utils.errors import DatasetError
from inspo.utils.files import write_atomically

EXTEND_BYTES = 1 << 22
log = logging.getLogger(__name__)


class EpisodeWriter:
    """Streams episodes to disk and, when all are there, makes them one dataset of this project's layout at `path`.

        with EpisodeWriter(path, metadata) as writer:
            for block in make_episodes(first=writer.n_episodes):
                writer.append(block)

    Every appended block is on the disk, whole, when `append` returns: in the folder `.NAME.partial` beside `path`. A
    clean exit joins them, completes the metadata and gives the file its name. After an exception or a kill the folder
    stays, and the same writer goes on with it: `n_episodes` says how many episodes are there already.

    Args:
        path: the dataset to be. Nothing is written over.
        metadata: what its maker must say (`MUST_SAY`) and anything else, as plain JSON values. An unfinished dataset is
            gone on with only if it was begun with the same metadata; `command` may differ.
        resume: False begins anew, and throws away what an interrupted writer left.
        verify: called with the joined file before it gets its name. Where it raises DatasetError, all is thrown away.

    Raises:
        FileExistsError: on entering, `path` exists.
        DatasetError: on entering, the metadata lacks something, the unfinished dataset is another one, or another
            process is writing it.
        OSError: the folder cannot be written to.
    """

    def __init__(
        self,
        path: Path,
        metadata: dict[str, Any],
        resume: bool = True,
        verify: Callable[[Path], None] | None = None,
    ):
        self.place = StagingFolder(Path(path))
        self.path, self.folder = self.place.path, self.place.folder
        self.metadata, self.resume, self.verify = metadata, resume, verify
        self.sizes: Sizes | None = None
        self.lengths: list[np.ndarray] = []  # of each block
        self.sums: Counter[str] = Counter()  # see `append`

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
        self.place.take()
        try:
            if not self.resume:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._begin()
        except BaseException:
            self.place.leave()
            raise
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            elif not self.lengths:
                shutil.rmtree(self.folder)  # nothing to go on with
        finally:
            self.place.leave()

    def append(
        self,
        episodes: EpisodeData | Iterable[dict[str, np.ndarray]],
        sums: Mapping[str, float] | None = None,
    ) -> None:
        """Checks a block of episodes and puts it on the disk. A block of a MiB or more is written most cheaply.

        Args:
            episodes: EpisodeData, or dicts of the row fields with L + 1 rows each, as `from_episodes` takes them.
            sums: what the rows do not show, summed over these episodes, as {"battle_won": 7}. The metadata will say its
                mean over all episodes, as `battle_won_mean`.

        Raises:
            DatasetError: a check fails, or the sizes are not those of the episodes before. Nothing is written then.
        """
        data = (
            episodes
            if isinstance(episodes, EpisodeData)
            else from_episodes(episodes, {}, str(self.path))
        )
        data.check()
        sizes = Sizes.of(data)
        if self.sizes not in (None, sizes):
            raise DatasetError(
                f"{data.path}: the episodes have {sizes}, those before have {self.sizes}"
            )
        with (
            write_atomically(self._block(self.n_blocks)) as temporary,
            h5py.File(temporary, "w", libver=LIBVER) as file,
        ):
            create_fields(file, data.lengths, sizes, compression="lzf")
            file.attrs["sums"] = json.dumps(dict(sums or {}))
            for name in ROW_FIELDS:
                file[name][:] = getattr(data, name)
        self.sizes = sizes
        self.lengths.append(data.lengths)
        self.sums.update(sums or {})

    def extend(self, episodes: Iterable[dict[str, np.ndarray]]) -> None:
        """Appends episodes as they come, a few MiB of them at a time; those not yet on the disk are lost in a kill."""
        waiting: list[dict[str, np.ndarray]] = []
        n_bytes = 0
        for episode in episodes:
            waiting.append(episode)
            n_bytes += sum(np.asarray(values).nbytes for values in episode.values())
            if n_bytes >= EXTEND_BYTES:
                self.append(waiting)
                waiting, n_bytes = [], 0
        if waiting:
            self.append(waiting)

    def _begin(self) -> None:
        """Makes the folder of the unfinished dataset, or looks at what is in it."""
        self.folder.mkdir(exist_ok=True)
        begun_with = self.folder / "metadata.json"
        said = {
            key: value
            for key, value in json.loads(json.dumps(self.metadata)).items()
            if key != "command"
        }
        if begun_with.exists():
            if json.loads(begun_with.read_text()) != said:
                raise DatasetError(
                    f"{self.path}: {self.folder} holds the beginning of another dataset; "
                    f"finish that one with the settings it was begun with, or remove the folder"
                )
        else:
            with write_atomically(begun_with) as temporary:
                temporary.write_text(json.dumps(said))
        while (block := self._block(self.n_blocks)).exists():
            with h5_errors(block), h5py.File(block, "r") as file:
                self.lengths.append(file["lengths"][:])
                self.sums.update(json.loads(file.attrs["sums"]))
                self.sizes = Sizes(
                    *file["avail_actions"].shape[1:], file["obs"].shape[2], file["state"].shape[1]
                )
        if self.lengths:
            log.info(
                "%s: going on after the %d episodes that are there", self.path, self.n_episodes
            )

    def _finish(self) -> None:
        if self.sizes is None:
            shutil.rmtree(self.folder)
            raise DatasetError(f"{self.path}: there is no episode")
        means = {f"{name}_mean": total / self.n_episodes for name, total in self.sums.items()}
        metadata = {**self.metadata, **means}
        write_blocks(
            self.path,
            np.concatenate(self.lengths),
            self.sizes,
            self._blocks(),
            metadata,
            self.folder,
            self._verify,
        )
        shutil.rmtree(self.folder)

    def _verify(self, joined: Path) -> None:
        if self.verify is None:
            return
        try:
            self.verify(joined)
        except DatasetError:
            shutil.rmtree(self.folder)  # to go on with the same blocks would end here again
            raise

    def _blocks(self) -> Iterator[EpisodeData]:
        for number, lengths in enumerate(self.lengths):
            block = self._block(number)
            with h5_errors(block), h5py.File(block, "r") as file:
                rows = {name: file[name][:] for name in ROW_FIELDS}
            yield EpisodeData(lengths, **rows, metadata={}, path=str(block))

    def _block(self, number: int) -> Path:
        return self.folder / f"block-{number:06d}.h5"

"""New datasets from old: converted to another layout, mixed, or a part of one. All of it a block at a time."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inspo.data.episode_data import UNKNOWN, EpisodeData
from inspo.data.formats import ROW_FIELDS, EpisodeWriter, Reader, open_dataset
from inspo.data.formats.pymarl_h5 import write_offpymarl
from inspo.data.formats.schema import same_content, subset_of
from inspo.utils.errors import ConfigError, DatasetError
from inspo.utils.progress import Progress

EPISODES_PER_BLOCK = 256  # of a mix: from all of its sources together
log = logging.getLogger(__name__)


class Share(NamedTuple):
    """A source of a mix, and what share of the mix's episodes comes from it."""

    path: Path
    share: float

    @classmethod
    def parse(cls, text: str) -> "Share":
        """`PATH:SHARE`, as in `medium.h5:0.5`."""
        path, _, share = text.rpartition(":")
        try:
            value = float(share)
        except ValueError:
            value = 0.0
        if not path or not 0 < value < float("inf"):
            raise ConfigError(
                f"'{text}' is not of the form PATH:SHARE with a positive share, as in medium.h5:0.5"
            )
        return cls(Path(path), value)


def convert(source: Path, target: Path, layout: str, extra_metadata: dict[str, Any]) -> str:
    """Writes all episodes of `source` as `target`, and reads them back. Returns what was done, for the user.

    Args:
        target: a file; for the layout `offpymarl` also a folder, new or empty, which gets its `part_0.h5`.
        layout: `inspo` (this project's) or `offpymarl`.
        extra_metadata: metadata beside what the source says itself.

    Raises:
        DatasetError: the source fails a check, or what was read back is not what was written.
        FileExistsError: nothing is written over.
    """
    with open_dataset(source) as reader:
        verify = partial(_compare, reader)
        if layout == "offpymarl":
            if target.suffix not in (".h5", ".hdf5"):
                if target.is_dir() and any(
                    not entry.name.startswith(".") for entry in target.iterdir()
                ):
                    raise FileExistsError(
                        f"{target} is not an empty folder; nothing is written over or added"
                    )
                target = target / "part_0.h5"
            write_offpymarl(reader, target, f"Converting {reader.path.name}", verify)
        else:
            with EpisodeWriter(
                target, _metadata([reader], extra_metadata, whole=True), verify=verify
            ) as writer:
                shown = Progress(
                    reader.n_episodes, f"Converting {reader.path.name}", done=writer.n_episodes
                )
                for block in reader.blocks(writer.n_episodes):
                    writer.append(block)
                    shown.advance(block.n_episodes)
                shown.close()
        return (
            f"{target}: {reader.n_episodes} episodes of {reader.layout}, read back and found equal"
        )


def mix(
    shares: list[Share],
    target: Path,
    n_episodes: int | None,
    seed: int,
    extra_metadata: dict[str, Any],
) -> str:
    """Writes a dataset in which each source has its share of the episodes, drawn without replacement.

    Every source keeps its own order; which source comes next is random. So the first episodes of a mix are mixed alike.

    Args:
        n_episodes: of the mix; None: as many as the shares allow before a source is used up.
    """
    total = sum(share.share for share in shares)
    with ExitStack() as stack:
        readers = [stack.enter_context(open_dataset(share.path)) for share in shares]
        for reader in readers:
            reader.verify()
            if reader.sizes != readers[0].sizes:
                raise DatasetError(
                    f"{reader.path} does not fit {readers[0].path}: {reader.sizes} against {readers[0].sizes}"
                )
        wanted = np.array([share.share / total for share in shares])
        held = np.array([reader.n_episodes for reader in readers])
        size = n_episodes if n_episodes is not None else int(np.floor((held / wanted).min() + 1e-9))
        if size > held.sum():
            raise DatasetError(
                f"the sources hold {held.sum()} episodes together; the mix is to have {size}"
            )
        counts = _apportion(wanted, size)
        for reader, count in zip(readers, counts, strict=True):
            if not 0 < count <= reader.n_episodes:
                raise DatasetError(
                    f"{reader.path} holds {reader.n_episodes} episodes; its share of the mix is {count}"
                )
        rng = np.random.default_rng(seed)
        drawn = [
            np.sort(rng.choice(n, count, replace=False))
            for n, count in zip(held, counts, strict=True)
        ]
        order = rng.permutation(np.repeat(np.arange(len(readers)), counts))
        sources = [
            {
                "path": str(reader.path),
                "episodes": int(count),
                "of": reader.n_episodes,
                **_identity(reader),
            }
            for reader, count in zip(readers, counts, strict=True)
        ]
        metadata = _metadata(readers, {**extra_metadata, "mixed_from": sources, "mix_seed": seed})
        with EpisodeWriter(target, metadata) as writer:
            done = writer.n_episodes
            begun = [int((order[:done] == k).sum()) for k in range(len(readers))]
            streams = [
                _picked(reader, numbers[start:])
                for reader, numbers, start in zip(readers, drawn, begun, strict=True)
            ]
            shown = Progress(size, "Mixing", done=done)
            for first in range(done, size, EPISODES_PER_BLOCK):
                part = order[first : first + EPISODES_PER_BLOCK]
                writer.append(next(streams[source]) for source in part)
                shown.advance(len(part))
            shown.close()
    return f"{target}: {size} episodes, " + ", ".join(
        f"{s['episodes']} of {s['of']} from {s['path']}" for s in sources
    )


def subset(
    source: Path,
    target: Path,
    episodes: tuple[int, int | None] | None,
    quantiles: tuple[float, float] | None,
    sample: int | None,
    seed: int,
    extra_metadata: dict[str, Any],
) -> str:
    """Writes a part of a dataset, in its order: what all of the given conditions leave.

    Args:
        episodes: first episode, and the one after the last (None: to the end).
        quantiles: keep the episodes whose return lies between these quantiles of the whole dataset's returns.
        sample: so many of what the conditions leave, drawn without replacement.
    """
    with open_dataset(source) as reader:
        reader.verify()
        kept = np.ones(reader.n_episodes, dtype=bool)
        if episodes is not None:
            kept[:] = False
            kept[slice(*episodes)] = True
        if quantiles is not None:
            returns = _returns(reader)
            low, high = np.quantile(returns, quantiles)
            kept &= (returns >= low) & (returns <= high)
        numbers = np.flatnonzero(kept)
        if sample is not None:
            if sample > len(numbers):
                raise DatasetError(
                    f"{source}: the conditions leave {len(numbers)} episodes, fewer than {sample}"
                )
            numbers = np.sort(np.random.default_rng(seed).choice(numbers, sample, replace=False))
        if not len(numbers):
            raise DatasetError(
                f"{source}: of its {reader.n_episodes} episodes the conditions leave none"
            )
        conditions = {
            "episodes": episodes,
            "return_quantiles": quantiles,
            "sample": sample,
            "seed": seed,
        }
        part = {"path": str(source), "of": reader.n_episodes, **_identity(reader)}
        part |= {key: value for key, value in conditions.items() if value is not None}
        with EpisodeWriter(
            target, _metadata([reader], {**extra_metadata, "subset_of": part})
        ) as writer:
            shown = Progress(
                len(numbers), f"Copying from {reader.path.name}", done=writer.n_episodes
            )
            for block, within in _blocks_with(reader, numbers[writer.n_episodes :]):
                writer.append(subset_of(block, within))
                shown.advance(len(within))
            shown.close()
        return f"{target}: {len(numbers)} of {reader.n_episodes} episodes"


def _metadata(
    readers: list[Reader], extra_metadata: dict[str, Any], whole: bool = False
) -> dict[str, Any]:
    """The sources' metadata as far as they agree, with what is `extra_metadata` over it, and the rest unknown.

    Args:
        whole: all episodes are kept: what was measured over them still holds.
    """
    derived = {"episodes", "transitions", "fingerprint", "format_version", "software"}
    if not whole:
        derived.add("battle_won_mean")
    first = readers[0].metadata
    common = {
        key: value
        for key, value in first.items()
        if key not in derived
        and not key.startswith("return_")
        and all(reader.metadata.get(key) == value for reader in readers)
    }
    behaviour = " + ".join(
        dict.fromkeys(str(reader.metadata.get("behaviour", UNKNOWN)) for reader in readers)
    )
    common["converted_from"] = [reader.layout for reader in readers]
    return {
        "environment": UNKNOWN,
        "env_args": {},
        **common,
        "behaviour": behaviour,
        **extra_metadata,
    }


def _identity(reader: Reader) -> dict[str, str]:
    """The source's fingerprint, where it says one: of another content under the same path nothing is gone on with."""
    fingerprint = reader.metadata.get("fingerprint")
    return {"fingerprint": str(fingerprint)} if fingerprint else {}


def _compare(reader: Reader, path: Path) -> None:
    """Raises DatasetError if the file does not hold what the reader reads, or that is not what was written once."""
    reader.verify()
    shown = Progress(reader.n_episodes, "Reading back")
    with open_dataset(path) as written:
        differing = "" if np.array_equal(reader.lengths, written.lengths) else "lengths"
        for block in reader.blocks() if not differing else ():
            differing = same_content(
                block, written.read(block.first_episode, block.first_episode + block.n_episodes)
            )
            if differing:
                break
            shown.advance(block.n_episodes)
    shown.close()
    if differing:
        raise DatasetError(
            f"{reader.path}: field '{differing}' read back differs from what was written; it is not kept"
        )


def _returns(reader: Reader) -> np.ndarray:
    shown, parts = Progress(reader.n_episodes, "Reading returns"), []
    for block in reader.blocks():
        parts.append(block.returns)
        shown.advance(block.n_episodes)
    shown.close()
    return np.concatenate(parts)


def _blocks_with(reader: Reader, numbers: np.ndarray) -> Iterator[tuple[EpisodeData, np.ndarray]]:
    """Checked blocks that hold some of the episodes, whose numbers rise, and their numbers within the block."""
    first = int(numbers[0]) if len(numbers) else reader.n_episodes
    for block in reader.blocks(first):
        begin, end = np.searchsorted(
            numbers, (block.first_episode, block.first_episode + block.n_episodes)
        )
        if begin < end:
            block.check()  # here: of episodes picked from it, the numbers in their source would not be known
            yield block, numbers[begin:end] - block.first_episode
        if end == len(numbers):
            return


def _picked(reader: Reader, numbers: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """The episodes with these numbers, one by one."""
    for block, within in _blocks_with(reader, numbers):
        for episode in within:
            rows = slice(block.starts[episode], block.starts[episode] + block.lengths[episode] + 1)
            yield {name: getattr(block, name)[rows] for name in ROW_FIELDS}


def _apportion(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers that add up to `total`, nearest to the shares (largest remainders first)."""
    counts = np.floor(shares * total + 1e-9).astype(int)
    left = total - counts.sum()
    counts[np.argsort(counts - shares * total, kind="stable")[:left]] += 1
    return counts

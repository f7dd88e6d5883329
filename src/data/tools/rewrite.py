"""New datasets from old ones: converted to another layout, mixed, or a part of one.

Each is written atomically, a block of episodes at a time. An interrupted command starts again.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inspo.data.arrays import ROW_FIELDS
from inspo.data.episode_data import UNKNOWN, EpisodeData
from inspo.data.formats import Reader, from_episodes, open_dataset
from inspo.data.formats.inspo_h5 import write_blocks
from inspo.data.formats.pymarl_h5 import write_offpymarl
from inspo.data.formats.reader import DEFAULT_OPTIONS
from inspo.data.formats.schema import ReadOptions, same_content, subset_of
from inspo.data.formats.staging import new_file
from inspo.utils.errors import ConfigError, DatasetError

EPISODES_PER_BLOCK = 256  # of a mix
# Metadata that the writer adds, besides those of the returns.
DERIVED = {"episodes", "transitions", "fingerprint", "format_version", "software"}


class Share(NamedTuple):
    """A source of a mix, and its share of the mix's episodes."""

    path: Path
    share: float

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Reads `PATH:SHARE`, as in `medium.h5:0.5`."""
        path, _, share = text.rpartition(":")
        try:
            value = float(share)
        except ValueError:
            value = 0.0
        if not path or not 0 < value < float("inf"):
            form = "PATH:SHARE with a positive share, as in medium.h5:0.5"
            raise ConfigError(f"'{text}' is not of the form {form}")
        return cls(Path(path), value)


class Conditions(NamedTuple):
    """Which episodes a subset keeps: those that meet all conditions. None: no condition.

    Attributes:
        episodes: the first episode, and the one after the last (None: to the end).
        return_quantiles: the lowest and the highest return, as quantiles of all returns.
        sample: number of episodes to draw, without replacement, from those that remain.
        seed: of the sample.
    """

    episodes: tuple[int, int | None] | None = None
    return_quantiles: tuple[float, float] | None = None
    sample: int | None = None
    seed: int = 0


def convert(
    source: Path,
    target: Path,
    layout: str,
    extra_metadata: dict[str, Any],
    options: ReadOptions = DEFAULT_OPTIONS,
) -> str:
    """Writes all episodes of `source` as `target`, and reads them back to compare.

    Args:
        target: a file. With the layout `offpymarl` also a new or empty folder for `part_0.h5`.
        layout: `inspo` (this project's) or `offpymarl`.
        extra_metadata: is added to what the source states.
        options: what the user states about the source.

    Returns:
        what was done, for the user.

    Raises:
        DatasetError: the source fails a check, or what was read back differs.
        FileExistsError: the target exists already.
    """
    with open_dataset(source, options=options) as reader:
        if layout == "offpymarl":
            with new_file(_part_of(target)) as temporary:
                write_offpymarl(reader, temporary, f"Writing {target.name}")
                _compare(reader, temporary)
        else:
            metadata = _metadata([reader], extra_metadata, whole=True)
            with new_file(target) as temporary:
                blocks = _checked(reader.blocks())
                lengths, sizes = reader.lengths, reader.sizes
                write_blocks(temporary, target, blocks, lengths, sizes, metadata)
                _compare(reader, temporary)
        done = f"{reader.n_episodes} episodes of {reader.layout}"
        return f"{target}: {done}, read back and found equal"


def _part_of(target: Path) -> Path:
    """The file of OffPyMARL's part: `target` itself, or one in that folder."""
    if target.suffix in (".h5", ".hdf5"):
        return target
    if target.is_dir():
        visible = [entry for entry in target.iterdir() if not entry.name.startswith(".")]
        if visible:
            raise FileExistsError(
                f"{target} is not an empty folder; nothing is written over or added"
            )
    return target / "part_0.h5"


def _checked(blocks: Iterable[EpisodeData]) -> Iterator[EpisodeData]:
    for block in blocks:
        block.check()
        yield block


def _compare(reader: Reader, written: Path) -> None:
    """Raises DatasetError if `written` differs from what the reader reads."""
    reader.verify()
    with open_dataset(written) as copy:
        differing = _differing_field(reader, copy)
    if differing:
        problem = "read back differs from what was written; the copy is removed"
        raise DatasetError(f"{reader.path}: field '{differing}' {problem}")


def _differing_field(reader: Reader, copy: Reader) -> str:
    """The name of the first field that differs; empty if all are equal."""
    if not np.array_equal(reader.lengths, copy.lengths):
        return "lengths"
    for block in reader.shown_blocks("Reading back"):
        first = block.first_episode
        written = copy.read(first, first + block.n_episodes)
        if differing := same_content(block, written):
            return differing
    return ""


def mix(
    shares: list[Share],
    target: Path,
    n_episodes: int | None,
    seed: int,
    extra_metadata: dict[str, Any],
) -> str:
    """Writes a dataset in which each source has its share of the episodes.

    Episodes are drawn without replacement. Those of a source keep their order; which source comes
    next is random. So any part of the mix has about the same shares.

    Args:
        n_episodes: of the mix; None: as many as the shares allow before a source is used up.
        seed: of the draws.

    Returns:
        what was done, for the user.

    Raises:
        DatasetError: a source fails a check, does not fit the others, or has too few episodes.
        FileExistsError: the target exists already.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_dataset(share.path)) for share in shares]
        _check_sources(readers)
        counts = _count_episodes(readers, shares, n_episodes)
        rng = np.random.default_rng(seed)
        drawn, sources, parts = [], [], []
        for reader, count in zip(readers, counts, strict=True):
            numbers = rng.choice(reader.n_episodes, count, replace=False)
            drawn.append(np.sort(numbers))
            source = {"path": str(reader.path), "episodes": int(count)}
            sources.append({**source, **_identity(reader)})
            parts.append(f"{count} of {reader.n_episodes} from {reader.path}")
        order = rng.permutation(np.repeat(np.arange(len(readers)), counts))
        extra_metadata = {**extra_metadata, "mixed_from": sources, "mix_seed": seed}
        metadata = _metadata(readers, extra_metadata)
        lengths = np.empty(len(order), dtype=np.int64)
        for number, reader in enumerate(readers):
            lengths[order == number] = reader.lengths[drawn[number]]
        with new_file(target) as temporary:
            blocks = _mixed(readers, drawn, order, str(target))
            write_blocks(temporary, target, blocks, lengths, readers[0].sizes, metadata)
    return f"{target}: {len(order)} episodes, {', '.join(parts)}"


def _check_sources(readers: list[Reader]) -> None:
    first = readers[0]
    for reader in readers:
        reader.verify()
        if reader.sizes != first.sizes:
            sizes = f"{reader.sizes} against {first.sizes}"
            raise DatasetError(f"{reader.path} does not fit {first.path}: {sizes}")


def _count_episodes(
    readers: list[Reader], shares: list[Share], n_episodes: int | None
) -> np.ndarray:
    """How many episodes of each source the mix gets, int [sources]."""
    total = sum(share.share for share in shares)
    wanted = np.array([share.share / total for share in shares])
    held = np.array([reader.n_episodes for reader in readers])
    if n_episodes is None:
        n_episodes = int(np.floor((held / wanted).min() + 1e-9))
    if n_episodes > held.sum():
        raise DatasetError(
            f"the sources hold {held.sum()} episodes together; the mix is to have {n_episodes}"
        )
    counts = _apportion(wanted, n_episodes)
    for reader, count in zip(readers, counts, strict=True):
        if not 0 < count <= reader.n_episodes:
            problem = f"holds {reader.n_episodes} episodes; its share of the mix is {count}"
            raise DatasetError(f"{reader.path} {problem}")
    return counts


def _apportion(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers that add up to `total`, nearest to the shares (largest remainders first)."""
    counts = np.floor(shares * total + 1e-9).astype(int)
    left = total - counts.sum()
    counts[np.argsort(counts - shares * total, kind="stable")[:left]] += 1
    return counts


def _mixed(
    readers: list[Reader], drawn: list[np.ndarray], order: np.ndarray, name: str
) -> Iterator[EpisodeData]:
    """Blocks of episodes, each the next one that was drawn from the source in `order`."""
    streams = list(map(_picked, readers, drawn))
    episodes = (next(streams[source]) for source in order)
    while block := list(islice(episodes, EPISODES_PER_BLOCK)):
        yield from_episodes(block, {}, name)


def _picked(reader: Reader, numbers: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """The episodes with these numbers, one by one."""
    for block, within in _blocks_with(reader, numbers):
        for episode in within:
            rows = slice(block.starts[episode], block.final_rows[episode] + 1)
            yield {name: getattr(block, name)[rows] for name in ROW_FIELDS}


def subset(
    source: Path, target: Path, conditions: Conditions, extra_metadata: dict[str, Any]
) -> str:
    """Writes the episodes of a dataset that meet all conditions, in their order.

    Returns:
        what was done, for the user.

    Raises:
        DatasetError: the source fails a check, or too few episodes meet the conditions.
        FileExistsError: the target exists already.
    """
    with open_dataset(source) as reader:
        reader.verify()
        numbers = _meeting(conditions, reader)
        origin = {"path": str(source), **_identity(reader)}
        for name, value in conditions._asdict().items():
            if value is not None:
                origin[name] = value
        metadata = _metadata([reader], {**extra_metadata, "subset_of": origin})
        with new_file(target) as temporary:
            parts = _blocks_with(reader, numbers)
            blocks = (subset_of(block, within) for block, within in parts)
            lengths = reader.lengths[numbers]
            write_blocks(temporary, target, blocks, lengths, reader.sizes, metadata)
        return f"{target}: {len(numbers)} of {reader.n_episodes} episodes"


def _meeting(conditions: Conditions, reader: Reader) -> np.ndarray:
    """The numbers of the episodes that meet all conditions, in rising order."""
    kept = np.ones(reader.n_episodes, dtype=bool)
    if conditions.episodes is not None:
        kept[:] = False
        kept[slice(*conditions.episodes)] = True
    if conditions.return_quantiles is not None:
        blocks = reader.shown_blocks("Reading returns")
        returns = np.concatenate([block.returns for block in blocks])
        low, high = np.quantile(returns, conditions.return_quantiles)
        kept &= (returns >= low) & (returns <= high)
    numbers = np.flatnonzero(kept)
    if conditions.sample is not None:
        if conditions.sample > len(numbers):
            problem = f"leave {len(numbers)} episodes, fewer than {conditions.sample}"
            raise DatasetError(f"{reader.path}: the conditions {problem}")
        rng = np.random.default_rng(conditions.seed)
        numbers = np.sort(rng.choice(numbers, conditions.sample, replace=False))
    if not len(numbers):
        episodes = f"{reader.n_episodes} episodes"
        raise DatasetError(f"{reader.path}: of its {episodes} the conditions leave none")
    return numbers


def _blocks_with(reader: Reader, numbers: np.ndarray) -> Iterator[tuple[EpisodeData, np.ndarray]]:
    """Checked blocks that hold some of the episodes, and the episodes' numbers in the block.

    Args:
        numbers: of the episodes, rising.
    """
    for block in reader.blocks(int(numbers[0])):
        first = block.first_episode
        begin, end = np.searchsorted(numbers, (first, first + block.n_episodes))
        if begin < end:
            block.check()  # here the message can tell the episode's number in the source
            yield block, numbers[begin:end] - first
        if end == len(numbers):
            return


def _metadata(
    readers: list[Reader], extra_metadata: dict[str, Any], whole: bool = False
) -> dict[str, Any]:
    """The metadata that all sources agree on, and `extra_metadata`.

    Args:
        whole: all episodes are kept, so that what was measured over them still holds.
    """
    derived = DERIVED if whole else DERIVED | {"battle_won_mean"}
    common = {
        key: value
        for key, value in readers[0].metadata.items()
        if key not in derived
        and not key.startswith("return_")
        and all(reader.metadata.get(key) == value for reader in readers)
    }
    behaviours = [str(reader.metadata.get("behaviour", UNKNOWN)) for reader in readers]
    return {
        "environment": UNKNOWN,
        "env_args": {},
        **common,
        "converted_from": [reader.layout for reader in readers],
        "behaviour": " + ".join(dict.fromkeys(behaviours)),
        **extra_metadata,
    }


def _identity(reader: Reader) -> dict[str, Any]:
    """How many episodes a source holds and, where it states one, its fingerprint."""
    identity: dict[str, Any] = {"of": reader.n_episodes}
    if fingerprint := reader.metadata.get("fingerprint"):
        identity["fingerprint"] = str(fingerprint)
    return identity

"""The offline dataset on the training device, sampled as padded batches."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch as th
from torch import Tensor

from inspo.components.sequences import gather_sequences, rounded_length
from inspo.data.episode_data import EpisodeData
from inspo.utils.batch import Batch
from inspo.utils.errors import ConfigError
from inspo.utils.memory import free_memory

RECORDED = ("state", "obs", "actions", "avail_actions", "reward", "terminated")
MAX_SHARE_OF_GPU = 0.5  # of its free memory, for the dataset; learning needs the rest
WORKING_COPIES = 3  # of a batch that learning needs at least: inputs, activations, gradients
log = logging.getLogger(__name__)


class OfflineBuffer:
    """Samples transitions or whole episodes uniformly, with replacement.

    A batch of transitions has T = 1, a batch of episodes the T of its longest. With a chunk length,
    episodes are cut into sequences of at most so many steps, which take the place of episodes. A
    recurrent network starts each with a zero state, and values after its last step are
    bootstrapped, as after a truncation. The previous action is known at its first step. If no
    episode is longer, nothing changes.

    Args:
        data: checked episodes. On the CPU their arrays are used without a copy.
        batch_unit: `transitions` or `episodes`.
        device: where training happens. The data are kept there if they fit.
        seed: of the sampling.
        chunk_length: the most steps of a sequence. None: whole episodes.
    """

    def __init__(
        self,
        data: EpisodeData,
        batch_unit: str,
        device: th.device,
        seed: int,
        chunk_length: int | None = None,
    ):
        self.batch_unit = batch_unit
        self.device = device
        n_rows = len(data.reward)
        self.is_first = th.zeros(n_rows, dtype=th.bool)
        self.is_first[th.from_numpy(data.starts)] = True
        self.columns: dict[str, Tensor] = {
            name: th.from_numpy(getattr(data, name)) for name in RECORDED
        }
        self.storage = th.device("cpu")  # of `columns` and `is_first`
        # Frozen behaviour models may add log probabilities of all and of taken actions, in float32.
        n_added_bytes = 4 * (data.avail_actions.size + data.actions.size)
        if _fits(data.n_bytes + n_added_bytes, device):
            self._store_on_device()
        starts, lengths, ends_episode = cut_into_chunks(data.starts, data.lengths, chunk_length)
        self.starts, self.lengths = th.from_numpy(starts), th.from_numpy(lengths)
        self.ends_episode = th.from_numpy(ends_episode)
        self.checked_sizes: set[tuple[int, int]] = set()  # of batches that fit into the memory
        is_step = np.ones(n_rows, dtype=bool)
        is_step[data.final_rows] = False
        self.transition_rows = th.from_numpy(np.flatnonzero(is_step))
        self.generator = th.Generator().manual_seed(seed)
        self._fingerprint: str | None = None

    @property
    def n_episodes(self) -> int:
        """Number of episodes E, or of the sequences that they are cut into."""
        return len(self.lengths)

    @cached_property
    def longest(self) -> int:
        """The number of steps of the longest sequence."""
        return int(self.lengths.max())

    @cached_property
    def termination_rate(self) -> float:
        """The share of steps that are terminal."""
        return float(self.columns["terminated"].sum()) / len(self.transition_rows)

    def sample(self, batch_size: int, unit: str | None = None, few_lengths: bool = False) -> Batch:
        """Draws a batch.

        Args:
            batch_size: number of transitions or episodes.
            unit: `transitions` or `episodes`, instead of the buffer's `batch_unit`.
            few_lengths: pads episodes to one of few T, as CUDA graphs want.

        Raises:
            ConfigError: the largest batch would not fit into the memory.
        """
        if (unit or self.batch_unit) == "transitions":
            drawn = th.randint(len(self.transition_rows), (batch_size,), generator=self.generator)
            starts = self.transition_rows[drawn]
            return self.gather(starts, th.ones_like(starts))
        self._check_memory(batch_size)
        drawn = th.randint(self.n_episodes, (batch_size,), generator=self.generator)
        lengths = self.lengths[drawn]
        n_steps = rounded_length(lengths, self.longest) if few_lengths else None
        return self.gather(self.starts[drawn], lengths, n_steps)

    def gather(self, starts: Tensor, lengths: Tensor, n_steps: int | None = None) -> Batch:
        """The batch of sequences with the given first rows and numbers of steps, both int [B].

        Args:
            n_steps: T. None: that of the longest sequence.
        """
        return gather_sequences(self.columns, self.is_first, starts, lengths, self.device, n_steps)

    def add_column(
        self,
        name: str,
        compute: Callable[[Batch], Tensor],
        batch_size: int = 64,
    ) -> None:
        """Adds a field to all batches, such as the outputs of a frozen model.

        Args:
            compute: from a batch of whole episodes to the field's values, [B, T+1, ...]. It is
                called once for every episode.
            batch_size: number of episodes in these batches.

        Raises:
            ConfigError: the largest batch would not fit into the memory.
        """
        self._check_memory(min(batch_size, self.n_episodes))
        column = None
        try:
            column = self._computed(compute, batch_size)
        except th.cuda.OutOfMemoryError:
            if self.storage.type == "cpu":
                raise
        if column is None:  # what the failed attempt holds is free by now
            self._store_in_main_memory()
            column = self._computed(compute, batch_size)
        self.columns[name] = column
        self._fingerprint = None

    def _computed(self, compute: Callable[[Batch], Tensor], batch_size: int) -> Tensor:
        """The column of what `compute` returns; see `add_column`."""
        column: Tensor | None = None
        by_length = self.lengths.argsort(stable=True)  # keeps the padding short
        for episodes in by_length.split(batch_size):
            starts = self.starts[episodes]
            lengths = self.lengths[episodes]
            values = compute(self.gather(starts, lengths)).to(self.storage)
            if column is None:
                column = values.new_zeros(len(self.is_first), *values.shape[2:])
            steps = th.arange(values.shape[1])
            rows = starts[:, None] + steps
            # The row after a chunk is the first of the next one, which has its own value.
            real = steps < lengths[:, None] + self.ends_episode[episodes, None].long()
            column[rows[real].to(self.storage)] = values[real.to(self.storage)]
        return column

    def _store_on_device(self) -> None:
        """Moves the data to the training device, or leaves them in main memory if they do not fit.

        The free memory that a GPU reports may be in pieces, or taken by another program meanwhile.
        """
        try:
            moved = {name: column.to(self.device) for name, column in self.columns.items()}
            is_first = self.is_first.to(self.device)
        except th.cuda.OutOfMemoryError:
            log.warning("The GPU has no memory for the dataset, which stays in main memory")
            return
        self.columns, self.is_first, self.storage = moved, is_first, self.device

    def _store_in_main_memory(self) -> None:
        """Takes the data off the GPU."""
        log.warning("The GPU has no memory for more columns: the dataset moves to main memory")
        self.storage = th.device("cpu")
        self.columns = {name: column.to(self.storage) for name, column in self.columns.items()}
        self.is_first = self.is_first.to(self.storage)

    def _check_memory(self, batch_size: int) -> None:
        """Raises ConfigError if a batch of the longest episodes does not fit into the memory."""
        longest = self.longest
        if (batch_size, longest) in self.checked_sizes:
            return
        row_bytes = sum(
            column[0].numel() * column.element_size() for column in self.columns.values()
        )
        row_bytes += 16 * self.columns["actions"].shape[1]  # actions and last actions, int64
        needed = WORKING_COPIES * batch_size * (longest + 1) * row_bytes
        free = _free_memory(self.device)
        if needed > free:
            raise ConfigError(
                f"a batch of {batch_size} episodes, the longest of {longest} steps, needs about "
                f"{needed / 2**30:.1f} GiB of memory; {free / 2**30:.1f} GiB are free. Lower "
                "batch_size, cut long episodes with chunk_length=N, or leave them out with "
                "max_episodes=N"
            )
        self.checked_sizes.add((batch_size, longest))

    def fingerprint(self) -> str:
        """Hash of the columns that models added to the data; empty if there are none.

        It is kept, since every checkpoint needs it.
        """
        if self._fingerprint is None:
            content = hashlib.blake2b(digest_size=8)
            added = sorted(self.columns.keys() - set(RECORDED))
            for name in added:
                content.update(self.columns[name].cpu().numpy().tobytes())
            self._fingerprint = content.hexdigest() if added else ""
        return self._fingerprint

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the sampling."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Resumes sampling from `state_dict`."""
        self.generator.set_state(state["generator"].cpu())

    @contextmanager
    def sampling_with(self, seed: int) -> Iterator[None]:
        """Samples with another seed inside the block, and restores the state afterwards."""
        state = self.state_dict()
        self.generator.manual_seed(seed)
        yield
        self.load_state_dict(state)


def cut_into_chunks(
    starts: np.ndarray, lengths: np.ndarray, chunk_length: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts episodes into sequences of at most `chunk_length` steps.

    Args:
        starts, lengths: first row and number of steps of each episode, int64 [E].

    Returns:
        first row and number of steps of each sequence, int64 [K], and whether it ends its episode.
    """
    if chunk_length is None:
        return starts, lengths, np.ones(len(lengths), dtype=bool)
    n_chunks = -(-lengths // chunk_length)
    episode = np.repeat(np.arange(len(lengths)), n_chunks)
    number = np.arange(len(episode)) - np.repeat(np.cumsum(n_chunks) - n_chunks, n_chunks)
    begin = number * chunk_length
    chunk_lengths = np.minimum(lengths[episode] - begin, chunk_length)
    return starts[episode] + begin, chunk_lengths, number == n_chunks[episode] - 1


def _free_memory(device: th.device) -> int:
    """Bytes that are free where batches are made."""
    if device.type == "cuda":
        return th.cuda.mem_get_info(device)[0]
    return free_memory()


def _fits(n_bytes: int, device: th.device) -> bool:
    """Whether the data fit on the training device. Says so if they do not."""
    if device.type != "cuda":
        return False
    free = _free_memory(device)
    if n_bytes <= MAX_SHARE_OF_GPU * free:
        return True
    log.warning(
        "The dataset (%.1f GiB) stays in main memory: the GPU has %.1f GiB",
        n_bytes / 2**30,
        free / 2**30,
    )
    return False

"""The dataset as the learner sees it: flat rows on the training device, sampled as padded batches."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch as th
from torch import Tensor

from inspo.data.episode_data import EpisodeData

# A batch of B sequences of T steps. State, obs, actions, last_actions and avail_actions have T + 1 rows, the last of
# them what followed step T - 1; reward, terminated and filled have T. `filled` marks real steps; padding repeats rows.
Batch = dict[str, Tensor]

log = logging.getLogger(__name__)


def without_final_row(batch: Batch) -> Batch:
    """The batch's T steps alone: networks that need not look at what followed the last one are spared it."""
    return {name: rows[:, : batch["filled"].shape[1]] for name, rows in batch.items()}


class OfflineBuffer:
    """Samples transitions (T = 1) or whole episodes (T = the longest of the batch) uniformly, with replacement.

    Args:
        data: checked episodes. Their arrays are taken over without a copy when training on the CPU.
        batch_unit: `transitions` or `episodes`.
        device: where training happens. The rows are kept there if they take at most 80 % of its free memory.
        seed: fixes the order of sampling.
    """

    def __init__(self, data: EpisodeData, batch_unit: str, device: th.device, seed: int):
        self.batch_unit, self.device = batch_unit, device
        behaviour = (
            data.avail_actions.size * 4 + data.actions.size * 4
        )  # what frozen models may add, in float32
        self.storage = _storage_device(data.n_bytes + behaviour, device)
        self.recorded = ("state", "obs", "actions", "avail_actions", "reward", "terminated")
        self.columns: dict[str, Tensor] = {
            name: th.from_numpy(getattr(data, name)).to(self.storage) for name in self.recorded
        }
        self.lengths, self.starts = th.from_numpy(data.lengths), th.from_numpy(data.starts)
        steps = np.ones(len(data.reward), dtype=bool)
        steps[data.final_rows] = False
        self.transition_rows = th.from_numpy(np.flatnonzero(steps))
        self.first_row = np.zeros(len(data.reward), dtype=bool)
        self.first_row[data.starts] = True
        self.first_row = th.from_numpy(self.first_row)
        self.generator = th.Generator().manual_seed(seed)

    @property
    def n_episodes(self) -> int:
        """Number of episodes E."""
        return len(self.lengths)

    @cached_property
    def termination_rate(self) -> float:
        """The share of steps that end the game by its own rules."""
        return float(self.columns["terminated"].sum()) / len(self.transition_rows)

    def sample(self, batch_size: int, unit: str | None = None) -> Batch:
        """Draws `batch_size` transitions or episodes; `unit` overrides the buffer's `batch_unit`."""
        if (unit or self.batch_unit) == "transitions":
            drawn = th.randint(len(self.transition_rows), (batch_size,), generator=self.generator)
            first = self.transition_rows[drawn]
            return self._gather(first, th.ones_like(first))
        drawn = th.randint(self.n_episodes, (batch_size,), generator=self.generator)
        return self._gather(self.starts[drawn], self.lengths[drawn])

    def add_column(
        self, name: str, compute: Callable[[Batch], Tensor], batch_size: int = 64
    ) -> None:
        """Computes something for every row once, [B, T + 1, ...] from whole episodes, and keeps it beside the data.

        Batches carry it from then on: the outputs of frozen models need no second look.
        """
        column: Tensor | None = None
        for episodes in self._episodes_by_length(batch_size):
            starts, lengths = self.starts[episodes], self.lengths[episodes]
            values = compute(self._gather(starts, lengths)).to(self.storage)
            if column is None:
                column = values.new_zeros(len(self.first_row), *values.shape[2:])
            steps = th.arange(values.shape[1])
            rows, real = starts[:, None] + steps, steps <= lengths[:, None]
            column[rows[real].to(self.storage)] = values[real.to(self.storage)]
        self.columns[name] = column

    def fingerprint(self) -> str:
        """Hash of the columns that models added to the data; empty if there are none."""
        added = [
            column.cpu().numpy()
            for name, column in sorted(self.columns.items())
            if name not in self.recorded
        ]
        return (
            hashlib.blake2b(b"".join(array.tobytes() for array in added), digest_size=8).hexdigest()
            if added
            else ""
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Where sampling stands."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on sampling from where `state_dict` stood."""
        self.generator.set_state(state["generator"].cpu())

    @contextmanager
    def sampling_with(self, seed: int) -> Iterator[None]:
        """Inside, samples are drawn with another seed; afterwards sampling goes on as if nothing had been drawn."""
        state = self.state_dict()
        self.generator.manual_seed(seed)
        yield
        self.load_state_dict(state)

    def _episodes_by_length(self, batch_size: int) -> Iterator[Tensor]:
        return iter(self.lengths.argsort(stable=True).split(batch_size))

    def _gather(self, first_rows: Tensor, lengths: Tensor) -> Batch:
        """The batch of sequences that start at `first_rows` and have `lengths` steps, both int64 [B]."""
        steps = th.arange(int(lengths.max()) + 1)
        rows = first_rows[:, None] + th.minimum(
            steps, lengths[:, None]
        )  # [B, T+1], padding repeats the final row
        filled = steps[:-1] < lengths[:, None]  # [B, T]
        begins = self.first_row[rows].to(self.device)
        index = rows.to(self.storage).flatten()

        batch = {
            name: column.index_select(0, index)
            .unflatten(0, rows.shape)
            .to(self.device, non_blocking=True)
            for name, column in self.columns.items()
        }
        batch["actions"] = batch["actions"].long()
        previous = (
            self.columns["actions"]
            .index_select(0, (index - 1).clamp(min=0))
            .unflatten(0, rows.shape)
        )
        # -1 stands for "none yet", at the first step of an episode.
        batch["last_actions"] = previous.to(self.device).long().masked_fill(begins[..., None], -1)
        batch["reward"], batch["terminated"] = batch["reward"][:, :-1], batch["terminated"][:, :-1]
        batch["filled"] = filled.to(self.device)
        return batch


def _storage_device(n_bytes: int, device: th.device) -> th.device:
    if device.type != "cuda":
        return th.device("cpu")
    free, _ = th.cuda.mem_get_info(device)
    if n_bytes > 0.8 * free:
        log.warning(
            "The dataset (%.1f GiB) stays in main memory: the GPU has %.1f GiB",
            n_bytes / 2**30,
            free / 2**30,
        )
        return th.device("cpu")
    return device

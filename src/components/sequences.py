"""Gathers batches of sequences from rows that lie one after the other."""

from collections.abc import Mapping

import torch as th
from torch import Tensor

from inspo.utils.batch import Batch
from inspo.utils.uploads import upload

FEW_LENGTHS = 8  # different T of batches: there is a CUDA graph for each


def rounded_length(lengths: Tensor, longest: int) -> int:
    """T of a batch: that of its longest sequence, rounded up to one of few.

    Args:
        lengths: of the batch's sequences, int [B], in main memory.
        longest: the most steps that a sequence can have.
    """
    unit = -(-longest // FEW_LENGTHS)
    return min(-(-int(lengths.max()) // unit) * unit, longest)


def gather_sequences(
    columns: Mapping[str, Tensor],
    is_first: Tensor,
    starts: Tensor,
    lengths: Tensor,
    device: th.device,
    n_steps: int | None = None,
) -> Batch:
    """A batch of B sequences, see `inspo.utils.batch`.

    Args:
        columns: the fields of all episodes, [rows, ...]. An episode of L steps has L + 1 rows.
        is_first: whether a row is an episode's first, bool [rows].
        starts: the first row of each sequence, int [B], in main memory.
        lengths: the number of steps of each sequence, int [B], in main memory.
        device: where the batch goes. `columns` and `is_first` may both be on another one.
        n_steps: T. None: that of the longest sequence.
    """
    storage = columns["actions"].device
    n_steps = n_steps or int(lengths.max())
    bounds = upload({"starts": starts, "lengths": lengths}, storage)
    starts, lengths = bounds["starts"], bounds["lengths"]
    steps = th.arange(n_steps + 1, device=storage)
    filled = steps[:-1] < lengths[:, None]  # [B, T]
    rows = starts[:, None] + th.minimum(steps, lengths[:, None])  # [B, T+1]
    index = rows.flatten()

    def rows_of(column: Tensor, index: Tensor) -> Tensor:
        return column.index_select(0, index).unflatten(0, rows.shape)

    batch = {name: rows_of(column, index) for name, column in columns.items()}
    batch["reward"] = batch["reward"][:, :-1]
    batch["terminated"] = batch["terminated"][:, :-1]
    batch["filled"] = filled
    batch["last_actions"] = rows_of(columns["actions"], (index - 1).clamp(min=0))
    at_start = is_first.index_select(0, index).view(*rows.shape, 1)
    if storage.type != device.type:
        batch = upload({**batch, "at_start": at_start}, device)
        at_start = batch.pop("at_start")
    batch["actions"] = batch["actions"].long()
    batch["last_actions"] = batch["last_actions"].long().masked_fill(at_start, -1)
    return batch

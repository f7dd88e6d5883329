"""Gathers batches of sequences from rows that lie one after the other."""

from collections.abc import Mapping

import torch as th
from torch import Tensor

from inspo.utils.batch import Batch


def gather_sequences(
    columns: Mapping[str, Tensor],
    is_first: Tensor,
    starts: Tensor,
    lengths: Tensor,
    device: th.device,
) -> Batch:
    """A batch of B sequences, see `inspo.utils.batch`.

    Args:
        columns: the fields of all episodes, [rows, ...]. An episode of L steps has L + 1 rows.
        is_first: whether a row is an episode's first, bool [rows].
        starts: the first row of each sequence, int [B].
        lengths: the number of steps of each sequence, int [B].
        device: where the batch goes. `columns` may be on another one.
    """
    steps = th.arange(int(lengths.max()) + 1)
    filled = steps[:-1] < lengths[:, None]  # [B, T]
    rows = starts[:, None] + th.minimum(steps, lengths[:, None])  # [B, T+1]
    storage = columns["actions"].device
    index = rows.to(storage).flatten()

    batch = {}
    for name, column in columns.items():
        values = column.index_select(0, index).unflatten(0, rows.shape)
        batch[name] = values.to(device, non_blocking=True)
    batch["actions"] = batch["actions"].long()
    batch["reward"] = batch["reward"][:, :-1]
    batch["terminated"] = batch["terminated"][:, :-1]
    batch["filled"] = filled.to(device)

    before = columns["actions"].index_select(0, (index - 1).clamp(min=0))
    last_actions = before.unflatten(0, rows.shape).to(device).long()
    at_start = is_first[rows].to(device)[..., None]
    batch["last_actions"] = last_actions.masked_fill(at_start, -1)
    return batch

"""Batches without their padding, for networks.

The rows of B sequences are put one step after the other, the longest sequence first, as in
PyTorch's `PackedSequence`. A recurrent network then shrinks its state as sequences end.

A little padding stays, so that batches have few different numbers of rows: see `few_sizes`. In its
place, a sequence's last row is repeated.

Shapes: B batch, T rows of each sequence in the padded form, P packed rows.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch as th
from torch import Tensor

from inspo.utils.batch import Batch


@dataclass(frozen=True)
class Packing:
    """Where the rows of a batch are in the padded and in the packed form."""

    shape: tuple[int, int]  # B, T
    sizes: list[int]  # number of sequences with a row at each step; their sum is P
    # None where there is no padding:
    rows: Tensor | None  # of the flattened padded form, int [P]
    real: Tensor | None  # False: the row takes the place of padding, bool [P]

    def pack(self, values: Tensor) -> Tensor:
        """The packed form, [B, T, ...] to [P, ...]."""
        if self.rows is not None:
            return values.flatten(0, 1).index_select(0, self.rows)
        if len(self.sizes) > 1:
            values = values.transpose(0, 1)
        return values.flatten(0, 1)

    def unpack(self, values: Tensor) -> Tensor:
        """The padded form, [P, ...] to [B, T, ...]. Padding is 0."""
        n_sequences, n_rows = self.shape
        if self.rows is not None:
            # What was computed for padding goes to one more row, which is left out.
            places = self.rows.where(self.real, n_sequences * n_rows)
            padded = values.new_zeros(n_sequences * n_rows + 1, *values.shape[1:])
            return padded.index_copy(0, places, values)[:-1].unflatten(0, self.shape)
        if len(self.sizes) > 1:
            return values.unflatten(0, (n_rows, n_sequences)).transpose(0, 1)
        return values.unflatten(0, self.shape)


class SequenceRows(NamedTuple):
    """The packed rows of sequences."""

    sequences: Tensor  # int [P], the sequence of each row
    steps: Tensor  # int [P], its step
    sizes: list[int]  # number of sequences that run at each step


def few_sizes(n_rows: int) -> int:
    """The number of rows, rounded up to one of few, by a sixteenth at most.

    oneDNN compiles a product of matrices for each new size, which takes up to 1 ms in float32 and
    5 ms in bfloat16. Without this, nearly every batch has a size of its own.
    """
    step = 1 << max(n_rows.bit_length() - 5, 0)
    return -(-n_rows // step) * step


def sequence_rows(lengths: Tensor, n_extra: int = 0) -> SequenceRows:
    """The packed rows of sequences of these lengths, int [R].

    Args:
        n_extra: how many rows of padding to keep, earlier steps first; if there are fewer, all.
    """
    longest_first = lengths.argsort(descending=True, stable=True)
    time = th.arange(int(lengths.max()), device=lengths.device)
    runs = time[:, None] < lengths[longest_first]  # [T, R]
    if n_extra:
        earlier_padding = (~runs).flatten().cumsum(0).view_as(runs)
        runs |= earlier_padding <= n_extra
    steps, places = runs.nonzero(as_tuple=True)
    return SequenceRows(longest_first[places], steps, runs.sum(dim=1).tolist())


def packing(batch: Batch, recurrent: bool) -> Packing:
    """How to pack a batch, with or without its final row. Without `filled`, all rows are real.

    On a GPU padding stays: lengths are not known to the host, and computing it costs little.

    Args:
        recurrent: whether rows must lie step by step. Otherwise a batch without padding stays as
            it is, as one step.
    """
    n_sequences, n_rows = shape = batch["obs"].shape[:2]
    filled = batch.get("filled")
    if filled is None or filled.device.type != "cpu" or filled.all():
        sizes = [n_sequences] * n_rows if recurrent else [n_sequences * n_rows]
        return Packing(shape, sizes, None, None)
    lengths = filled.sum(dim=1) + n_rows - filled.shape[1]
    n_real = int(lengths.sum())
    rows = sequence_rows(lengths, few_sizes(n_real) - n_real)
    last = lengths[rows.sequences] - 1
    steps = rows.steps.minimum(last).clamp(min=0)
    return Packing(shape, rows.sizes, rows.sequences * n_rows + steps, rows.steps <= last)

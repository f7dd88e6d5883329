"""Batches without their padding, for networks.

The rows of B sequences are put one step after the other, the longest sequence first, as in
PyTorch's `PackedSequence`. A recurrent network then shrinks its state as sequences end.

A little padding stays, so that batches have few different numbers of rows: see `few_sizes`. In its
place, a sequence's last row is repeated.

Shapes: B batch, T rows of each sequence in the padded form, P packed rows.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch as th
from torch import Tensor

from inspo.utils.batch import Batch


@dataclass(frozen=True)
class Packing:
    """Where the rows of a batch are in the padded and in the packed form."""

    shape: tuple[int, int]  # B, T
    sizes: list[int]  # number of sequences with a row at each step; their sum is P
    # Of each packed row, its number in the flattened padded form, int [P]. None: no padding.
    rows: Tensor | None = None  # what stands there
    places: Tensor | None = None  # where its outputs go; behind the last row if it is padding

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
            padded = values.new_zeros(n_sequences * n_rows + 1, *values.shape[1:])
            return padded.index_copy(0, self.places, values)[:-1].unflatten(0, self.shape)
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
    if filled is not None and filled.device.type == "cpu":
        n_steps, n_final = filled.shape[1], n_rows - filled.shape[1]
        lengths = filled.sum(dim=1).tolist()
        if min(lengths) < n_steps:
            return _without_padding(tuple(length + n_final for length in lengths), n_rows)
    sizes = [n_sequences] * n_rows if recurrent else [n_sequences * n_rows]
    return Packing(shape, sizes)


@lru_cache(maxsize=64)
def _without_padding(lengths: tuple[int, ...], n_rows: int) -> Packing:
    """For sequences of these lengths. Kept, since many passes of a round need the same."""
    n_sequences = len(lengths)
    rows = sequence_rows(th.tensor(lengths), few_sizes(sum(lengths)) - sum(lengths))
    last = th.tensor(lengths)[rows.sequences] - 1
    first_row = rows.sequences * n_rows
    places = (first_row + rows.steps).where(rows.steps <= last, n_sequences * n_rows)
    rows_there = first_row + rows.steps.minimum(last).clamp(min=0)
    return Packing((n_sequences, n_rows), rows.sizes, rows_there, places)

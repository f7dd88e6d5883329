"""The batches that learners train on.

B sequences, T steps, N agents, A actions; S and O are the state and observation sizes of `EnvInfo`.

    state          float [B, T+1, S]
    obs            float [B, T+1, N, O]
    avail_actions  bool  [B, T+1, N, A]
    actions        int   [B, T+1, N]
    last_actions   int   [B, T+1, N]   -1 at an episode's first step
    reward         float [B, T]
    terminated     bool  [B, T]
    filled         bool  [B, T]        False for padding

In fields with T+1 rows, the last row holds what followed the last step. Padding repeats that row.
Frozen behaviour models add their own fields, see `inspo.components.behaviour`.
"""

from torch import Tensor

Batch = dict[str, Tensor]


def without_final_row(batch: Batch) -> Batch:
    """The batch with T rows in every field, for networks that do not need the final row."""
    steps = batch["filled"].shape[1]
    return {name: rows[:, :steps] for name, rows in batch.items()}


def following(batch: Batch) -> Batch:
    """The rows after each step, T in every field. `filled` tells which of the steps are real."""
    steps = batch["filled"].shape[1]
    return {name: rows[:, -steps:] for name, rows in batch.items()}

"""What a learner's batch holds. B sequences, T steps, N agents, A actions, S and O as in `EnvInfo`.

    state          float [B, T+1, S]
    obs            float [B, T+1, N, O]
    avail_actions  bool  [B, T+1, N, A]
    actions        int   [B, T+1, N]
    last_actions   int   [B, T+1, N]   -1 at an episode's first step
    reward         float [B, T]
    terminated     bool  [B, T]
    filled         bool  [B, T]        False at padding

Row T of the longer fields is what followed the last step. Padding repeats rows. Frozen behaviour
models add fields of their own, see `inspo.components.behaviour`.
"""

from torch import Tensor

Batch = dict[str, Tensor]


def without_final_row(batch: Batch) -> Batch:
    """The batch's T steps alone, for networks that need not see what followed the last one."""
    steps = batch["filled"].shape[1]
    return {name: rows[:, :steps] for name, rows in batch.items()}

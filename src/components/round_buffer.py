"""The episodes of one round of an on-policy run, as one padded batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch as th
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from inspo.data.rollout import Rollout
from inspo.utils.batch import Batch
from inspo.utils.errors import CheckpointError
from inspo.utils.uploads import upload


class RoundBuffer:
    """Holds the newest round. `start_round` forgets the one before.

    Args:
        device: where the batch goes.
    """

    def __init__(self, device: th.device):
        self.device = device
        self.rollouts: list[Rollout] = []
        self.added = 0  # episodes ever added

    def start_round(self) -> None:
        """Forgets all episodes."""
        self.rollouts = []

    def add(self, rollout: Rollout) -> None:
        """Adds recorded episodes."""
        self.rollouts.append(rollout)
        self.added += len(rollout.lengths)

    def batch(self) -> Batch:
        """All episodes of the round, see `inspo.utils.batch`. B is their number."""
        parts = [round_batch(rollout) for rollout in self.rollouts]
        return upload(_join(parts), self.device)

    def state_dict(self) -> dict[str, int]:
        """The number of episodes. The episodes themselves have been used."""
        return {"added": self.added}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes from `state_dict`.

        Raises:
            CheckpointError: the number is none.
        """
        added = state["added"]
        if type(added) is not int or added < 0:
            raise CheckpointError(f"buffer.added is {added!r}, not a number of episodes")
        self.added = added


def round_batch(rollout: Rollout) -> Batch:
    """A recorded rollout as a batch. A game that is over repeats its last row, as padding does."""
    rows = {name: th.from_numpy(np.asarray(values)) for name, values in rollout.rows.items()}
    lengths = th.from_numpy(rollout.lengths)
    steps = th.arange(rows["reward"].shape[1])
    filled = steps < lengths[:, None]
    is_last = steps == lengths[:, None] - 1
    actions = rows["actions"].long()  # [B, T, N]
    one_row = (0, 0, 0, 1)  # pads the axis T behind, and no other
    return {
        "state": rows["state"],
        "obs": rows["obs"],
        "avail_actions": rows["avail_actions"],
        "actions": F.pad(actions, one_row),
        "last_actions": F.pad(actions, (0, 0, 1, 0), value=-1),
        "reward": rows["reward"].float(),
        "terminated": is_last & th.from_numpy(rollout.terminated)[:, None],
        "filled": filled,
    }


def _join(parts: Sequence[Batch]) -> Batch:
    """One batch of several. Shorter ones repeat their last row, and their flags are False."""
    if len(parts) == 1:
        return parts[0]
    steps = max(part["filled"].shape[1] for part in parts)
    return {name: th.cat([_lengthen(part, name, steps) for part in parts]) for name in parts[0]}


def _lengthen(part: Batch, name: str, steps: int) -> Tensor:
    rows = part[name]
    missing = steps - part["filled"].shape[1]
    last = rows[:, -1:]
    if name in ("reward", "terminated", "filled"):
        last = th.zeros_like(last)
    return th.cat([rows, last.expand(-1, missing, *rows.shape[2:])], dim=1)

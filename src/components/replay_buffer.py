"""The replay buffer of an online run: the latest episodes, in compact dtypes, sampled as padded batches."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch as th

from inspo.data.formats import Sizes
from inspo.envs import EnvInfo
from inspo.utils.batch import Batch
from inspo.utils.errors import CheckpointError, ConfigError
from inspo.utils.files import load_torch, write_atomically

Episode = dict[str, np.ndarray]  # the row fields of a dataset, each with L + 1 rows
log = logging.getLogger(__name__)


class ReplayBuffer:
    """A ring of `capacity` episodes: a new one takes the place of the oldest.

    Args:
        device: where batches go; the episodes themselves stay in main memory.
        seed: fixes the order of sampling.

    Raises:
        ConfigError: the memory cannot take it.
    """

    def __init__(self, info: EnvInfo, capacity: int, device: th.device, seed: int):
        self.info, self.capacity, self.device = info, capacity, device
        sizes = Sizes(info.n_agents, info.n_actions, info.obs_shape, info.state_shape)
        rows, dtypes = info.episode_limit + 1, sizes.dtypes()
        _check_memory(capacity, rows * sizes.bytes_per_row())
        # Memory that nobody has written to yet is not taken yet: short episodes leave the ends of their slots free.
        self.columns = {
            name: th.from_numpy(np.zeros((capacity, rows, *shape), dtypes[name]))
            for name, shape in sizes.shapes().items()
        }
        self.lengths = th.zeros(capacity, dtype=th.long)  # steps L of each slot's episode
        self.battle_won = th.zeros(capacity, dtype=th.bool)  # of each slot's episode
        self.added = 0  # episodes ever added; the next one goes to slot added % capacity
        self.generator = th.Generator().manual_seed(seed)

    @property
    def n_episodes(self) -> int:
        """Episodes held now."""
        return min(self.added, self.capacity)

    def add(self, episode: Episode, battle_won: bool = False) -> None:
        """Takes a copy of an episode."""
        slot, rows = self.added % self.capacity, len(episode["reward"])
        for name, column in self.columns.items():
            column[slot, :rows] = th.from_numpy(np.ascontiguousarray(episode[name]))
        self.lengths[slot], self.battle_won[slot] = rows - 1, battle_won
        self.added += 1

    def episodes(self) -> Iterator[tuple[Episode, bool]]:
        """All episodes held, oldest first, each with whether its battle was won."""
        for number in range(self.added - self.n_episodes, self.added):
            slot = number % self.capacity
            rows = int(self.lengths[slot]) + 1
            yield (
                {name: column[slot, :rows].numpy() for name, column in self.columns.items()},
                bool(self.battle_won[slot]),
            )

    def sample(self, batch_size: int) -> Batch:
        """Draws whole episodes uniformly, with replacement: see `components.offline_buffer` for what a batch holds."""
        slots = th.randint(self.n_episodes, (batch_size,), generator=self.generator)
        lengths = self.lengths[slots, None]
        steps = th.arange(int(lengths.max()) + 1)
        rows = steps.minimum(lengths)  # [B, T+1], padding repeats the final row
        batch = {
            name: column[slots[:, None], rows].to(self.device, non_blocking=True)
            for name, column in self.columns.items()
            if name != "truncated"
        }
        batch["actions"] = batch["actions"].long()
        previous = self.columns["actions"][slots[:, None], (rows - 1).clamp(min=0)].to(self.device)
        batch["last_actions"] = previous.long().masked_fill(
            (rows == 0).to(self.device)[..., None], -1
        )
        batch["reward"], batch["terminated"] = batch["reward"][:, :-1], batch["terminated"][:, :-1]
        batch["filled"] = (steps[:-1] < lengths).to(self.device)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where sampling and filling stand, without the episodes: see `save`."""
        return {"generator": self.generator.get_state(), "added": self.added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from where `state_dict` stood, once `load` has brought the episodes back."""
        self.generator.set_state(state["generator"].cpu())
        self.added = state["added"]

    def save(self, path: Path) -> None:
        """Writes the episodes, whole or not at all."""
        held = slice(self.n_episodes)
        real = th.arange(self.info.episode_limit + 1) <= self.lengths[held, None]
        rows = {name: column[held][real] for name, column in self.columns.items()}
        with write_atomically(path) as temporary:
            flags = {
                "lengths": self.lengths[held].clone(),
                "battle_won": self.battle_won[held].clone(),
            }
            th.save({**flags, "rows": rows}, temporary)

    def load(self, path: Path) -> None:
        """Brings back the episodes that `save` wrote, into the same slots. CheckpointError if the file is no use."""
        if not path.exists():
            raise CheckpointError(
                f"{path}: there is no such file. Only a run's newest checkpoint has its replay buffer beside it, and "
                f"an online run cannot go on without one"
            )
        try:
            content = load_torch(path)
            lengths = content["lengths"]
            self.lengths[: len(lengths)], self.battle_won[: len(lengths)] = (
                lengths,
                content["battle_won"],
            )
            real = th.arange(self.info.episode_limit + 1) <= lengths[:, None]
            for name, column in self.columns.items():
                column[: len(lengths)][real] = content["rows"][name]
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: cannot be used as this run's replay buffer: {error}"
            ) from None


def _check_memory(capacity: int, per_episode: int) -> None:
    needed, free = capacity * per_episode / 2**30, psutil.virtual_memory().available / 2**30
    log.info(
        "Replay buffer of %d episodes: at most %.2f GiB; %.1f GiB are free", capacity, needed, free
    )
    if needed > 0.9 * free:
        raise ConfigError(
            f"buffer_size={capacity}: {needed:.1f} GiB if every episode is as long as it can be, and {free:.1f} GiB of "
            f"memory are free; at most buffer_size={int(0.9 * free * 2**30 / per_episode)} fits"
        )

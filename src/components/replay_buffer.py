"""The replay buffer of an online run: the newest episodes, sampled as padded batches."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from torch import Tensor

from inspo.components.sequences import gather_sequences, rounded_length
from inspo.data.formats import Sizes
from inspo.envs import EnvInfo
from inspo.utils.batch import Batch
from inspo.utils.errors import CheckpointError, ConfigError
from inspo.utils.files import load_torch, save_torch
from inspo.utils.memory import free_memory

Episode = dict[str, np.ndarray]  # the row fields of a dataset, each with L + 1 rows
MAX_SHARE_OF_MEMORY = 0.9  # of the free memory
log = logging.getLogger(__name__)


class ReplayBuffer:
    """A ring of `capacity` episodes: a new one replaces the oldest.

    Args:
        info: the environment's sizes.
        capacity: number of episodes.
        device: where batches go. The episodes themselves stay in main memory.
        seed: of the sampling.

    Raises:
        ConfigError: `capacity` episodes do not fit into the free memory.
    """

    def __init__(self, info: EnvInfo, capacity: int, device: th.device, seed: int):
        self.capacity = capacity
        self.device = device
        self.n_rows = info.episode_limit + 1
        sizes = Sizes(info.n_agents, info.n_actions, info.obs_shape, info.state_shape)
        _check_memory(capacity, self.n_rows * sizes.bytes_per_row())
        dtypes = sizes.dtypes()
        # The system hands out zeroed memory when it is first written to, so that the unused ends of
        # slots with short episodes take none.
        self.columns: dict[str, Tensor] = {
            name: th.from_numpy(np.zeros((capacity, self.n_rows, *shape), dtypes[name]))
            for name, shape in sizes.shapes().items()
        }
        self.lengths = th.zeros(capacity, dtype=th.long)  # steps L of each slot's episode
        self.battle_won = th.zeros(capacity, dtype=th.bool)  # of each slot's episode
        self.is_first = th.zeros(capacity, self.n_rows, dtype=th.bool)
        self.is_first[:, 0] = True
        self.added = 0  # episodes ever added; the next one goes to slot added % capacity
        self.reward_scale = 1.0  # what the rewards of batches are divided by
        self.generator = th.Generator().manual_seed(seed)

    @property
    def n_episodes(self) -> int:
        """Number of episodes in the buffer."""
        return min(self.added, self.capacity)

    def add(self, episode: Episode, battle_won: bool = False) -> None:
        """Copies an episode into the buffer."""
        slot = self.added % self.capacity
        n_rows = len(episode["reward"])
        for name, column in self.columns.items():
            column[slot, :n_rows] = th.from_numpy(np.ascontiguousarray(episode[name]))
        self.lengths[slot] = n_rows - 1
        self.battle_won[slot] = battle_won
        self.added += 1

    def episodes(self) -> Iterator[tuple[Episode, bool]]:
        """Yields all episodes, oldest first, each with whether its battle was won."""
        for number in range(self.added - self.n_episodes, self.added):
            slot = number % self.capacity
            rows = slice(int(self.lengths[slot]) + 1)
            episode = {name: column[slot, rows].numpy() for name, column in self.columns.items()}
            yield episode, bool(self.battle_won[slot])

    def standardise_rewards(self) -> None:
        """Sets `reward_scale` to the root mean square of the rewards of all steps in the buffer.

        It is 1 while all of them are 0.
        """
        lengths = self.lengths[: self.n_episodes]
        is_step = th.arange(self.n_rows) < lengths[:, None]
        rewards = self.columns["reward"][: self.n_episodes][is_step]
        self.reward_scale = float(rewards.square().mean().sqrt()) or 1.0

    def sample(self, batch_size: int, few_lengths: bool = False) -> Batch:
        """Draws whole episodes uniformly, with replacement. Rewards are scaled.

        Args:
            few_lengths: pads episodes to one of few T, as CUDA graphs want.
        """
        slots = th.randint(self.n_episodes, (batch_size,), generator=self.generator)
        columns = {
            name: column.flatten(0, 1)
            for name, column in self.columns.items()
            if name != "truncated"
        }
        lengths = self.lengths[slots]
        batch = gather_sequences(
            columns,
            is_first=self.is_first.flatten(),
            starts=slots * self.n_rows,
            lengths=lengths,
            device=self.device,
            n_steps=rounded_length(lengths, self.n_rows - 1) if few_lengths else None,
        )
        if self.reward_scale != 1:
            batch["reward"] = batch["reward"] / self.reward_scale
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The state of sampling and filling. The episodes are written by `save`."""
        return {"generator": self.generator.get_state(), "added": self.added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from `state_dict`. The episodes are read by `load`."""
        self.generator.set_state(state["generator"].cpu())
        self.added = state["added"]
        n_loaded = int((self.lengths > 0).sum())
        if n_loaded != self.n_episodes:
            raise CheckpointError(
                f"the replay buffer holds {n_loaded} episodes, and the checkpoint says "
                f"{self.n_episodes}"
            )

    def save(self, path: Path) -> None:
        """Writes the episodes to a file, atomically."""
        n_episodes = self.n_episodes
        lengths = self.lengths[:n_episodes].clone()
        real = self._real_rows(lengths)
        content = {
            "lengths": lengths,
            "battle_won": self.battle_won[:n_episodes].clone(),
            "rows": {name: column[:n_episodes][real] for name, column in self.columns.items()},
        }
        save_torch(content, path)

    def load(self, path: Path) -> None:
        """Reads the episodes that `save` wrote, into the same slots.

        Raises:
            CheckpointError: there is no such file, or it does not fit this buffer.
        """
        if not path.exists():
            raise CheckpointError(
                f"{path}: there is no such file. An online run resumes with its replay buffer, "
                "which is kept beside the newest checkpoint only"
            )
        try:
            content = load_torch(path)
            lengths = content["lengths"]
            n_episodes = len(lengths)
            if not ((lengths > 0) & (lengths < self.n_rows)).all():
                raise ValueError(f"lengths must be 1 to {self.n_rows - 1} steps")
            real = self._real_rows(lengths)
            self.lengths[:n_episodes] = lengths
            self.battle_won[:n_episodes] = content["battle_won"]
            for name, column in self.columns.items():
                column[:n_episodes][real] = content["rows"][name]
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: cannot be used as this run's replay buffer: {error}"
            ) from None

    def _real_rows(self, lengths: Tensor) -> Tensor:
        """Which rows of the slots hold an episode of these lengths, bool [slots, rows]."""
        return th.arange(self.n_rows) <= lengths[:, None]


def _check_memory(capacity: int, bytes_per_episode: int) -> None:
    needed = capacity * bytes_per_episode
    free = free_memory()
    log.info(
        "Replay buffer of %d episodes: at most %.2f GiB; %.1f GiB are free",
        capacity,
        needed / 2**30,
        free / 2**30,
    )
    if needed > MAX_SHARE_OF_MEMORY * free:
        largest = int(MAX_SHARE_OF_MEMORY * free / bytes_per_episode)
        raise ConfigError(
            f"buffer_size={capacity}: up to {needed / 2**30:.1f} GiB if all episodes are as long "
            f"as possible, but {free / 2**30:.1f} GiB of memory are free; "
            f"at most buffer_size={largest} fits"
        )

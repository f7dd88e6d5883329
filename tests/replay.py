"""Replay buffers for tests."""

from collections.abc import Iterator

import numpy as np
import torch as th

from inspo.components.replay_buffer import ReplayBuffer
from inspo.data.episode_data import EpisodeData

FIELDS = ("state", "obs", "actions", "avail_actions", "reward", "terminated", "truncated")


def episodes_of(data: EpisodeData) -> Iterator[dict[str, np.ndarray]]:
    for start, length in zip(data.starts, data.lengths, strict=True):
        yield {name: getattr(data, name)[start : start + length + 1] for name in FIELDS}


def replay_of(
    data: EpisodeData, capacity: int = 10, seed: int = 0, episode_limit: int = 5
) -> ReplayBuffer:
    """A buffer with the episodes of `data`."""
    info = data.env_info(episode_limit)
    buffer = ReplayBuffer(info, capacity, th.device("cpu"), seed)
    for episode in episodes_of(data):
        buffer.add(episode)
    return buffer

"""Statistics of a dataset: counts, returns, wins, and how the agents behaved. Read in one pass."""

from dataclasses import dataclass, field

import numpy as np

from inspo.data.episode_data import EpisodeData
from inspo.data.formats import Reader, Sizes
from inspo.data.magnitudes import largest

# StarCraft II maps of CFCQL's data, told by their sizes: name, and the reward for winning. The
# rewards are shaped (SMAC): a win pays 200 points, scaled so that the best return is 20.
WIN_BONUS = {
    Sizes(n_agents=5, n_actions=11, obs=80, state=120): ("2s3z", 200 * 20 / 1020),
    Sizes(n_agents=3, n_actions=11, obs=48, state=68): ("3s_vs_5z", 200 * 20 / 1000),
    Sizes(n_agents=5, n_actions=12, obs=55, state=98): ("5m_vs_6m", 200 * 20 / 530),
    Sizes(n_agents=6, n_actions=14, obs=78, state=140): ("6h_vs_8z", 200 * 20 / 1480),
}


@dataclass
class Statistics:
    """Counted over blocks of episodes.

    Shapes: E episodes of a block, K steps of all of them, N agents, A actions.
    """

    sizes: Sizes
    lengths: list[np.ndarray] = field(default_factory=list)
    returns: list[np.ndarray] = field(default_factory=list)
    truncated: list[np.ndarray] = field(default_factory=list)
    last_rewards: list[np.ndarray] = field(default_factory=list)
    # A hash of each step's state, and a number for its joint action; uint64 [K].
    states: list[np.ndarray] = field(default_factory=list)
    episodes: list[np.ndarray] = field(default_factory=list)  # a hash of each, uint64 [E]
    largest: dict[str, float] = field(default_factory=dict)  # absolute values, by field
    joint: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = (self.sizes.n_agents, self.sizes.n_actions)
        self.counts = np.zeros(shape, dtype=np.int64)
        self.available = np.zeros(shape, dtype=np.int64)

    def add(self, data: EpisodeData) -> None:
        """Counts a block of checked episodes."""
        for name, size in largest(data).items():
            self.largest[name] = max(size, self.largest.get(name, 0.0))
        self.episodes.append(hash_episodes(data))
        self.lengths.append(data.lengths)
        self.returns.append(data.returns)
        self.truncated.append(data.truncated[data.final_rows - 1])
        self.last_rewards.append(data.reward[data.final_rows - 1])
        n_agents, n_actions = self.counts.shape
        steps = data.is_step
        actions = data.actions[steps].astype(np.int64)
        for agent in range(n_agents):
            self.counts[agent] += np.bincount(actions[:, agent], minlength=n_actions)
        self.available += data.avail_actions[steps].sum(axis=0)
        self.states.append(hash_rows(data.state[steps]))
        self.joint.append(_number_joint_actions(actions, n_actions))

    def results(self) -> "Results":
        """All statistics."""
        truncated = np.concatenate(self.truncated)
        joint, states = np.concatenate(self.joint), np.concatenate(self.states)
        pairs = hash_rows(np.stack([states, joint], axis=1))
        joint_counts = _count_distinct(joint)
        state_counts = _count_distinct(states)
        pair_counts = _count_distinct(pairs)
        map_name, win_rate = self._wins(truncated)
        return Results(
            sizes=self.sizes,
            lengths=np.concatenate(self.lengths),
            returns=np.concatenate(self.returns),
            truncated=float(truncated.mean()),
            frequencies=self.counts / self.counts.sum(axis=1, keepdims=True),
            availability=self.available / max(len(joint), 1),
            joint_actions=len(joint_counts),
            distinct_pairs=len(pair_counts),
            distinct_states=len(state_counts),
            agent_entropy=np.array([_entropy(counts) for counts in self.counts]),
            joint_entropy=_entropy(joint_counts),
            joint_entropy_given_state=_entropy(pair_counts) - _entropy(state_counts),
            win_rate=win_rate,
            map_name=map_name,
            distinct_episodes=len(np.unique(np.concatenate(self.episodes))),
        )

    def _wins(self, truncated: np.ndarray) -> tuple[str | None, float | None]:
        """The StarCraft II map, told by the sizes, and the share of battles won, if known."""
        if self.sizes not in WIN_BONUS:
            return None, None
        map_name, bonus = WIN_BONUS[self.sizes]
        last_rewards = np.concatenate(self.last_rewards)
        won = (last_rewards >= bonus * (1 - 1e-4)) & ~truncated
        return map_name, float(won.mean())


@dataclass
class Results:
    """The statistics of a dataset. Entropies are in nats, of the recorded frequencies."""

    sizes: Sizes
    lengths: np.ndarray  # [E]
    returns: np.ndarray  # [E]
    truncated: float  # share of episodes
    frequencies: np.ndarray  # of each agent's actions, [N, A]
    availability: np.ndarray  # share of steps at which an action was available, [N, A]
    joint_actions: int  # distinct ones
    distinct_pairs: int  # of state and joint action
    distinct_states: int
    agent_entropy: np.ndarray  # H(a^i), [N]
    joint_entropy: float  # H(a)
    joint_entropy_given_state: float  # H(a | s); 0 if no state occurs twice, whatever the policy
    win_rate: float | None  # None: unknown
    map_name: str | None
    distinct_episodes: int  # that differ in a state, an action or a reward

    @property
    def n_steps(self) -> int:
        """Number of steps of all episodes."""
        return int(self.lengths.sum())

    @property
    def coordination(self) -> float:
        """sum_i H(a^i) - H(a): how much the teammates' actions tell about an agent's own.

        0 for independent agents.
        """
        return float(self.agent_entropy.sum() - self.joint_entropy)


def statistics(reader: Reader) -> Results:
    """Reads the dataset once and returns its statistics."""
    counted = Statistics(reader.sizes)
    for block in reader.shown_blocks("Reading"):
        block.check()
        counted.add(block)
    return counted.results()


def hash_rows(rows: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row, uint64 [K]. Different rows hardly ever have the same."""
    words = np.ascontiguousarray(rows).view(np.uint32).reshape(len(rows), -1)
    n_words = words.shape[1]
    rng = np.random.default_rng(0)
    keys = rng.integers(1, 2**64, size=n_words + 1, dtype=np.uint64, endpoint=False)
    hashed = np.full(len(rows), keys[-1])
    for column in range(n_words):  # one at a time: no copy of all rows in 64 bits
        hashed = (hashed ^ words[:, column]) * (keys[column] | np.uint64(1))
        hashed ^= hashed >> np.uint64(29)
    return hashed


def hash_episodes(data: EpisodeData) -> np.ndarray:
    """A 64-bit hash of the states, actions and rewards of each episode, uint64 [E]."""
    n_rows = len(data.reward)
    values = [data.state, data.actions.astype(np.float32), data.reward[:, None]]
    rows = hash_rows(np.concatenate(values, axis=1))
    # Sums of rows that are multiplied by their step: the order counts.
    step = np.arange(n_rows) - np.repeat(data.starts, data.lengths + 1)
    keys = np.random.default_rng(1).integers(1, 2**64, int(data.lengths.max()) + 1, np.uint64)
    return np.add.reduceat(rows * (keys[step] | np.uint64(1)), data.starts)


def _number_joint_actions(actions: np.ndarray, n_actions: int) -> np.ndarray:
    """A number for each joint action, uint64 [K]; a hash where there are too many to count."""
    n_agents = actions.shape[1]
    if n_actions**n_agents >= 2**63:
        return hash_rows(actions.astype(np.float32))
    radix = np.uint64(n_actions) ** np.arange(n_agents, dtype=np.uint64)
    return (actions.astype(np.uint64) * radix).sum(axis=1)


def _count_distinct(values: np.ndarray) -> np.ndarray:
    return np.unique(values, return_counts=True)[1]


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())

"""What is in a dataset: counts, returns, wins, and how its makers behaved. One pass, a block of episodes at a time."""

from dataclasses import dataclass, field

import numpy as np

from inspo.data.episode_data import EpisodeData
from inspo.data.formats import Reader, Sizes
from inspo.utils.progress import Progress

# StarCraft II maps with shaped rewards (SMAC): sizes, and the share of the reward that only a victory pays, 200 points
# scaled so that the best return is 20. The maps of CFCQL's data; others are not told apart from other games.
WIN_BONUS = {
    Sizes(n_agents=5, n_actions=11, obs=80, state=120): ("2s3z", 200 * 20 / 1020),
    Sizes(n_agents=3, n_actions=11, obs=48, state=68): ("3s_vs_5z", 200 * 20 / 1000),
    Sizes(n_agents=5, n_actions=12, obs=55, state=98): ("5m_vs_6m", 200 * 20 / 530),
    Sizes(n_agents=6, n_actions=14, obs=78, state=140): ("6h_vs_8z", 200 * 20 / 1480),
}


@dataclass
class Statistics:
    """Gathered from blocks of checked or unchecked episodes; E episodes, K steps in all, N agents, A actions."""

    sizes: Sizes
    lengths: list[np.ndarray] = field(default_factory=list)
    returns: list[np.ndarray] = field(default_factory=list)
    truncated: list[np.ndarray] = field(default_factory=list)
    last_rewards: list[np.ndarray] = field(default_factory=list)
    states: list[np.ndarray] = field(
        default_factory=list
    )  # a hash of each step's state, uint64 [K]
    joint: list[np.ndarray] = field(
        default_factory=list
    )  # a number for each step's joint action, uint64 [K]

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.sizes.n_agents, self.sizes.n_actions), dtype=np.int64)
        self.available = np.zeros_like(self.counts)

    def add(self, data: EpisodeData) -> None:
        """Counts a block in."""
        self.lengths.append(data.lengths)
        self.returns.append(data.returns)
        self.truncated.append(data.truncated[data.final_rows - 1])
        self.last_rewards.append(data.reward[data.final_rows - 1])
        steps = np.ones(len(data.reward), dtype=bool)
        steps[data.final_rows] = False
        actions = data.actions[steps].astype(np.int64).clip(0, self.sizes.n_actions - 1)
        for agent in range(self.sizes.n_agents):
            self.counts[agent] += np.bincount(actions[:, agent], minlength=self.sizes.n_actions)
        self.available += data.avail_actions[steps].sum(axis=0)
        self.states.append(hash_rows(data.state[steps]))
        if self.sizes.n_actions**self.sizes.n_agents < 2**63:
            radix = self.sizes.n_actions ** np.arange(self.sizes.n_agents, dtype=np.uint64)
            self.joint.append((actions.astype(np.uint64) * radix.astype(np.uint64)).sum(axis=1))
        else:
            self.joint.append(hash_rows(actions.astype(np.float32)))

    def results(self) -> "Results":
        """All figures."""
        returns, truncated = np.concatenate(self.returns), np.concatenate(self.truncated)
        joint, states = np.concatenate(self.joint), np.concatenate(self.states)
        pairs = hash_rows(np.stack([states, joint], axis=1))
        frequencies = self.counts / self.counts.sum(axis=1, keepdims=True)
        marginal = np.array([_entropy(counts) for counts in self.counts])
        joint_counts = np.unique(joint, return_counts=True)[1]
        wins, bonus = None, WIN_BONUS.get(self.sizes)
        if bonus:
            wins = (np.concatenate(self.last_rewards) >= bonus[1] * (1 - 1e-4)) & ~truncated
        return Results(
            sizes=self.sizes,
            lengths=np.concatenate(self.lengths),
            returns=returns,
            truncated=float(truncated.mean()),
            frequencies=frequencies,
            availability=self.available / max(len(joint), 1),
            joint_actions=len(joint_counts),
            distinct_pairs=len(np.unique(pairs)),
            distinct_states=len(np.unique(states)),
            agent_entropy=marginal,
            joint_entropy=_entropy(joint_counts),
            joint_entropy_given_state=_entropy(np.unique(pairs, return_counts=True)[1])
            - _entropy(np.unique(states, return_counts=True)[1]),
            win_rate=None if wins is None else float(wins.mean()),
            map_name=bonus[0] if bonus else None,
        )


@dataclass
class Results:
    """The figures of a dataset. Entropies in nats, of what was recorded, whatever policy made it."""

    sizes: Sizes
    lengths: np.ndarray  # [E]
    returns: np.ndarray  # [E]
    truncated: float  # share of episodes
    frequencies: np.ndarray  # of each agent's actions, [N, A]
    availability: np.ndarray  # share of steps at which an action was available, [N, A]
    joint_actions: int  # distinct ones seen
    distinct_pairs: int  # of state and joint action
    distinct_states: int
    agent_entropy: np.ndarray  # H(a^i), [N]
    joint_entropy: float  # H(a)
    joint_entropy_given_state: (
        float  # H(a | s): 0 where no state was seen twice, however random the policy
    )
    win_rate: float | None  # None: the data does not say
    map_name: str | None

    @property
    def n_steps(self) -> int:
        return int(self.lengths.sum())

    @property
    def coordination(self) -> float:
        """sum_i H(a^i) - H(a): what knowing the teammates' actions tells about one's own; 0 for independent agents."""
        return float(self.agent_entropy.sum() - self.joint_entropy)


def statistics(reader: Reader) -> Results:
    """Reads the dataset once and returns its figures."""
    found = Statistics(reader.sizes)
    shown = Progress(reader.n_episodes, "Reading")
    for block in reader.blocks():
        block.check()
        found.add(block)
        shown.advance(block.n_episodes)
    shown.close()
    return found.results()


def hash_rows(rows: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row, uint64 [K]: equal rows have equal hashes, others hardly ever."""
    words = np.ascontiguousarray(rows).view(np.uint32).reshape(len(rows), -1)
    keys = np.random.default_rng(0).integers(
        1, 2**64, size=words.shape[1] + 1, dtype=np.uint64, endpoint=False
    )
    hashed = np.full(len(rows), keys[-1])
    for column in range(words.shape[1]):  # one at a time: no copy of the rows in 64 bits
        hashed = (hashed ^ words[:, column]) * (keys[column] | np.uint64(1))
        hashed ^= hashed >> np.uint64(29)
    return hashed


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())

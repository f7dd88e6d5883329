"""An online run: episodes played in parallel, and gradient steps on them.

Beside its checkpoints it keeps what src/collect.py makes datasets from:

checkpoints/medium.pt           the first policy whose score reaches `medium_score`
checkpoints/expert.pt           the policy with the best score, if it reaches `expert_score`

`replay_session` is for learners with a replay buffer, `on_policy_session` for those without one.
"""

import logging
import shutil
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inspo.components.replay_buffer import ReplayBuffer
from inspo.components.round_buffer import RoundBuffer
from inspo.data.rollout import Rollout
from inspo.learners.base_learner import Stats
from inspo.run.checkpoint import write_checkpoint
from inspo.run.run_folder import SCORES
from inspo.run.training import TrainingSession
from inspo.runners.batch_runner import MacPolicy
from inspo.utils.config import OnlineConfig
from inspo.utils.errors import CheckpointError
from inspo.utils.files import write_atomically

# Of a round's seed. The games count up from it, and simulators take 31 bits.
SEED_LIMIT = 2**31 - 2**16
log = logging.getLogger(__name__)


class OnlineSession(TrainingSession):
    """environment -> buffer -> learner -> environment."""

    fingerprint = ""
    needs_simulator = True
    args: OnlineConfig
    buffer: ReplayBuffer | RoundBuffer

    @abstractmethod
    def make_buffer(self) -> ReplayBuffer | RoundBuffer:
        """An empty buffer."""

    @abstractmethod
    def make_policy(self, seed: int) -> MacPolicy:
        """The policy that plays the next round."""

    @abstractmethod
    def store(self, rollout: Rollout) -> None:
        """Puts recorded episodes into the buffer."""

    @abstractmethod
    def learn(self, with_stats: bool) -> Stats:
        """The round's gradient steps; metrics of the last one if `with_stats`."""

    def keep_history(self) -> None:
        """Called before `medium` is kept, whose dataset has a companion of earlier play."""

    @property
    def step(self) -> int:
        return self.env_steps

    def load_data(self) -> None:
        """Nothing to load: the episodes are played."""

    def build(self) -> None:
        self.buffer = self.make_buffer()
        self.learner = self.make_learner()

    def prepare(self) -> None:
        self.env_steps = 0
        # Of `medium` and `expert`: step, metric and score.
        self.milestones: dict[str, dict[str, Any]] = {}
        self.recent: dict[str, float] = {}  # sums over the training episodes since the last record
        self.seconds = {"playing": 0.0, "learning": 0.0}
        self.about |= {
            "dataset_fingerprint": "",
            "dataset_return": None,
            "milestones": self.milestones,
        }
        self.write_info()
        if self.checkpoint is not None:
            path, _ = self.checkpoint
            self.resume()
            if self.args.save_model:
                self._copy_milestones(path.parent)

    def origin(self) -> dict[str, Any]:
        args = self.args
        return {"environment": args.env, "env_args": args.env_args, **self.provenance()}

    def advance(self) -> Stats:
        """A round: `n_parallel` episodes, then gradient steps."""
        before, started = self.env_steps, time.monotonic()
        self.play_round()
        played = time.monotonic()

        with_stats = self.due(self.args.log_interval, before, self.env_steps)
        stats = self.playing_stats() if with_stats else {}
        stats |= self.learn(with_stats)
        self.seconds["playing"] += played - started
        self.seconds["learning"] += time.monotonic() - played
        return stats

    def tested(self, scores: Stats) -> None:
        """Keeps the policies for datasets. Untrained policies are never kept."""
        args = self.args
        metric, score = self.dataset_score(scores)
        if metric is None or not args.save_model or not self.learner.updates:
            return
        if "medium" not in self.milestones and _reaches(score, args.medium_score):
            self.keep_history()
            self._keep("medium", metric, score)
        best = self.milestones.get("expert", {}).get("score", -np.inf)
        if score > best and _reaches(score, args.expert_score):
            self._keep("expert", metric, score)

    def dataset_score(self, scores: Stats) -> tuple[str | None, float]:
        """The name and value of what `medium_score` and `expert_score` refer to.

        Args:
            scores: of the evaluation; empty if there was none.
        """
        return best_known(scores, SCORES)

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "env_steps": self.env_steps,
            "milestones": self.milestones,
            "recent": self.recent,
            "buffer": self.buffer.state_dict(),
        }

    def restore(self, content: dict[str, Any]) -> None:
        super().restore(content)
        self.buffer.load_state_dict(content["buffer"])
        self.env_steps = content["env_steps"]
        if self.env_steps != content["step"]:
            raise CheckpointError(f"step {content['step']}, but {self.env_steps} environment steps")
        self.recent = {name: float(value) for name, value in content["recent"].items()}
        self.milestones |= content["milestones"]

    def finish(self, steps: int) -> None:
        self.about["gradient_steps"] = self.learner.updates
        self.about["episodes"] = self.buffer.added
        self.about["seconds"] = {name: round(value, 1) for name, value in self.seconds.items()}
        super().finish(steps)

    @property
    def checkpoints_folder(self) -> Path:
        return self.folder / "checkpoints"

    def play_round(self) -> None:
        """Plays `n_parallel` episodes, or a few more."""
        args = self.args
        # The seed follows from the number of episodes, so that no random state must be restored.
        seed = int(np.random.default_rng((args.seed, self.buffer.added)).integers(SEED_LIMIT))
        policy = self.make_policy(seed)
        # There are several rollouts if fewer games run in parallel, or if one crashed.
        for rollout in self.get_runner().play(policy, args.n_parallel, seed, record=True):
            self.store(rollout)
            self.env_steps += int(rollout.lengths.sum())
            self._count(rollout)

    def playing_stats(self) -> Stats:
        """Means over the training episodes since the last record."""
        sums, self.recent = self.recent, {}
        stats = {
            "return_mean": sums["return"] / sums["episodes"],
            "ep_length_mean": sums["length"] / sums["episodes"],
            "episodes": self.buffer.added,
            "gradient_steps": self.learner.updates,
        }
        if "won" in sums:
            stats["battle_won_mean"] = sums["won"] / sums["episodes"]
        return stats

    def _keep(self, name: str, metric: str, score: float) -> None:
        self.milestones[name] = {"step": self.env_steps, "metric": metric, "score": score}
        path = self.checkpoints_folder / f"{name}.pt"
        write_checkpoint(path, self.env_steps, self.state(), self.args, self.fingerprint)
        log.info("Keeping the policy of step %d as '%s': score %.3f", self.env_steps, name, score)

    def _copy_milestones(self, folder: Path) -> None:
        """Copies the kept policies of the resumed run, unless this is its own folder."""
        if folder.resolve() == self.checkpoints_folder.resolve():
            return
        for name in self.milestones:
            for file in (folder / f"{name}.pt", folder / f"{name}.replay"):
                if file.exists():
                    with write_atomically(self.checkpoints_folder / file.name) as temporary:
                        shutil.copyfile(file, temporary)

    def _count(self, rollout: Rollout) -> None:
        sums = {
            "episodes": len(rollout.lengths),
            "return": rollout.returns.sum(),
            "length": rollout.lengths.sum(),
        }
        if rollout.battle_won is not None:
            sums["won"] = rollout.battle_won.sum()
        for name, value in sums.items():
            self.recent[name] = self.recent.get(name, 0.0) + float(value)


def replay_of(checkpoint: Path) -> Path:
    """The file of the replay buffer that belongs to a checkpoint."""
    return checkpoint.with_suffix(".replay")


def best_known(scores: Mapping[str, float], names: Sequence[str]) -> tuple[str | None, float]:
    """Name and value of the last of `names` that is there; None and NaN if none is."""
    there = [name for name in names if name in scores]
    return (there[-1], scores[there[-1]]) if there else (None, np.nan)


def _reaches(score: float, threshold: float | None) -> bool:
    return threshold is not None and score >= threshold

"""An online run: rounds of episodes played side by side, kept in a replay buffer, and gradient steps on it.

Beside its checkpoints such a run keeps what datasets are made of (src/collect.py):

checkpoints/step_STEP.replay    the replay buffer of the newest checkpoint
checkpoints/medium.pt           the first policy whose test score reaches `medium_score`,
checkpoints/medium.replay         and the replay buffer as it was then
checkpoints/expert.pt           the policy of the best test score, if that reaches `expert_score`
"""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from inspo.components.replay_buffer import ReplayBuffer
from inspo.data.rollout import Rollout
from inspo.learners.base_learner import Stats
from inspo.run.checkpoint import checkpoint_name, write_checkpoint
from inspo.run.training import TrainingSession
from inspo.runners.batch_runner import MacPolicy
from inspo.utils.config import OnlineConfig
from inspo.utils.files import write_atomically

# Of a round. Its games count on from it, and every environment takes 31 bits.
SEED_LIMIT = 2**31 - 2**16
log = logging.getLogger(__name__)


class OnlineSession(TrainingSession):
    """environment -> replay buffer -> learner -> environment."""

    fingerprint = ""
    needs_simulator = True
    args: OnlineConfig

    @property
    def step(self) -> int:
        return self.env_steps

    def load_data(self) -> None:
        """Nothing: the episodes are played."""

    def prepare(self) -> None:
        args = self.args
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
        self.buffer = ReplayBuffer(self.info, args.buffer_size, self.device, args.seed)
        self.learner = self.make_learner()
        if self.checkpoint is not None:
            path, content = self.checkpoint
            self.buffer.load(replay_of(path))
            self.restore(content)
            if args.save_model:
                self._take_over_milestones(path.parent)

    def origin(self) -> dict[str, Any]:
        args = self.args
        return {"environment": args.env, "env_args": args.env_args, **self.provenance()}

    def epsilon(self) -> float:
        """Share of random actions now: falls linearly from epsilon_start to epsilon_finish."""
        args = self.args
        progress = min(self.env_steps / args.epsilon_anneal_time, 1.0)
        return args.epsilon_start + progress * (args.epsilon_finish - args.epsilon_start)

    def advance(self) -> Stats:
        """A round: `n_parallel` episodes, then `updates_per_round` gradient steps."""
        args, before = self.args, self.env_steps
        started = time.monotonic()
        # The seed follows from the episodes so far: there is no random state to restore.
        seed = int(np.random.default_rng((args.seed, self.buffer.added)).integers(SEED_LIMIT))
        policy = MacPolicy(self.learner.mac, seed, greedy=True, epsilon=self.epsilon())
        # Several rollouts where fewer games run side by side: costly ones, or one that crashed.
        for rollout in self.get_runner().play(policy, args.n_parallel, seed, record=True):
            won = (
                np.zeros(len(rollout.lengths), bool)
                if rollout.battle_won is None
                else rollout.battle_won
            )
            for episode, battle_won in zip(rollout.episodes(), won, strict=True):
                self.buffer.add(episode, bool(battle_won))
            self.env_steps += int(rollout.lengths.sum())
            self._count(rollout)
        played = time.monotonic()

        with_stats = self.due(args.log_interval, before, self.env_steps)
        stats = self._playing_stats(policy.epsilon) if with_stats else {}
        if self.env_steps >= args.learning_starts:
            for update in range(args.updates_per_round):
                last = update == args.updates_per_round - 1
                stats |= self.learner.train(self.buffer, with_stats and last)
        self.seconds["playing"] += played - started
        self.seconds["learning"] += time.monotonic() - played
        return stats

    def tested(self, scores: Stats) -> None:
        """Keeps the policies that datasets are made with; those that have learnt nothing yet are none."""
        args = self.args
        metric = "test_battle_won_mean" if "test_battle_won_mean" in scores else "test_return_mean"
        if metric not in scores or not args.save_model or not self.learner.updates:
            return
        score, best = scores[metric], self.milestones.get("expert", {}).get("score", -np.inf)
        if (
            args.medium_score is not None
            and "medium" not in self.milestones
            and score >= args.medium_score
        ):
            self.buffer.save(replay_of(self._checkpoints / "medium.pt"))
            self._keep("medium", metric, score)
        if args.expert_score is not None and score >= args.expert_score and score > best:
            self._keep("expert", metric, score)

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def _keep(self, name: str, metric: str, score: float) -> None:
        self.milestones[name] = {"step": self.env_steps, "metric": metric, "score": score}
        write_checkpoint(
            self._checkpoints / f"{name}.pt", self.env_steps, self.state(), self.args, ""
        )
        log.info("The policy of step %d, score %.3f, is kept as '%s'", self.env_steps, score, name)

    def _take_over_milestones(self, folder: Path) -> None:
        """Copies what the run that is gone on with has kept, unless this is its own folder."""
        for name in self.milestones:
            for file in (folder / f"{name}.pt", replay_of(folder / f"{name}.pt")):
                if file.exists() and file.resolve().parent != self._checkpoints.resolve():
                    with write_atomically(self._checkpoints / file.name) as temporary:
                        shutil.copyfile(file, temporary)

    def _count(self, rollout: Rollout) -> None:
        sums = {
            "episodes": len(rollout.lengths),
            "return": rollout.returns.sum(),
            "length": rollout.lengths.sum(),
        }
        if rollout.battle_won is not None:
            sums["won"] = rollout.battle_won.sum()
        self.recent = {
            name: self.recent.get(name, 0.0) + float(value) for name, value in sums.items()
        }

    def _playing_stats(self, epsilon: float) -> Stats:
        """Means over the training episodes since the last record, as they were played, random actions and all."""
        sums, self.recent = self.recent, {}
        stats = {
            "return_mean": sums["return"] / sums["episodes"],
            "ep_length_mean": sums["length"] / sums["episodes"],
            "epsilon": epsilon,
            "episodes": self.buffer.added,
            "gradient_steps": self.learner.updates,
        }
        if "won" in sums:
            stats["battle_won_mean"] = sums["won"] / sums["episodes"]
        return stats

    def state(self) -> dict[str, Any]:
        counts = {"env_steps": self.env_steps, "milestones": self.milestones, "recent": self.recent}
        return super().state() | counts | {"buffer": self.buffer.state_dict()}

    def save(self) -> Path:
        replay = replay_of(self._checkpoints / f"{checkpoint_name(self.env_steps)}.pt")
        self.buffer.save(replay)
        path = super().save()
        for old in self._checkpoints.glob("step_*.replay"):
            if old != replay:
                old.unlink()
        return path

    def restore(self, content: dict[str, Any]) -> None:
        super().restore(content)
        self.buffer.load_state_dict(content["buffer"])
        self.env_steps, self.recent = content["env_steps"], content["recent"]
        self.milestones |= content["milestones"]

    def finish(self, steps: int) -> None:
        if not self.args.evaluate:
            self.about |= {"gradient_steps": self.learner.updates, "episodes": self.buffer.added}
            self.about["seconds"] = {name: round(value, 1) for name, value in self.seconds.items()}
        super().finish(steps)


def replay_of(checkpoint: Path) -> Path:
    """The replay buffer that belongs to a checkpoint, beside it."""
    return checkpoint.with_suffix(".replay")

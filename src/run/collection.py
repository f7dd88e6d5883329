"""Datasets from policies: a trained checkpoint's, random ones, and all those of a map.

    random         every available action equally likely
    medium         a partially trained policy: the first whose test score reached `medium_score`
    medium-replay  what was in the replay buffer then
    expert         the best policy of the training, which must have reached `expert_score`
    mixed          equal halves, medium and expert in turns

A file's metadata says which policies played it, and by which score and threshold each was picked. It
also says what its own episodes return and win, which nothing was picked by.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th

from inspo.components.replay_buffer import ReplayBuffer
from inspo.data.catalogue import dataset_path
from inspo.data.formats import EpisodeWriter
from inspo.data.rollout import Policy, RandomPolicy, Rollout
from inspo.envs import EnvInfo, MultiAgentEnv, without_dataset
from inspo.run.checkpoint import find_checkpoint, load_checkpoint, policy_of
from inspo.run.online_session import SEED_LIMIT, replay_of
from inspo.run.run_folder import SCORES
from inspo.run.session import make_env
from inspo.runners.batch_runner import BatchRunner, MacPolicy
from inspo.utils.config import OnlineConfig, RunConfig
from inspo.utils.errors import CheckpointError, ConfigError, DatasetError
from inspo.utils.progress import Progress

N_ENVS = 64  # games side by side, where they are cheap; fixes a dataset's content
log = logging.getLogger(__name__)


class Player(NamedTuple):
    """Who plays: from a round's seed to a policy, and what the metadata says of it."""

    policy: Callable[[int], Policy]
    about: dict[str, Any]


RANDOM = Player(RandomPolicy, {"policy": "random"})


def trained_player(
    content: dict[str, Any], file: Path, greedy: bool, epsilon: float = 0.0
) -> Player:
    """The policy of a checkpoint, greedy or sampled; `epsilon` of its actions are random."""
    mac = policy_of(content)
    about = {
        "policy": content["config"]["name"],
        **_origin(content, file),
        "greedy": greedy,
        "epsilon": epsilon,
    }
    return Player(lambda seed: MacPolicy(mac, seed, greedy, epsilon), about)


def record(
    path: Path,
    players: Sequence[Player],
    args: RunConfig,
    env: MultiAgentEnv,
    episodes: int,
    seed: int,
) -> None:
    """Plays `episodes`, equally many by each player, and writes them to `path`.

    The players take turns. An interrupted recording is resumed.
    """
    runner = BatchRunner(env.make_batch(N_ENVS))  # costly games are fewer
    metadata = _metadata(args, env, [player.about for player in players])
    metadata |= {"seed": seed, "n_envs": runner.env.n_envs}
    with EpisodeWriter(path, metadata) as writer, closing(runner):
        shown = Progress(episodes, f"Collecting {path.stem}", done=writer.n_episodes)
        while (missing := episodes - writer.n_episodes) > 0:
            turn = writer.n_blocks % len(players)
            wanted = -(-missing // (len(players) - turn))  # so that the last turns are equal too
            block_seed = np.random.default_rng((seed, writer.n_blocks))
            round_seed = int(block_seed.integers(SEED_LIMIT))
            policy = players[turn].policy(round_seed)
            rollout = next(runner.play(policy, N_ENVS, round_seed, record=True))
            played = list(islice(rollout.episodes(), wanted))
            writer.append(played, _battles_won(rollout, wanted))
            shown.advance(len(played))
        shown.close()


def record_replay(
    path: Path, content: dict[str, Any], file: Path, args: RunConfig, env: MultiAgentEnv
) -> None:
    """Writes the replay buffer that was kept beside the checkpoint `file`, oldest episode first."""
    info, capacity = EnvInfo(**content["env_info"]), content["config"]["buffer_size"]
    buffer = ReplayBuffer(info, capacity, th.device("cpu"), seed=0)
    buffer.load(replay_of(file))
    buffer.load_state_dict(content["buffer"])
    origin = _origin(content, file)
    battles = origin["picked_by"]["metric"] == "test_battle_won_mean"
    about = {"policy": f"{content['config']['name']} while it learnt", **origin}
    with EpisodeWriter(path, _metadata(args, env, [about])) as writer:
        remaining = islice(buffer.episodes(), writer.n_episodes, None)
        while block := list(islice(remaining, N_ENVS)):
            won = {"battle_won": sum(battle_won for _, battle_won in block)} if battles else None
            writer.append([episode for episode, _ in block], won)


def make_all(
    args: OnlineConfig,
    root: Path,
    episodes: int,
    seed: int,
    train: Callable[[RunConfig], Path],
) -> None:
    """All datasets of an environment, each if it is not there yet. Trains or resumes first if need be.

    Args:
        args: of the run to train. Its folder goes to training/ beside the datasets.
        train: runs what such settings ask for.

    Raises:
        DatasetError: the training did not reach a threshold. All other datasets are made.
    """
    if args.medium_score is None or args.expert_score is None:
        raise ConfigError(
            "medium_score and expert_score must say what a medium and an expert policy score"
        )
    with closing(make_env(args)) as env:
        missing = _Missing(args, root, env, episodes, seed)
        missing.make_random()
        if missing.nothing():
            log.info("All datasets are there: %s", missing.path("*"))
            return
        run = _trained(args, missing.path("random").parent / "training", train)
        problems = missing.make_of_training(run)
    if problems:
        raise DatasetError(
            "not all datasets could be made; train longer (t_max=...), or with other settings and "
            "another dataset_root:\n" + "\n".join(f"  {problem}" for problem in problems)
        )


@dataclass(frozen=True)
class _Missing:
    """The datasets of an environment that are not there yet."""

    args: OnlineConfig
    root: Path
    env: MultiAgentEnv
    episodes: int
    seed: int

    def path(self, name: str) -> Path:
        return dataset_path(self.args, self.root, name)

    def nothing(self) -> bool:
        names = ("medium", "medium-replay", "expert", "mixed")
        return all(self.path(name).exists() for name in names)

    def make_random(self) -> None:
        self._make("random", [RANDOM], self.seed)

    def make_of_training(self, run: Path) -> list[str]:
        """What the policies of a training allow; returns what it does not, and why."""
        players, problems = {}, []
        for name in ("medium", "expert"):
            file = run / "checkpoints" / f"{name}.pt"
            if not file.exists():
                threshold = getattr(self.args, f"{name}_score")
                reached = f"no policy reached {name}_score={threshold:g} ({_best(run)})"
                problems.append(f"{name}: {reached}")
                continue
            content = load_checkpoint(file, th.device("cpu"))
            players[name] = trained_player(content, file, self.args.test_greedy)
            self._make(name, [players[name]], self.seed)
            if name == "medium" and not self.path("medium-replay").exists():
                record_replay(self.path("medium-replay"), content, file, self.args, self.env)
        if not problems:
            # Another seed: not the episodes of `medium` and `expert` again.
            self._make("mixed", [players["medium"], players["expert"]], self.seed + 1)
        return problems

    def _make(self, name: str, players: list[Player], seed: int) -> None:
        if not (path := self.path(name)).exists():
            record(path, players, self.args, self.env, self.episodes, seed)


def _trained(args: OnlineConfig, folder: Path, train: Callable[[RunConfig], Path]) -> Path:
    """The folder of a finished run: one that is there, a resumed one, or a new one."""
    latest, step = _latest(folder)
    if step < args.t_max:
        log.info("Training %s first, in %s", args.name, folder)
        settings = {
            "checkpoint_path": str(latest) if latest else None,
            "local_results_path": str(folder),
            "save_model": True,
            "test_nepisode": args.test_nepisode or 32,
        }
        return train(args.model_copy(update=settings))
    return latest


def _latest(folder: Path) -> tuple[Path | None, int]:
    """The run in `folder` that got furthest, and its step; None and -1 if there is none."""
    found: list[tuple[int, str, Path]] = []
    for run in folder.glob("*/checkpoints"):
        try:
            file = find_checkpoint(run)
        except CheckpointError:
            continue
        found.append((int(file.stem.removeprefix("step_")), run.parent.name, run.parent))
    step, _, run = max(found, default=(-1, "", None))
    return run, step


def _battles_won(rollout: Rollout, episodes: int) -> dict[str, int] | None:
    """How many of the first `episodes` battles were won; None where no battles are fought."""
    if rollout.battle_won is None:
        return None
    return {"battle_won": int(rollout.battle_won[:episodes].sum())}


def _origin(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Which checkpoint a policy is of and, if it was kept as medium or expert, by which score."""
    origin = {
        "run": file.absolute().parents[1].name,
        "checkpoint": file.name,
        "step": content["step"],
    }
    kept = content.get("milestones", {}).get(file.stem)
    if kept:
        origin["picked_by"] = {**kept, "threshold": content["config"][f"{file.stem}_score"]}
    return origin


def _best(run: Path) -> str:
    """The best test score of a run, in words."""
    rows = load_checkpoint(find_checkpoint(run), th.device("cpu"))["metrics"]
    for name in reversed(SCORES):
        if values := [row[name] for row in rows if name in row]:
            return f"the best {name} was {max(values):.3f}"
    return "no evaluation was played"


def _metadata(
    args: RunConfig, env: MultiAgentEnv, policies: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        **env.provenance(),
        "environment": args.env,
        "env_args": without_dataset(args.env_args),
        "behaviour": " and ".join(policy["policy"] for policy in policies),
        "policies": policies,
        "command": " ".join(sys.argv),
    }

"""Datasets played by policies: a trained one, a random one, or all datasets of a map.

    random         every available action is equally likely
    medium         a partially trained policy: the first whose score reaches `medium_score`
    medium-replay  the content of the replay buffer at that time; of a training without one, by the
                   policies of all evaluations until then, in turns
    expert         the best policy of the training; its score must reach `expert_score`
    mixed          half medium, half expert, in turns

Policies that learn on-policy, such as MAPPO's, play with sampled actions, as they did while they
learnt, and their score is that of sampled play. Policies of values play greedily, and their score
is that of evaluations.

The metadata names the policies, with the score and threshold that selected each. It also holds the
returns and wins of the dataset's own episodes, which are not affected by this selection.
"""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
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
from inspo.run.checkpoint import (
    check_fits,
    find_checkpoint,
    load_checkpoint,
    open_checkpoint,
    policy_of,
)
from inspo.run.on_policy_session import PLAYED_SCORES
from inspo.run.online_session import SEED_LIMIT, replay_of
from inspo.run.run_folder import SCORES
from inspo.run.session import make_env
from inspo.run.settings import find_learner
from inspo.runners.batch_runner import BatchRunner, MacPolicy
from inspo.utils.config import OnlineConfig, OnPolicyConfig, RunConfig, available
from inspo.utils.errors import CheckpointError, ConfigError, DatasetError
from inspo.utils.files import writable_dataset_root
from inspo.utils.progress import Progress

N_ENVS = 64  # games in parallel, if they are cheap. Changing it changes all datasets.
log = logging.getLogger(__name__)


class Player(NamedTuple):
    """A policy for datasets."""

    policy: Callable[[int], Policy]  # makes the policy from a seed
    about: dict[str, Any]  # for the metadata


RANDOM = Player(RandomPolicy, {"policy": "random"})


def trained_player(
    content: dict[str, Any], file: Path, greedy: bool, epsilon: float = 0.0
) -> Player:
    """The policy of a checkpoint.

    Args:
        content: what `load_checkpoint` returned for `file`.
        greedy: take the most likely actions instead of sampled ones.
        epsilon: share of random actions.
    """
    mac = policy_of(content, file)
    about = {
        "policy": content["config"]["name"],
        **_origin(content, file),
        "greedy": greedy,
        "epsilon": epsilon,
    }
    return Player(lambda seed: MacPolicy(mac, seed, greedy, epsilon), about)


def plays_greedily(config: Mapping[str, Any]) -> bool:
    """Whether the policy of a training with these settings plays greedily for datasets."""
    learner = find_learner(config["learner"])
    return config["test_greedy"] and not issubclass(learner.Config, OnPolicyConfig)


def snapshot_players(content: dict[str, Any], file: Path) -> list[Player]:
    """The policies that an on-policy training had until `medium`, whose checkpoint this is."""
    players = []
    for snapshot in content["snapshots"]:
        learner = {"modules": {"mac": snapshot["mac"]}}
        then = {**content, "learner": learner, "step": snapshot["step"]}
        players.append(trained_player(then, file, greedy=False))
    return players


def fastest_algorithm(args: RunConfig) -> str:
    """The online algorithm whose policies are trained first.

    MAPPO needs as many environment steps as QMIX on SMAX, but a fifth of the time for each. On slow
    games QMIX's replay buffer makes more of every step.
    """
    return "mappo" if args.env_args.get("simulator") == "smax" else "qmix"


def trained_algorithm(args: RunConfig, root: Path) -> str | None:
    """The shipped algorithm of the newest training beside the datasets of these settings."""
    run, _ = _latest_run(_training_folder(args, root))
    if run is None:
        return None
    _, content = open_checkpoint(run)
    name = content["config"]["name"]
    return name if name in available("algs") else None


def record(
    path: Path,
    players: Sequence[Player],
    args: RunConfig,
    env: MultiAgentEnv,
    episodes: int,
    seed: int,
    n_envs: int | None = None,
) -> None:
    """Plays `episodes`, the same number by each player in turns, and writes them to `path`.

    Resumes an interrupted recording.

    Args:
        n_envs: games in parallel, if they are cheap; None: `N_ENVS`.
    """
    runner = BatchRunner(env.make_batch(n_envs or N_ENVS))
    metadata = _metadata(args, env, [player.about for player in players])
    metadata |= {"seed": seed, "n_envs": runner.env.n_envs}
    with EpisodeWriter(path, metadata) as writer, closing(runner):
        progress = Progress(episodes, f"Collecting {path.stem}", done=writer.n_episodes)
        while (missing := episodes - writer.n_episodes) > 0:
            turn = writer.n_blocks % len(players)
            turns_left = len(players) - turn
            wanted = -(-missing // turns_left)  # rounded up
            block_seed = np.random.default_rng((seed, writer.n_blocks))
            round_seed = int(block_seed.integers(SEED_LIMIT))
            policy = players[turn].policy(round_seed)
            rollout = next(runner.play(policy, runner.env.n_envs, round_seed, record=True))
            played = list(islice(rollout.episodes(), wanted))
            writer.append(played, _battles_won(rollout, wanted))
            progress.advance(len(played))
        progress.close()


def record_replay(
    path: Path, content: dict[str, Any], file: Path, args: RunConfig, env: MultiAgentEnv
) -> None:
    """Writes the replay buffer of the checkpoint `file` to `path`, oldest episode first."""
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
            n_won = sum(battle_won for _, battle_won in block)
            episodes = [episode for episode, _ in block]
            writer.append(episodes, {"battle_won": n_won} if battles else None)


def make_all(
    args: OnlineConfig,
    root: Path,
    episodes: int,
    seed: int,
    train: Callable[[RunConfig], Path],
) -> None:
    """Makes all missing datasets of an environment. Trains first, or resumes training, if needed.

    Args:
        args: settings of the training, whose run folder goes to training/ beside the datasets.
        train: runs a training and returns its folder.

    Raises:
        DatasetError: the training did not reach a threshold. The other datasets are made.
    """
    if args.medium_score is None or args.expert_score is None:
        raise ConfigError(
            "medium_score and expert_score are missing: the test scores that the policies of "
            "these datasets must reach"
        )
    with closing(make_env(args)) as env:
        datasets = _Datasets(args, root, env, episodes, seed)
        if datasets.complete():
            log.info("All datasets exist: %s", datasets.path("*"))
            return
        writable_dataset_root(root)
        folder = _training_folder(args, root)
        _check_training(args, folder, env)
        datasets.make_random()
        problems = datasets.make_from_training(_trained(args, folder, train))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise DatasetError(
            "not all datasets could be made; train longer (t_max=...), or with other settings "
            f"and another dataset_root:\n{listed}"
        )


@dataclass(frozen=True)
class _Datasets:
    """The datasets of an environment. Existing ones are left as they are."""

    args: OnlineConfig
    root: Path
    env: MultiAgentEnv
    episodes: int
    seed: int

    def path(self, name: str) -> Path:
        return dataset_path(self.args, self.root, name)

    def complete(self) -> bool:
        names = ("random", "medium", "medium-replay", "expert", "mixed")
        return all(self.path(name).exists() for name in names)

    def make_random(self) -> None:
        self._make("random", [RANDOM], self.seed)

    def make_from_training(self, run: Path) -> list[str]:
        """Makes what a training's policies allow. Returns what is missing, and why."""
        players: dict[str, Player] = {}
        problems = []
        for name in ("medium", "expert"):
            file = run / "checkpoints" / f"{name}.pt"
            if not file.exists():
                problems.append(f"{name}: {_why_none(run, f'{name}_score')}")
                continue
            content = load_checkpoint(file)
            greedy = plays_greedily(self.args.model_dump())
            players[name] = trained_player(content, file, greedy)
            self._make(name, [players[name]], self.seed)
            if name == "medium":
                self._make_replay(content, file)
        if not problems:
            # With another seed, so that it does not repeat the episodes of medium and expert.
            self._make("mixed", [players["medium"], players["expert"]], self.seed + 1)
        return problems

    def _make_replay(self, content: dict[str, Any], file: Path) -> None:
        path = self.path("medium-replay")
        if path.exists():
            return
        if "snapshots" in content:
            self._make(path.stem, snapshot_players(content, file), self.seed)
        else:
            record_replay(path, content, file, self.args, self.env)

    def _make(self, name: str, players: list[Player], seed: int) -> None:
        path = self.path(name)
        if not path.exists():
            record(path, players, self.args, self.env, self.episodes, seed)


def _training_folder(args: RunConfig, root: Path) -> Path:
    return dataset_path(args, root, "random").parent / "training"


def _check_training(args: OnlineConfig, folder: Path, env: MultiAgentEnv) -> None:
    """Raises CheckpointError if the training that is in `folder` is another one."""
    latest, _ = _latest_run(folder)
    if latest is None:
        return
    anew = "with another dataset_root a new training begins"
    file, content = open_checkpoint(latest)
    there = content["config"]["name"]
    if there != args.name:
        raise CheckpointError(f"{latest} is a training of {there}, not of {args.name}; {anew}")
    try:
        check_fits(content, file, args, env.get_env_info(), fingerprint="")
    except CheckpointError as error:
        raise CheckpointError(f"{error}\nHere, {anew}") from None


def _trained(args: OnlineConfig, folder: Path, train: Callable[[RunConfig], Path]) -> Path:
    """The run folder of a finished training in `folder`. Trains or resumes if there is none."""
    latest, step = _latest_run(folder)
    if latest is not None and step >= args.t_max:
        return latest
    log.info("Training %s first, in %s", args.name, folder)
    settings = {
        "checkpoint_path": str(latest) if latest else None,
        "local_results_path": str(folder),
        "save_model": True,
        "test_nepisode": args.test_nepisode or 32,
    }
    return train(args.model_copy(update=settings))


def _latest_run(folder: Path) -> tuple[Path | None, int]:
    """The run in `folder` with the highest step, and that step. None and -1 if there is none."""
    found: list[tuple[int, str, Path]] = []
    for checkpoints in folder.glob("*/checkpoints"):
        run = checkpoints.parent
        try:
            newest = find_checkpoint(run)
        except CheckpointError:
            continue
        found.append((int(newest.stem.removeprefix("step_")), run.name, run))
    step, _, run = max(found, default=(-1, "", None))
    return run, step


def _battles_won(rollout: Rollout, episodes: int) -> dict[str, int] | None:
    """Number of wins in the first `episodes` battles; None if the game has no battles."""
    if rollout.battle_won is None:
        return None
    return {"battle_won": int(rollout.battle_won[:episodes].sum())}


def _origin(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """The checkpoint of a policy. For medium and expert, also the score that selected it."""
    origin = {
        "run": file.absolute().parents[1].name,
        "checkpoint": file.name,
        "step": content["step"],
    }
    milestone = content.get("milestones", {}).get(file.stem)
    if milestone:
        origin["picked_by"] = {**milestone, "threshold": content["config"][f"{file.stem}_score"]}
    return origin


def _why_none(run: Path, threshold: str) -> str:
    """Why a training kept no policy for a dataset.

    Args:
        threshold: `medium_score` or `expert_score`. Only the training's own value counts: it keeps
            no other policies.
    """
    _, content = open_checkpoint(run)
    problem = f"no policy of the training reached its {threshold}={content['config'][threshold]:g}"
    names = PLAYED_SCORES if "snapshots" in content else SCORES
    for name in reversed(names):
        values = [row[name] for row in content["metrics"] if name in row]
        if values:
            return f"{problem} (the best {name} was {max(values):.3f})"
    return f"{problem} (no evaluation was played)"


def _metadata(
    args: RunConfig, env: MultiAgentEnv, policies: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        **env.provenance(),
        "environment": args.env,
        "env_args": without_dataset(args.env_args),
        "behaviour": " and ".join(dict.fromkeys(policy["policy"] for policy in policies)),
        "policies": policies,
        "command": " ".join(sys.argv),
    }

"""Datasets from policies: a trained checkpoint's, random ones, and all of a map's as the field makes them.

    random         every available action equally likely
    medium         a partially trained policy: the first whose test score reached `medium_score`
    medium-replay  what was in the replay buffer then
    expert         the best policy of the training, which must have reached `expert_score`
    mixed          equal halves, medium and expert in turns

A file's metadata says which policies played it, the score and the threshold that each was picked by, and what its
episodes return and win themselves, which nothing was picked by.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th

from components.formats import EpisodeWriter
from components.recipes import dataset_path
from components.replay_buffer import ReplayBuffer
from envs import EnvInfo, MultiAgentEnv
from run.checkpoint import load_checkpoint, policy_of
from run.online_run import SEED_LIMIT, replay_of
from run.run_folder import SCORES, find_checkpoint
from run.session import make_env
from runners.batch_runner import BatchRunner, MacPolicy, Policy, RandomPolicy
from utils.config import OnlineConfig, RunConfig
from utils.errors import CheckpointError, ConfigError, DatasetError
from utils.progress import Progress

N_LANES = 64  # games side by side, where they are cheap; a part of what fixes a dataset's content
log = logging.getLogger(__name__)


class Player(NamedTuple):
    """Who plays: from a round's seed to a policy, and what the metadata says of it."""

    policy: Callable[[int], Policy]
    about: dict[str, Any]


RANDOM = Player(RandomPolicy, {"policy": "random"})


def trained_player(content: dict[str, Any], file: Path, greedy: bool, epsilon: float = 0.0) -> Player:
    """The policy of a checkpoint, greedy or sampled from; `epsilon` of its actions are random."""
    mac = policy_of(content)
    about = {"policy": content["config"]["name"], **_origin(content, file), "greedy": greedy, "epsilon": epsilon}
    return Player(lambda seed: MacPolicy(mac, seed, greedy, epsilon), about)


def record(
    path: Path, players: Sequence[Player], args: RunConfig, env: MultiAgentEnv, episodes: int, seed: int
) -> None:
    """Plays `episodes`, equally many by each player, in turns, and writes them to `path`; goes on if interrupted."""
    runner = BatchRunner(env.make_batch(N_LANES))  # costly games have fewer lanes
    metadata = _metadata(args, env, [player.about for player in players]) | {"seed": seed, "lanes": runner.env.n_lanes}
    with EpisodeWriter(path, metadata) as writer, closing(runner):
        shown = Progress(episodes, f"Collecting {path.stem}", done=writer.n_episodes)
        while (missing := episodes - writer.n_episodes) > 0:  # an interrupted one may have been to have more
            turn = writer.n_blocks % len(players)
            wanted = -(-missing // (len(players) - turn))  # so that the last turns are as equal as the others
            round_seed = int(np.random.default_rng((seed, writer.n_blocks)).integers(SEED_LIMIT))
            rollout = next(runner.play(players[turn].policy(round_seed), N_LANES, round_seed, record=True))
            played = list(islice(rollout.episodes(), wanted))
            battles = rollout.battle_won is not None
            writer.append(played, {"battle_won": int(rollout.battle_won[:wanted].sum())} if battles else None)
            shown.advance(len(played))
        shown.close()


def record_replay(path: Path, content: dict[str, Any], file: Path, args: RunConfig, env: MultiAgentEnv) -> None:
    """Writes the replay buffer that was kept beside the checkpoint `file`, oldest episode first."""
    buffer = ReplayBuffer(EnvInfo(**content["env_info"]), content["config"]["buffer_size"], th.device("cpu"), seed=0)
    buffer.load(replay_of(file))
    buffer.load_state_dict(content["buffer"])
    episodes = buffer.episodes()
    battles = _origin(content, file)["picked_by"]["metric"] == "test_battle_won_mean"
    about = {"policy": f"{content['config']['name']} while it learnt", **_origin(content, file)}
    with EpisodeWriter(path, _metadata(args, env, [about])) as writer:
        for _ in islice(episodes, writer.n_episodes):
            """Already written."""
        while block := list(islice(episodes, N_LANES)):
            won = {"battle_won": sum(battle_won for _, battle_won in block)} if battles else None
            writer.append([episode for episode, _ in block], won)


def make_all(args: OnlineConfig, root: Path, episodes: int, seed: int, train: Callable[[RunConfig], None]) -> None:
    """All datasets of an environment, each if it is not there yet. Trains first, or goes on, if need be.

    Args:
        args: of the run to train. Its folder goes to training/ beside the datasets.
        train: runs what such settings ask for.

    Raises:
        DatasetError: the training did not reach a threshold. What it did not stand in the way of is made.
    """
    if args.medium_score is None or args.expert_score is None:
        raise ConfigError("medium_score and expert_score must say what a medium and an expert policy score")
    env = make_env(args)

    def path(name: str) -> Path:
        return dataset_path(args, root, name)

    try:
        if not path("random").exists():
            record(path("random"), [RANDOM], args, env, episodes, seed)
        if all(path(name).exists() for name in ("medium", "medium-replay", "expert", "mixed")):
            log.info("All datasets are there: %s", path("*"))
            return
        run = _trained(args, path("random").parent / "training", train)
        players, problems = {}, []
        for name, threshold in (("medium", args.medium_score), ("expert", args.expert_score)):
            file = run / "checkpoints" / f"{name}.pt"
            if not file.exists():
                problems.append(f"{name}: no policy reached {name}_score={threshold:g} ({_best(run)})")
                continue
            content = load_checkpoint(file, th.device("cpu"))
            players[name] = trained_player(content, file, args.test_greedy)
            if not path(name).exists():
                record(path(name), [players[name]], args, env, episodes, seed)
            if name == "medium" and not path("medium-replay").exists():
                record_replay(path("medium-replay"), content, file, args, env)
        if not problems and not path("mixed").exists():
            # Another seed: not the episodes of `medium` and `expert` again.
            record(path("mixed"), [players["medium"], players["expert"]], args, env, episodes, seed + 1)
    finally:
        env.close()
    if problems:
        raise DatasetError(
            "not all datasets could be made; train longer (t_max=...), or with other settings and dataset_root:\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )


def _trained(args: OnlineConfig, folder: Path, train: Callable[[RunConfig], None]) -> Path:
    """The folder of a finished run: one that is there, the rest of one that is there, or a new one."""
    latest, step = _latest(folder)
    if step < args.t_max:
        log.info("Training %s first, in %s", args.name, folder)
        going_on = {"checkpoint_path": str(latest) if latest else None, "local_results_path": str(folder)}
        train(args.model_copy(update={**going_on, "save_model": True, "test_nepisode": args.test_nepisode or 32}))
        latest, _ = _latest(folder)
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


def _origin(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Where a checkpoint's policy comes from and, if it was kept as medium or expert, by which score."""
    origin = {"run": file.absolute().parents[1].name, "checkpoint": file.name, "step": content["step"]}
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


def _metadata(args: RunConfig, env: MultiAgentEnv, policies: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **env.provenance(),
        "environment": args.env,
        "env_args": {key: value for key, value in args.env_args.items() if key != "dataset"},
        "behaviour": " and ".join(policy["policy"] for policy in policies),
        "policies": policies,
        "command": " ".join(sys.argv),
    }

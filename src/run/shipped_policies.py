"""The policies in src/policies, which play the built-in datasets of battles on SMAX.

A map has two files there:

MAP.pt     `config` and `env_info`, from which the policies are built, and their weights by name
MAP.yaml   the card: how they were trained, how often they win, and which play which dataset

`benchmarks/ship_policies.py` makes both from run folders.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from inspo.envs import MultiAgentEnv
from inspo.envs.sc2.smax import SMAX
from inspo.run.checkpoint import policy_of
from inspo.run.collection import Player, record
from inspo.runners.batch_runner import MacPolicy
from inspo.utils.config import RunConfig
from inspo.utils.files import load_torch
from inspo.utils.yaml_files import read_yaml

FOLDER = Path(__file__).resolve().parents[1] / "policies"
# These determine the content. Evaluations have as many games side by side by default, so that both
# share the compiled step.
EPISODES, N_ENVS, SEED = 2000, 32, 0


def recorders(args: RunConfig, env: MultiAgentEnv | None) -> dict[str, Callable[[Path], None]]:
    """The datasets that shipped policies can play in this game, and what records each to a path."""
    if not isinstance(env, SMAX) or not _file(env, "yaml").is_file():
        return {}
    names = read_yaml(_file(env, "yaml"))["datasets"]
    return {name: partial(_record, name=name, args=args, env=env) for name in names}


def _record(path: Path, name: str, args: RunConfig, env: SMAX) -> None:
    """Records a dataset; resumes an interrupted recording."""
    card = read_yaml(_file(env, "yaml"))
    content = load_torch(_file(env, "pt"))
    players = [_player(policy, card, content, env) for policy in card["datasets"][name]]
    record(path, players, args, env, EPISODES, SEED, N_ENVS)


def _player(name: str, card: dict[str, Any], content: dict[str, Any], env: SMAX) -> Player:
    """The policy of that name, which plays with sampled actions."""
    weights = {key: value.float() for key, value in content["weights"][name].items()}
    checkpoint = {
        "config": content["config"],
        "env_info": env.get_env_info(),
        "learner": {"modules": {"mac": weights}},
    }
    mac = policy_of(checkpoint, _file(env, "pt"))
    entry = card["policies"][name]
    about = {
        "policy": card["algorithm"],
        "shipped": f"{env.map_name}/{name}",
        "step": entry["step"],
        "command": card["trainings"][entry["training"]],
        "greedy": False,
        "epsilon": 0.0,
        "battle_won_mean": {mode: entry[mode]["battle_won"] for mode in ("greedy", "sampled")},
    }
    return Player(lambda seed: MacPolicy(mac, seed, greedy=False), about)


def _file(env: SMAX, suffix: str) -> Path:
    return FOLDER / f"{env.map_name}.{suffix}"

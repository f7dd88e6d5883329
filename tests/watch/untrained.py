"""Checkpoints of untrained policies, for films that need no training."""

from pathlib import Path

import torch as th
from conftest import make_args

from inspo import controllers
from inspo.envs import EnvInfo
from inspo.run.checkpoint import write_checkpoint
from inspo.run.session import make_env
from inspo.utils.config import lookup


def checkpoint(
    path: Path,
    environment: str = "xor_offline",
    algorithm: str = "bc",
    step: int = 0,
    seed: int = 0,
    info: EnvInfo | None = None,
    **settings,
) -> Path:
    """Writes a checkpoint. `info` replaces the sizes of an environment that cannot be made."""
    args = make_args(algorithm, environment, hidden_dim=8, **settings)
    info = info or EnvInfo(**make_env(args).get_env_info())
    th.manual_seed(seed)
    mac = lookup(controllers.REGISTRY, args.mac, "mac")(args, info)
    state = {"learner": {"modules": {"mac": mac.state_dict()}}, "env_info": vars(info)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(path, step, state, args, "fingerprint")
    return path

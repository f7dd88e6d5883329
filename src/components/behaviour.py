"""Frozen behaviour models: trained once per dataset and settings, then cached on disk.

Their outputs are kept beside the data. Batches then also carry

    behaviour_log_probs  [B, T+1, N, A]  log mu^i(. | tau^i)       model `individual`
    teammates_log_prob   [B, T+1, N]     log mu_ar(a^-i | s, a^i)  model `autoregressive` or `chain`
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch as th
from torch import Tensor, nn

from inspo import controllers
from inspo.components.offline_buffer import OfflineBuffer
from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.modules.behaviour import REGISTRY as JOINT_MODELS
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import BehaviourConfig, lookup
from inspo.utils.errors import DivergenceError, StorageError
from inspo.utils.files import load_torch, save_torch, user_cache
from inspo.utils.progress import progress
from inspo.utils.rl_utils import gather_last, masked_mean

BEHAVIOUR_SEED = 0  # not the run's: all seeds of an experiment share one behaviour model
STEPS_PER_BATCH = 512  # of the joint model, which has no memory, if batches are whole episodes
CACHE_VERSION = 2  # raise it when training or networks change
JOINT_FIELDS = ("state", "actions", "avail_actions")
# Settings that the models depend on.
KEY_SETTINGS = (
    "agent",
    "hidden_dim",
    "share_parameters",
    "obs_agent_id",
    "obs_last_action",
    "batch_unit",
    "behaviour_steps",
    "behaviour_batch_size",
    "behaviour_lr",
    "grad_norm_clip",
)

log = logging.getLogger(__name__)


class Behaviour(NamedTuple):
    """The frozen models, for learners that need more than the outputs in the batches."""

    individual: BasicMAC
    joint: nn.Module | None  # one of modules.behaviour, if asked for


def attach_behaviour(
    models: tuple[str, ...],
    args: BehaviourConfig,
    info: EnvInfo,
    buffer: OfflineBuffer,
    cache: Path,
    fingerprint: str,
) -> Behaviour:
    """Trains or loads the behaviour models and adds their outputs to the buffer.

    Args:
        models: `individual`, optionally followed by a name in `modules.behaviour.REGISTRY`.
        cache: the folder of trained models. If it is read-only, what is missing there is kept in
            the user's cache.
        fingerprint: the dataset's.

    Raises:
        DivergenceError: a model is not finite after training.
    """
    key = _cache_key(args, fingerprint, buffer.device)
    places = (cache, user_cache() / "behaviour")

    def attach(model: "_Model") -> nn.Module:
        paths = [folder / f"{model.name}-{key}.pt" for folder in places]
        return _load_or_train(model, paths, args, buffer)

    make = partial(lookup(controllers.REGISTRY, args.mac, "mac"), args, info)
    individual = attach(_Model("individual", make, _train_individual, "behaviour_log_probs"))
    joint = None
    for name in models[1:]:
        make = partial(lookup(JOINT_MODELS, name, "behaviour model"), info, args.hidden_dim)
        joint = attach(_Model(name, make, _train_joint, "teammates_log_prob"))
    return Behaviour(individual, joint)


class _Model(NamedTuple):
    """How a behaviour model is made and trained, and the column that its outputs become."""

    name: str
    make: Callable[[], nn.Module]
    train: Callable[[nn.Module, BehaviourConfig, OfflineBuffer], None]
    column: str


def _load_or_train(
    kind: _Model, paths: list[Path], args: BehaviourConfig, buffer: OfflineBuffer
) -> nn.Module:
    """The frozen model, from the first of `paths` that holds it, or trained and kept there.

    Adds its outputs to the buffer. The run's own random state does not change.

    Raises:
        DivergenceError: the new model is not finite.
    """
    gpus = [buffer.device] if buffer.device.type == "cuda" else []
    with th.random.fork_rng(gpus), buffer.sampling_with(BEHAVIOUR_SEED):
        for path in filter(os.path.exists, paths):
            model = kind.make().to(buffer.device)
            if _load(model, path) and _add_outputs(kind, model, buffer):
                log.info("Behaviour model from %s", path)
                return model
            log.warning("%s is damaged, not finite or of another model: it is trained again", path)
        th.manual_seed(BEHAVIOUR_SEED)
        model = kind.make().to(buffer.device)
        kind.train(model, args, buffer)
        if not _add_outputs(kind, model, buffer):
            raise DivergenceError(_divergence(kind.name, args, buffer))
        _keep(model, paths)
    return model


def _load(model: nn.Module, path: Path) -> bool:
    """Whether the file at `path` could be loaded into the model."""
    try:
        model.load_state_dict(load_torch(path))
    except (ValueError, RuntimeError, AttributeError, TypeError):
        return False
    return True


def _keep(model: nn.Module, paths: list[Path]) -> None:
    """Writes the model to the first of `paths` that can be written."""
    for path in paths:
        try:
            save_torch(model.state_dict(), path)
        except StorageError as error:
            log.info("The behaviour model is kept elsewhere: %s", error)
        else:
            log.info("Behaviour model kept as %s", path)
            return
    log.warning("The behaviour model is not kept: the next run trains it again")


def _add_outputs(kind: _Model, model: nn.Module, buffer: OfflineBuffer) -> bool:
    """Adds the model's outputs to the buffer. False if they or its parameters are not finite."""
    model.requires_grad_(False).eval()
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        return False
    outputs = partial(_teammates_log_probs, model)
    if isinstance(model, BasicMAC):
        outputs = model.log_probs
    with th.no_grad():
        buffer.add_column(kind.column, outputs)
    steps = buffer.transition_rows.to(buffer.storage)
    return bool(buffer.columns[kind.column][steps].isfinite().all())


def _divergence(name: str, args: BehaviourConfig, buffer: OfflineBuffer) -> str:
    """What to look at if a behaviour model diverged."""
    sizes = [f"{key} up to {buffer.columns[key].abs().max():g}" for key in ("obs", "state")]
    return (
        f"the behaviour model '{name}' diverged: after behaviour_steps={args.behaviour_steps} it "
        f"is NaN or infinite. The dataset has {' and '.join(sizes)}; if that is much more than 1, "
        f"set standardise_obs=True. Else lower behaviour_lr={args.behaviour_lr:g}"
    )


def cloning_loss(log_pi: Tensor, batch: Batch) -> Tensor:
    """L(mu^i) = - E_D [ log mu^i(a^i | tau^i) ], summed over agents (InSPO, Eq. 21).

    Args:
        log_pi: log mu^i(. | tau^i), [B, T, N, A].
        batch: without its final row.
    """
    taken = gather_last(log_pi, batch["actions"])  # [B, T, N]
    return -masked_mean(taken.sum(-1), batch["filled"])


def _train_individual(model: BasicMAC, args: BehaviourConfig, buffer: OfflineBuffer) -> None:
    """Clones each agent, on the buffer's own kind of batches."""

    def loss() -> Tensor:
        batch = without_final_row(buffer.sample(args.behaviour_batch_size))
        return cloning_loss(model.log_probs(batch), batch)

    _fit(model, loss, args, "Behaviour models")


def _train_joint(model: nn.Module, args: BehaviourConfig, buffer: OfflineBuffer) -> None:
    """Trains the model of joint actions, on single steps."""
    transitions = args.batch_unit == "transitions"
    batch_size = args.behaviour_batch_size if transitions else STEPS_PER_BATCH

    def loss() -> Tensor:
        batch = buffer.sample(batch_size, "transitions")
        state, actions, avail_actions = (batch[name][:, 0] for name in JOINT_FIELDS)
        return model.loss(state, actions, avail_actions)

    _fit(model, loss, args, "Joint behaviour model")


def _fit(model: nn.Module, loss: Callable[[], Tensor], args: BehaviourConfig, title: str) -> None:
    """Takes `behaviour_steps` steps of Adam. `loss` draws a new batch at each call."""
    optimiser = th.optim.Adam(model.parameters(), lr=args.behaviour_lr, fused=True)
    for _ in progress(args.behaviour_steps, title):
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        if args.grad_norm_clip:
            nn.utils.clip_grad_norm_(model.parameters(), args.grad_norm_clip)
        optimiser.step()


def _teammates_log_probs(model: nn.Module, batch: Batch) -> Tensor:
    """The model's output for every agent, [B, T+1, N]. It is meaningless in the final row."""
    state, actions, avail_actions = (batch[name].flatten(0, 1) for name in JOINT_FIELDS)
    log_probs = model.teammates_log_probs(state, actions, avail_actions)
    return log_probs.unflatten(0, batch["actions"].shape[:2])


def _cache_key(args: BehaviourConfig, fingerprint: str, device: th.device) -> str:
    """Hash of all that a trained model depends on."""
    settings = {name: getattr(args, name) for name in KEY_SETTINGS}
    if args.chunk_length is not None:
        settings["chunk_length"] = args.chunk_length
    if args.standardise_obs:
        settings["standardise_obs"] = True
    settings |= {"dataset": fingerprint, "version": CACHE_VERSION, "device": device.type}
    if args.mac != "basic_mac":  # left out for models cached before there were other controllers
        settings["mac"] = args.mac
    text = json.dumps(settings, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

"""Every algorithm's learner in small, on the tiny dataset of `make_data`."""

from pathlib import Path

import torch as th
from conftest import make_args, make_data

from inspo import controllers, learners
from inspo.components.behaviour import attach_behaviour
from inspo.components.offline_buffer import OfflineBuffer
from inspo.data.episode_data import EpisodeData
from inspo.learners import BaseLearner
from inspo.utils.batch import Batch
from inspo.utils.config import lookup

CPU = th.device("cpu")
SMALL = {"hidden_dim": 16, "batch_size": 8, "lr_decay_steps": None}
SMALL_BEHAVIOUR = {"behaviour_steps": 20, "behaviour_batch_size": 8}
SMALL_CRITICS = {**SMALL, "critic_hidden_dim": 16}
SMALL_MIXER = {**SMALL, "mixing_embed_dim": 8, "hypernet_embed": 8, "target_update_interval": 2}
SMALL_CFCQL = {**SMALL_MIXER, **SMALL_BEHAVIOUR, "joint_samples": 5}
# Offline algorithms and the settings that make them small.
ALGORITHMS = {
    "bc": SMALL,
    "inspo": {**SMALL_CRITICS, **SMALL_BEHAVIOUR, "updates_per_agent": 1},
    "omar": SMALL_CRITICS,
    "omiga": SMALL_CRITICS,
    "icq": SMALL_CRITICS,
    "alberdice": {**SMALL_CRITICS, **SMALL_BEHAVIOUR, "kl_samples": 2},
    "qmix_cql": SMALL_MIXER,
    "vdn_cql": SMALL_MIXER,
    "iql_cql": SMALL_MIXER,
    "cfcql": SMALL_CFCQL,
    "macql": SMALL_CFCQL,
}


def make_learner(
    cache: Path,
    algorithm: str = "inspo",
    data: EpisodeData | None = None,
    unit: str = "episodes",
    device: th.device = CPU,
    **overrides,
) -> tuple[BaseLearner, OfflineBuffer]:
    """A learner with its behaviour models, and a buffer.

    Args:
        cache: folder of the behaviour models.
        unit: the setting `batch_unit`.
        device: where to train.
        overrides: settings.
    """
    data = data or make_data()
    args = make_args(algorithm, **{**ALGORITHMS[algorithm], "batch_unit": unit, **overrides})
    info = data.env_info(episode_limit=5)
    buffer = OfflineBuffer(data, args.batch_unit, device, args.seed)
    th.manual_seed(args.seed)
    mac = lookup(controllers.REGISTRY, args.mac, "mac")(args, info).to(device)
    learner = lookup(learners.REGISTRY, args.learner, "learner")(args, info, mac)
    if learner.behaviour_models:
        learner.behaviour = attach_behaviour(
            learner.behaviour_models, args, info, buffer, cache, data.fingerprint
        )
        if args.init_from_behaviour:
            learner.warm_start(learner.behaviour.individual)
    return learner, buffer


def single_episode(batch: Batch, number: int) -> Batch:
    """One episode of a batch as a batch without padding."""
    steps = batch["filled"].shape[1]
    padding = steps - int(batch["filled"][number].sum())
    return {
        name: rows[number : number + 1, : rows.shape[1] - padding] for name, rows in batch.items()
    }


def values_by_hand(
    q: th.Tensor, target_q: th.Tensor, rows: dict[str, th.Tensor], t: int
) -> tuple[list[th.Tensor], list[th.Tensor], list[th.Tensor]]:
    """Step t of one episode: for each agent the value of its action, that of its best action at
    t + 1 (double Q-learning, without gradient), and its CQL penalty. Without masks and batches.

    Args:
        q, target_q: values of networks and target networks, [1, T+1, N, A].
    """
    taken, following, penalties = [], [], []
    for i in range(q.shape[2]):
        action = rows["actions"][0, t, i]
        offered = rows["avail_actions"][0, t, i].nonzero().flatten()
        taken.append(q[0, t, i, action])
        penalties.append(q[0, t, i, offered].exp().sum().log() - q[0, t, i, action])
        next_offered = rows["avail_actions"][0, t + 1, i].nonzero().flatten().tolist()
        best = max(next_offered, key=lambda a, i=i: q[0, t + 1, i, a].item())
        following.append(target_q[0, t + 1, i, best].detach())
    return taken, following, penalties

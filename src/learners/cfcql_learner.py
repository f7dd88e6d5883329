"""CFCQL, counterfactual conservative Q-learning (Shao et al., NeurIPS 2023), and MACQL.

    L = L_TD + cql_weight * E_D [ penalty ]

L_TD, Q_tot and the targets are explained in value_decomposition_learner.py.

CFCQL (`penalty: counterfactual`) lets one agent at a time leave the data, while its teammates act
as in the data:

    Q~^i(a)  = Q_tot(s, (a, a^-i))  for every agent i and action a                       (1)
    penalty  = sum_i lambda^i logsumexp_a Q~^i(a) - Q_tot(s, a)                          (2)
    lambda^i = softmax_i( softmax_temp * KL(p^i || beta^i) ),  p^i = softmax_a Q~^i(a)   (3)

beta^i is the cloned behaviour. (2) has a gradient through both terms, (3) has none. The paper's
lower bound on the policy's value holds for any lambda^i >= 0 that add up to 1.

MACQL (`penalty: joint`) lets all agents leave the data at once, as CQL with the team as one agent:

    penalty  = logsumexp_a Q_tot(s, a) - Q_tot(s, a)  over joint actions a               (4)

It takes all joint actions if there are at most `joint_samples`. Otherwise it draws so many
uniformly from the available ones.

Reference: thu-rllab/CFCQL, `discrete/src/learners/cq_learner.py` (arXiv:2309.12696). Differences:

* The mixer runs once for (1) and once for (4), instead of N * A times. The values are the same.
* MACQL draws available actions only. In the reference, a draw with an unavailable action counts as
  a joint action of value 0. With two dead agents almost all draws are of that kind. The first term
  is then almost constant, and the second pushes the values of the data up.
* The sign in (3) is that of the reference, with which its settings were tuned: agents whose p^i is
  far from the data get more of the penalty. The paper's formula corresponds to a negative
  `softmax_temp`. In StarCraft II it gives the largest weights to agents with a single available
  action, for whom the penalty has no effect.
* `softmax_temp: argmax` puts all weight on the agent farthest from the data. The reference writes
  this limit as 100.
* beta^i is trained for `behaviour_steps` and cached. It is not trained if nothing needs it: with
  `softmax_temp: 0`, where all weights are 1/N, and for MACQL.
* Networks need not be shared or recurrent. No padding leaks into targets of truncated episodes.
"""

from typing import Any, Literal

import torch as th
from pydantic import field_validator
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.value_decomposition_learner import ConservativeConfig, ValueDecompositionLearner
from inspo.utils.batch import Batch
from inspo.utils.config import BehaviourConfig, PositiveInt
from inspo.utils.rl_utils import masked_log_softmax, masked_logsumexp, masked_mean

KL_FLOOR = 1e-5  # added to probabilities in the KL, so that one ratio is at most about 1e5


class CFCQLConfig(BehaviourConfig, ConservativeConfig):
    """The settings of CFCQL and MACQL; `config/algs/cfcql.yaml` explains each one."""

    penalty: Literal["counterfactual", "joint"]
    softmax_temp: float | Literal["argmax"]
    joint_samples: PositiveInt
    init_from_behaviour: Literal[False]  # a clone's logits are not values

    @field_validator("mixer", mode="before")
    @classmethod
    def _require_mixer(cls, name: Any) -> Any:
        if name is None:
            raise ValueError(
                "the penalties of CFCQL and MACQL are on Q_tot, which independent learners do not "
                "have; set mixer=vdn, or use --config=iql_cql"
            )
        return name


class CFCQLLearner(ValueDecompositionLearner):
    """CFCQL or, with `penalty: joint`, MACQL."""

    Config = CFCQLConfig
    args: CFCQLConfig

    def __init__(self, args: CFCQLConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.counterfactual = args.penalty == "counterfactual"
        if self.counterfactual and args.softmax_temp != 0:
            self.behaviour_models = ("individual",)
        self.joint_actions = all_joint_actions(info, args.joint_samples)
        if self.joint_actions is not None:
            self.joint_actions = self.joint_actions.to(self.device)

    def regulariser(
        self,
        batch: Batch,
        q: Tensor,
        q_tot: Tensor,
        weights: Any,
        with_stats: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        available = batch["avail_actions"]
        stats: dict[str, Tensor] = {}
        if self.counterfactual:
            values = self.mixer.mix_counterfactuals(q, batch["actions"], weights)  # [B, T, N, A]
            lambdas, stats = self._agent_weights(values.detach(), batch, with_stats)
            outside = (lambdas * masked_logsumexp(values, available)).sum(dim=-1)
        else:
            outside = self._joint_logsumexp(q, available, weights)
        penalty = masked_mean(outside - q_tot, batch["filled"])
        stats["cql_penalty"] = penalty
        return self.args.cql_weight * penalty, stats

    def _agent_weights(
        self,
        values: Tensor,
        batch: Batch,
        with_stats: bool,
    ) -> tuple[Tensor | float, dict[str, Tensor]]:
        """lambda^i of every step (3), [B, T, N], or one number for all, and metrics."""
        n_agents = self.info.n_agents
        if not self.behaviour_models:
            return 1 / n_agents, {}
        kl = kl_to_behaviour(values, batch["avail_actions"], batch["behaviour_log_probs"])
        lambdas = agent_weights(kl, self.args.softmax_temp)
        stats = {}
        if with_stats:
            filled = batch["filled"]
            for i in range(n_agents):
                stats[f"kl_to_behaviour/agent_{i}"] = masked_mean(kl[..., i], filled)
                stats[f"agent_weight/agent_{i}"] = masked_mean(lambdas[..., i], filled)
        return lambdas, stats

    def _joint_logsumexp(self, q: Tensor, available: Tensor, weights: Any) -> Tensor:
        """The first term of (4), [B, T]."""
        if self.joint_actions is None:
            actions = sample_joint_actions(available, self.args.joint_samples, self.generator)
            values = self.mixer.mix_joint_actions(q.gather(-1, actions), weights)  # [B, T, K]
            return values.logsumexp(dim=-1)
        actions = self.joint_actions.expand(*q.shape[:3], -1)
        values = self.mixer.mix_joint_actions(q.gather(-1, actions), weights)  # [B, T, A^N]
        all_available = available.gather(-1, actions).all(dim=2)
        return masked_logsumexp(values, all_available)


def kl_to_behaviour(values: Tensor, available: Tensor, log_beta: Tensor) -> Tensor:
    """KL(p^i || beta^i) with p^i = softmax_a values over available actions.

    Args:
        values, available, log_beta: [B, T, N, A].

    Returns:
        [B, T, N].
    """
    p = masked_log_softmax(values, available).exp() + KL_FLOOR
    beta = log_beta.exp() + KL_FLOOR
    return (p * (p.log() - beta.log()) * available).sum(dim=-1)


def agent_weights(kl: Tensor, softmax_temp: float | Literal["argmax"]) -> Tensor:
    """lambda^i from the agents' KL, both [..., N]. They add up to 1 over agents."""
    if softmax_temp == "argmax":
        return F.one_hot(kl.argmax(dim=-1), kl.shape[-1]).to(kl.dtype)
    return (softmax_temp * kl).softmax(dim=-1)


def all_joint_actions(info: EnvInfo, limit: int) -> Tensor | None:
    """All A^N joint actions, int [N, A^N]. None if there are more than `limit`."""
    if info.n_actions**info.n_agents > limit:
        return None
    choices = [th.arange(info.n_actions)] * info.n_agents
    grid = th.meshgrid(*choices, indexing="ij")
    return th.stack([axis.flatten() for axis in grid])


def sample_joint_actions(available: Tensor, n_samples: int, generator: th.Generator) -> Tensor:
    """Draws joint actions uniformly from the available ones.

    An agent without an available action (padding) gets an unavailable one.

    Args:
        available: bool [B, T, N, A].
        n_samples: K.

    Returns:
        int [B, T, N, K].
    """
    available_first = available.sort(dim=-1, descending=True, stable=True).indices
    n_available = available.sum(dim=-1, keepdim=True)
    shape = (*available.shape[:-1], n_samples)
    draws = th.rand(shape, generator=generator, device=available.device)
    return available_first.gather(-1, (draws * n_available).long())

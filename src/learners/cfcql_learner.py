"""CFCQL, counterfactual conservative Q-learning (Shao et al., NeurIPS 2023, arXiv:2309.12696), and MACQL beside it.

    L = L_TD + cql_weight * E_D [ penalty ]      L_TD, Q_tot and targets as in value_decomposition_learner.py

CFCQL (`penalty: counterfactual`): one agent at a time leaves the data, its teammates' actions stay as they were taken:

    Q~^i(a)    = Q_tot(s, (a, a^-i))                                        for every agent i and action a     (1)
    penalty    = sum_i lambda^i logsumexp_a Q~^i(a) - Q_tot(s, a)           gradient through both terms        (2)
    lambda^i   = softmax_i( softmax_temp * KL(p^i || beta^i) )              p^i = softmax_a Q~^i(a), no gradient (3)

beta^i is the cloned behaviour. Any lambda on the simplex keeps the paper's lower bound on the value of the policy.

MACQL (`penalty: joint`): all agents leave the data at once, as CQL does if the team is taken for one agent:

    penalty    = logsumexp_a Q_tot(s, a) - Q_tot(s, a)                      over joint actions                 (4)

over all of them where there are at most `joint_samples`, else over so many drawn uniformly from the available ones.

All values of (1) come out of one pass of the mixer (`mix_counterfactuals`), those of (4) of another.

Reference: thu-rllab/CFCQL, `discrete/src/learners/cq_learner.py`. What is different here, on purpose:

* The mixer runs once instead of N * A times. The values are the same.
* MACQL draws among available actions. There, an unavailable draw counts as a joint action of value 0: with two agents
  dead hardly a draw is valid, the penalty turns constant, and all that is left pushes the data's values up.
* The sign in (3) is the code's, with which its settings were tuned: the farther an agent's greedy-soft policy is from
  the data, the more of the penalty falls to it. A negative `softmax_temp` weighs the other way, as the paper's formula
  reads; in StarCraft II that gives most weight to agents without a choice, to whom the penalty does nothing.
* `softmax_temp: argmax` is the limit that the code spells as 100: all weight on the agent farthest from the data.
* beta^i has a fixed number of gradient steps (`behaviour_steps`), is cached beside the dataset, its outputs with the
  data, and is not trained at all where nothing needs it: with `softmax_temp: 0` (all weights 1/N) and for MACQL.
* An agent's own network need not be shared nor recurrent; targets are clean at the end of truncated episodes.
"""

from typing import Literal

import torch as th
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.value_decomposition_learner import ConservativeConfig, ValueDecompositionLearner
from inspo.modules.mixers import Weights, mix_counterfactuals, mix_joint_actions
from inspo.utils.batch import Batch
from inspo.utils.config import BehaviourConfig, PositiveInt
from inspo.utils.rl_utils import masked_log_softmax, masked_logsumexp, masked_mean

KL_FLOOR = 1e-5  # added to probabilities inside the KL: an action the clone rules out costs at most log 1e5


class CFCQLConfig(BehaviourConfig, ConservativeConfig):
    """CFCQL's own settings; `config/algs/cfcql.yaml` says what each one does."""

    penalty: Literal["counterfactual", "joint"]
    softmax_temp: float | Literal["argmax"]
    joint_samples: PositiveInt
    init_from_behaviour: Literal[False]  # a clone's logits are no values


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
        self, batch: Batch, q: Tensor, q_tot: Tensor, weights: Weights, with_stats: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.counterfactual:
            values = mix_counterfactuals(q, batch["actions"], weights)  # (1) [B, T, N, A]
            lambdas, stats = self._agent_weights(values.detach(), batch, with_stats)
            outside = (lambdas * masked_logsumexp(values, batch["avail_actions"])).sum(dim=-1)
        else:
            outside, stats = self._joint_logsumexp(q, batch["avail_actions"], weights), {}
        penalty = masked_mean(outside - q_tot, batch["filled"])
        return self.args.cql_weight * penalty, stats | {"cql_penalty": penalty}

    def _agent_weights(
        self, values: Tensor, batch: Batch, with_stats: bool
    ) -> tuple[Tensor | float, dict[str, Tensor]]:
        """lambda^i of every step, [B, T, N], or one number for all."""
        if not self.behaviour_models:
            return 1 / self.info.n_agents, {}
        kl = kl_to_behaviour(values, batch["avail_actions"], batch["behaviour_log_probs"])
        lambdas, stats = agent_weights(kl, self.args.softmax_temp), {}
        if with_stats:
            for i in range(self.info.n_agents):
                stats[f"kl_to_behaviour/agent_{i}"] = masked_mean(kl[..., i], batch["filled"])
                stats[f"agent_weight/agent_{i}"] = masked_mean(lambdas[..., i], batch["filled"])
        return lambdas, stats

    def _joint_logsumexp(self, q: Tensor, available: Tensor, weights: Weights) -> Tensor:
        """The first term of (4), [B, T]."""
        if self.joint_actions is None:
            actions = sample_joint_actions(
                available, self.args.joint_samples, self.generator
            )  # [B, T, N, K]
            return mix_joint_actions(q.gather(-1, actions), weights).logsumexp(dim=-1)
        actions = self.joint_actions.expand(*q.shape[:3], -1)
        values = mix_joint_actions(q.gather(-1, actions), weights)  # [B, T, A^N]
        return masked_logsumexp(values, available.gather(-1, actions).all(dim=2))


def kl_to_behaviour(values: Tensor, available: Tensor, log_beta: Tensor) -> Tensor:
    """KL(p^i || beta^i) of p^i = softmax_a values over available actions, [B, T, N] from [B, T, N, A]."""
    p, beta = masked_log_softmax(values, available).exp() + KL_FLOOR, log_beta.exp() + KL_FLOOR
    return (p * (p.log() - beta.log()) * available).sum(dim=-1)


def agent_weights(kl: Tensor, softmax_temp: float | Literal["argmax"]) -> Tensor:
    """lambda^i, which add up to 1 over agents, from their KL [..., N]."""
    if softmax_temp == "argmax":
        return F.one_hot(kl.argmax(dim=-1), kl.shape[-1]).to(kl.dtype)
    return (softmax_temp * kl).softmax(dim=-1)


def all_joint_actions(info: EnvInfo, limit: int) -> Tensor | None:
    """All A^N joint actions as int [N, A^N]; None if they are more than `limit`."""
    if info.n_actions**info.n_agents > limit:
        return None
    choices = [th.arange(info.n_actions)] * info.n_agents
    return th.stack([axis.flatten() for axis in th.meshgrid(*choices, indexing="ij")])


def sample_joint_actions(available: Tensor, n_samples: int, generator: th.Generator) -> Tensor:
    """Joint actions drawn uniformly from the available ones, int [B, T, N, K] for available [B, T, N, A].

    Where an agent has none (padding) it draws an unavailable one.
    """
    listed = available.sort(dim=-1, descending=True, stable=True).indices  # available actions first
    draws = th.rand(*available.shape[:-1], n_samples, generator=generator, device=available.device)
    return listed.gather(-1, (draws * available.sum(dim=-1, keepdim=True)).long())

"""QMIX's values learnt from batches: what its conservative descendants build upon.

Q_tot(s, a) = Mix( Q^1(tau^1, a^1), ..., Q^N(tau^N, a^N); s ), growing with every Q^i, so that each agent's own best
action is part of the best joint one (Rashid et al. 2018, arXiv:1803.11485). Targets (bars: networks as they were):

    a*^i_t = argmax_a Q^i(tau^i_t, a)                                    double Q: picked by the network,
    V_t    = Mixbar( Qbar^1(tau^1_t, a*^1_t), ..., Qbar^N(tau^N_t, a*^N_t); s_t )      valued by its target
    y_t    = r_t + gamma (1 - terminated_t) ((1 - lambda) V_{t+1} + lambda y_{t+1})    TD(lambda)
    L_TD   = E_D [ (Q_tot(s_t, a_t) - y_t)^2 / 2 ]

From PyMARL2's and CFCQL's code this differs where an episode is cut short: there the value of what would have followed
is bootstrapped in full, whereas their recursion lets padding leak in. All sequences are unrolled in one call.
"""

from abc import abstractmethod
from copy import deepcopy

import torch as th
from torch import Tensor, nn

from components.offline_buffer import Batch, OfflineBuffer, without_final_row
from components.value_decomposition import double_q_values, td_loss
from controllers import BasicMAC
from envs import EnvInfo
from learners.base_learner import BaseLearner, Stats
from modules.mixers import QMixer, Weights, mix
from utils.config import Fraction, NonNegative, PositiveInt, RunConfig
from utils.rl_utils import gather_last, lambda_returns, masked_mean, soft_update


class ValueDecompositionConfig(RunConfig):
    """The settings of values, mixer and targets; `config/algs/qmix_cql.yaml` says what each one does."""

    mixing_embed_dim: PositiveInt
    hypernet_dim: PositiveInt
    td_lambda: Fraction
    target_update_interval: PositiveInt
    tau: Fraction
    cql_weight: NonNegative


class ValueDecompositionLearner(BaseLearner):
    """L = L_TD + cql_weight * E_D [ penalty ], one Adam for agents and mixer. A subclass says what the penalty is."""

    Config = ValueDecompositionConfig
    args: ValueDecompositionConfig

    def __init__(self, args: ValueDecompositionConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.mixer = QMixer(info, args.mixing_embed_dim, args.hypernet_dim).to(self.device)
        self.target_mac = deepcopy(mac).requires_grad_(False)
        self.target_mixer = deepcopy(self.mixer).requires_grad_(False)
        self.modules |= {"mixer": self.mixer, "target_mac": self.target_mac, "target_mixer": self.target_mixer}
        # One module, so that gradients are clipped by one norm over agents and mixer.
        networks, targets = nn.ModuleList([mac, self.mixer]), nn.ModuleList([self.target_mac, self.target_mixer])
        self.parameters, self.target_parameters = [*networks.parameters()], [*targets.parameters()]
        self.optimiser = self.adam("values", {networks: args.lr})

    @abstractmethod
    def penalty(
        self, batch: Batch, q: Tensor, q_tot: Tensor, weights: Weights, with_stats: bool
    ) -> tuple[Tensor, Stats]:
        """What keeps values of actions outside the data low.

        Args:
            batch: without its final row.
            q: Q^i(tau^i, .), [B, T, N, A].
            q_tot: Q_tot(s, a) of the actions taken, [B, T].
            weights: the mixer's.

        Returns:
            the penalty of every step, [B, T], finite even on padding; metrics if `with_stats`.
        """

    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        """One gradient step and, when it is time, one of the targets."""
        args, batch = self.args, buffer.sample(self.args.batch_size)
        q = self.mac.outputs(batch)  # [B, T+1, N, A]
        target = self.td_target(batch, q.detach())
        batch, q = without_final_row(batch), q[:, :-1]
        weights = self.mixer.weights(batch["state"])
        q_tot = mix(gather_last(q, batch["actions"]), weights)
        loss = td_loss(q_tot, target, batch["filled"])
        penalties, stats = self.penalty(batch, q, q_tot, weights, with_stats)
        penalty = masked_mean(penalties, batch["filled"])
        self.step(self.optimiser, loss + args.cql_weight * penalty)
        self.updates += 1
        if self.updates % args.target_update_interval == 0:
            soft_update(self.target_parameters, self.parameters, args.tau)
        if not with_stats:
            return {}
        stats |= {"td_loss": loss.item(), "cql_penalty": penalty.item()}
        return stats | {"q_taken": masked_mean(q_tot.detach(), batch["filled"]).item()}

    @th.no_grad()
    def td_target(self, batch: Batch, q: Tensor) -> Tensor:
        """y of every step, [B, T], from Q^i at all rows, [B, T+1, N, A]."""
        target_q = self.target_mac.outputs(batch)
        values = double_q_values(q[:, 1:], target_q[:, 1:], batch["avail_actions"][:, 1:])  # [B, T, N]
        values = self.target_mixer(values, batch["state"][:, 1:])
        ends = batch["reward"], batch["terminated"], batch["filled"]
        return lambda_returns(*ends, values, self.args.gamma, self.args.td_lambda)

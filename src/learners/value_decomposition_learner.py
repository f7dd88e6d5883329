"""QMIX's values learnt from batches: what its conservative descendants build upon.

Q_tot(s, a) = Mix( Q^1(tau^1, a^1), ..., Q^N(tau^N, a^N); s ), growing with every Q^i, so that each agent's own best
action is part of the best joint one (Rashid et al., ICML 2018, arXiv:1803.11485; Eq. 4-6). Bars mark targets:

    a*^i_t = argmax_a Q^i(tau^i_t, a)                               picked by the network in training (double Q)
    V_t    = Mixbar( Qbar^1(tau^1_t, a*^1_t), ..., Qbar^N(tau^N_t, a*^N_t); s_t )    and valued by its target
    y_t    = r_t + gamma (1 - terminated_t) ((1 - lambda) V_{t+1} + lambda y_{t+1})  TD(lambda), as in PyMARL2
    L_TD   = E_D [ (Q_tot(s_t, a_t) - y_t)^2 / 2 ]

PyMARL2's and CFCQL's recursion for y lets padding leak into an episode that was cut short. Here the value of what would
have followed its last step is bootstrapped in full.

    symbol       setting
    Q^i          agent, hidden_dim, share_parameters
    Mix          mixing_embed_dim, hypernet_embed
    bars         target_update_interval, tau
    lambda       td_lambda: of sequences (batch_unit=episodes); a transition's target is one step
"""

from copy import deepcopy

from pydantic import model_validator
from torch import Tensor, nn

from inspo.components.offline_buffer import OfflineBuffer
from inspo.components.replay_buffer import ReplayBuffer
from inspo.components.value_decomposition import double_q_targets, td_loss
from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.base_learner import BaseLearner, Stats
from inspo.modules.mixers import QMixer, Weights, mix
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import Fraction, NonNegative, PositiveInt, RunConfig
from inspo.utils.rl_utils import gather_last, masked_mean, soft_update


class ValueDecompositionConfig(RunConfig):
    """Settings of every learner of a decomposed value."""

    mixing_embed_dim: PositiveInt
    hypernet_embed: PositiveInt
    td_lambda: Fraction
    target_update_interval: PositiveInt
    tau: Fraction

    @model_validator(mode="after")
    def _values_are_no_logits(self) -> "ValueDecompositionConfig":
        if not self.test_greedy:
            raise ValueError(
                f"test_greedy=False samples from a policy, and {self.name} learns values: set it to True"
            )
        return self


class ConservativeConfig(ValueDecompositionConfig):
    """For learners that keep the values of actions outside the data low."""

    cql_weight: NonNegative


class ValueDecompositionLearner(BaseLearner):
    """L = L_TD + what a subclass adds; one Adam for agents and mixer."""

    Config = ValueDecompositionConfig
    args: ValueDecompositionConfig

    def __init__(self, args: ValueDecompositionConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.mixer = QMixer(info, args.mixing_embed_dim, args.hypernet_embed).to(self.device)
        networks = nn.ModuleList(
            [mac, self.mixer]
        )  # one module: gradients are clipped by one norm over both
        self.target_mac, self.target_mixer = targets = deepcopy(networks).requires_grad_(False)
        self.modules |= {
            "mixer": self.mixer,
            "target_mac": self.target_mac,
            "target_mixer": self.target_mixer,
        }
        self.parameters, self.target_parameters = [*networks.parameters()], [*targets.parameters()]
        self.optimiser = self.adam("values", {networks: args.lr})

    def train(self, buffer: OfflineBuffer | ReplayBuffer, with_stats: bool) -> Stats:
        """One gradient step and, when it is time, an update of the targets."""
        args, batch = self.args, buffer.sample(self.args.batch_size)
        q = self.mac.outputs(batch)  # [B, T+1, N, A]
        target_q = self.target_mac.outputs(batch)
        targets = double_q_targets(
            q, target_q, self.target_mixer, batch, args.gamma, args.td_lambda
        )
        batch, q = without_final_row(batch), q[:, :-1]
        weights = self.mixer.weights(batch["state"])
        q_tot = mix(gather_last(q, batch["actions"]), weights)  # [B, T]
        loss = td_loss(q_tot, targets, batch["filled"])
        regulariser, stats = self.regulariser(batch, q, q_tot, weights, with_stats)
        self.step(self.optimiser, loss + regulariser)
        self.updates += 1
        if self.updates % args.target_update_interval == 0:
            soft_update(self.target_parameters, self.parameters, args.tau)
        if not with_stats:
            return {}
        stats |= {
            "td_loss": loss,
            "q_taken": masked_mean(q_tot.detach(), batch["filled"]),
            "q_target": masked_mean(targets, batch["filled"]),
        }
        return {name: value.item() for name, value in stats.items()}

    def regulariser(
        self, batch: Batch, q: Tensor, q_tot: Tensor, weights: Weights, with_stats: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What is added to L_TD, a scalar; and, if `with_stats`, metrics. Nothing here: plain QMIX.

        Args:
            batch: without its final row.
            q: Q^i(tau^i, .), [B, T, N, A].
            q_tot: Q_tot(s, a) of the actions taken, [B, T].
            weights: the mixer's, for whatever else is to be mixed.
        """
        return q_tot.new_zeros(()), {}

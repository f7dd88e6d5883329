"""Decomposed values, which QMIX, VDN, IQL, their CQL versions, CFCQL and MACQL build on.

QMIX (`mixer: qmix`):

Q_tot(s, a) = Mix( Q^1(tau^1, a^1), ..., Q^N(tau^N, a^N); s ) grows with every Q^i, so that each
agent's best action is part of the best joint action (Rashid et al., ICML 2018, arXiv:1803.11485,
Eq. 4-6). Bars mark target networks:

    a*^i_t = argmax_a Q^i(tau^i_t, a)                               double Q-learning
    V_t    = Mixbar( Qbar^1(tau^1_t, a*^1_t), ..., Qbar^N(tau^N_t, a*^N_t); s_t )
    y_t    = r_t + gamma (1 - d_t) ((1 - lambda) V_{t+1} + lambda y_{t+1})     TD(lambda), PyMARL2
    L_TD   = E_D [ (Q_tot(s_t, a_t) - y_t)^2 / 2 ]

VDN (`mixer: vdn`, Sunehag et al., AAMAS 2018, arXiv:1706.05296): the same with
Mix(q^1, ..., q^N; s) = q^1 + ... + q^N.

IQL, independent Q-learning (`mixer: null`, Tan 1993): every agent has a target of its own.

    y^i_t  = r_t + gamma (1 - d_t) ((1 - lambda) Qbar^i(tau^i_{t+1}, a*^i_{t+1}) + lambda y^i_{t+1})
    L_TD   = E_D [ 1/N sum_i (Q^i(tau^i_t, a^i_t) - y^i_t)^2 / 2 ]

d_t is `terminated`. In the code of PyMARL2 and CFCQL, padding leaks into y at the end of a
truncated episode. Here the last step of an episode bootstraps from V_{t+1} alone.

    symbol  settings
    Q^i     agent, hidden_dim, share_parameters
    Mix     mixer, mixing_embed_dim, hypernet_embed
    bars    target_update_interval, tau
    lambda  td_lambda, with batch_unit=episodes; a transition's target is the one-step target
"""

from typing import Any

from pydantic import field_validator, model_validator
from torch import Tensor, nn

from inspo.components.offline_buffer import OfflineBuffer
from inspo.components.replay_buffer import ReplayBuffer
from inspo.components.value_decomposition import double_q_targets, step_mean, td_loss
from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.base_learner import BaseLearner, Stats, target_of, to_floats
from inspo.modules.mixers import mixer_class
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import Fraction, NonNegative, PositiveInt, RunConfig, Width
from inspo.utils.errors import ConfigError
from inspo.utils.rl_utils import gather_last, soft_update


class ValueDecompositionConfig(RunConfig):
    """Settings of all learners of decomposed values."""

    mixer: str | None
    mixing_embed_dim: Width
    hypernet_embed: Width
    td_lambda: Fraction
    target_update_interval: PositiveInt
    tau: Fraction

    @field_validator("mixer")
    @classmethod
    def _check_mixer(cls, name: str | None) -> str | None:
        try:
            mixer_class(name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return name

    @model_validator(mode="after")
    def _check_greediness(self) -> "ValueDecompositionConfig":
        if not self.test_greedy:
            raise ValueError(
                f"test_greedy=False samples from a policy, but {self.name} learns values: "
                "set test_greedy=True"
            )
        return self


class ConservativeConfig(ValueDecompositionConfig):
    """For learners with a penalty on the values of actions outside of the data."""

    cql_weight: NonNegative


class ValueDecompositionLearner(BaseLearner):
    """Minimises L_TD plus a subclass's regulariser, with one Adam for agents and mixer.

    The setting `mixer` makes it QMIX, VDN or independent learners.
    """

    Config = ValueDecompositionConfig
    args: ValueDecompositionConfig

    def __init__(self, args: ValueDecompositionConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.mixer = mixer_class(args.mixer)(args, info).to(self.device)
        networks = nn.ModuleList([mac, self.mixer])
        targets = target_of(networks, self.device)
        self.target_mac, self.target_mixer = targets
        self.modules["mixer"] = self.mixer
        self.modules["target_mac"] = self.target_mac
        self.modules["target_mixer"] = self.target_mixer
        self.parameters = [*networks.parameters()]
        self.target_parameters = [*targets.parameters()]
        # As one module: the gradient norm is clipped over agents and mixer together.
        self.optimiser = self.adam("values", {networks: args.lr})

    def train(self, buffer: OfflineBuffer | ReplayBuffer, with_stats: bool) -> Stats:
        stats = self.compute(self.update, self.sample(buffer), with_stats)
        self.updates += 1
        if self.updates % self.args.target_update_interval == 0:
            soft_update(self.target_parameters, self.parameters, self.args.tau)
        return to_floats(stats)

    def update(self, batch: Batch, with_stats: bool) -> dict[str, Tensor]:
        """One gradient step. Returns metrics if `with_stats`."""
        args = self.args
        q = self.mac.outputs(batch)  # [B, T+1, N, A]
        targets = double_q_targets(
            q,
            self.target_mac.outputs(batch),
            self.target_mixer,
            batch,
            args.gamma,
            args.td_lambda,
        )
        batch = without_final_row(batch)
        q = q[:, :-1]
        weights = self.mixer.weights(batch["state"])
        q_tot = self.mixer.mix(gather_last(q, batch["actions"]), weights)
        loss = td_loss(q_tot, targets, batch["filled"])
        regulariser, stats = self.regulariser(batch, q, q_tot, weights, with_stats)
        self.step(self.optimiser, loss + regulariser)
        if not with_stats:
            return {}
        stats["td_loss"] = loss
        stats["q_taken"] = step_mean(q_tot.detach(), batch["filled"])
        stats["q_target"] = step_mean(targets, batch["filled"])
        return stats

    def regulariser(
        self,
        batch: Batch,
        q: Tensor,
        q_tot: Tensor,
        weights: Any,
        with_stats: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What is added to L_TD, a scalar, and metrics if `with_stats`. Plain QMIX adds nothing.

        Args:
            batch: without its final row.
            q: Q^i(tau^i, .), [B, T, N, A].
            q_tot: Q_tot(s, a) of the actions taken, [B, T]; [B, T, N] for independent learners.
            weights: of the mixer, to mix other actions.
        """
        return q_tot.new_zeros(()), {}

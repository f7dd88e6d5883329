"""MAPPO: multi-agent PPO with a central critic (Yu et al., NeurIPS 2022, arXiv:2103.01955).

A round plays `n_parallel` episodes with the current policies, whose probabilities are pi_old. Then
`epochs` passes over them take one gradient step for each minibatch of `batch_size` episodes:

    A_t  = GAE(lambda) of the team's reward with V(s)                              standardised
    r_t  = pi^i(a^i_t | tau^i_t) / pi_old^i(a^i_t | tau^i_t)
    L_pi = - E_i,t [ min( r_t A_t, clip(r_t, 1 - eps, 1 + eps) A_t ) ] - c E_i,t [ H(pi^i) ]
    L_V  = E_t [ max( (V - G_t)^2, (V_old + clip(V - V_old, -eps, eps) - G_t)^2 ) / 2 ]
    G_t  = A_t + V_old(s_t)                                                        normalised

In L_V, V and V_old are the critic's outputs, so that V = V_old until the first gradient step. G_t
is normalised by statistics that include the new round. E_i,t leaves out decisions with a single
available action, such as a dead unit's. Networks do not run over padding, nor after an agent's last
choice.

    symbol   settings
    pi^i     agent, hidden_dim, share_parameters
    V        critic_hidden_dim, critic_lr
    eps      eps_clip
    c        entropy_coef
    lambda   gae_lambda

Differences from the authors' code (marlbenchmark/on-policy): whole episodes, so that an agent's
memory always starts at zero; one value of the state for the team; squared instead of Huber errors;
ReLU networks without layer norm in PyTorch's initialisation.
"""

from typing import NamedTuple

import torch as th
from pydantic import model_validator
from torch import Tensor

from inspo.components.round_buffer import RoundBuffer
from inspo.controllers import BasicMAC, PackedRows
from inspo.envs import EnvInfo
from inspo.learners.base_learner import BaseLearner, Stats, to_floats
from inspo.learners.mappo_losses import (
    advantages_and_returns,
    clipped_policy_loss,
    clipped_value_loss,
    standardise_advantages,
)
from inspo.modules.critics import CentralCritic
from inspo.modules.value_norm import ValueNorm
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import Fraction, NonNegative, OnPolicyConfig, Positive, Width
from inspo.utils.rl_utils import entropy, gather_last, masked_log_softmax, masked_mean
from inspo.utils.uploads import upload


class MAPPOConfig(OnPolicyConfig):
    """See `config/algs/mappo.yaml`."""

    critic_hidden_dim: Width
    critic_lr: Positive
    eps_clip: Positive
    entropy_coef: NonNegative
    gae_lambda: Fraction

    @model_validator(mode="after")
    def _refuse_mps(self) -> "MAPPOConfig":
        if self.device == "mps" and not self.evaluate:
            raise ValueError(
                "device=mps: the values are normalised in float64, which Apple's GPUs do not have; "
                "use device=cpu"
            )
        return self


class MAPPOLearner(BaseLearner):
    """Policies and a central critic, updated from each round's episodes."""

    Config = MAPPOConfig
    replayable = False  # every round has other numbers of packed rows
    args: MAPPOConfig

    def __init__(self, args: MAPPOConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.critic = CentralCritic(info, args.critic_hidden_dim).to(self.device)
        self.value_norm = ValueNorm().to(self.device)
        self.modules |= {"critic": self.critic, "value_norm": self.value_norm}
        rates = {mac: args.lr, self.critic: args.critic_lr}
        self.optimiser = self.adam("all", rates)

    def train(self, buffer: RoundBuffer, with_stats: bool) -> Stats:
        """All epochs over the newest round. Returns metrics of the last gradient step."""
        played = self._prepare(buffer.batch())
        n_episodes = len(played.lengths)
        n_minibatches = -(-n_episodes // self.args.batch_size)
        stats: dict[str, Tensor] = {}
        for _ in range(self.args.epochs):
            order = th.randperm(n_episodes, generator=self.host_generator)
            for episodes in order.tensor_split(n_minibatches):
                policy_loss, stats = self._policy_loss(played, episodes)
                value_loss = self._value_loss(played, episodes)
                self.step(self.optimiser, policy_loss + value_loss)
                self.updates += 1
        if not with_stats:
            return {}
        stats["value_loss"] = value_loss
        stats["value_mean"] = masked_mean(played.returns, played.filled)
        return to_floats(stats)

    @th.no_grad()
    def _prepare(self, batch: Batch) -> "Played":
        """What stays fixed while the networks learn from a round."""
        args, norm = self.args, self.value_norm
        outputs = self.critic(batch["state"])  # [B, T+1], in the units of the rounds before
        values = norm.denormalise(outputs)
        advantages, returns = advantages_and_returns(
            batch["reward"],
            batch["terminated"],
            batch["filled"],
            values,
            args.gamma,
            args.gae_lambda,
        )
        batch = without_final_row(batch)
        filled = batch["filled"]
        several = batch["avail_actions"].sum(-1) > 1
        has_choice = several & filled.unsqueeze(-1)
        n_steps = filled.sum(dim=1, keepdim=True)
        # The host needs the lengths to pack rows. It waits for them once a round.
        lengths = th.cat([_lengths(has_choice), n_steps], dim=1).cpu()
        everything = th.arange(len(filled))
        norm.update(returns[self._steps(lengths[:, -1], everything)])
        played = Played(
            inputs=self.mac.build_inputs(batch["obs"], batch["last_actions"]),
            avail_actions=batch["avail_actions"],
            actions=batch["actions"],
            has_choice=has_choice,
            lengths=lengths[:, :-1],
            n_steps=lengths[:, -1],
            old_log_prob=th.zeros_like(batch["actions"], dtype=values.dtype),
            advantages=standardise_advantages(advantages, filled),
            state=batch["state"],
            filled=filled,
            returns=returns,
            normal_returns=norm.normalise(returns),
            old_values=outputs[:, :-1],
        )
        for episodes in everything.split(args.batch_size):
            rows = self._rows(played, episodes)
            log_probs = self._log_probs(played, rows)
            chosen = gather_last(log_probs, played.actions[rows.index])
            played.old_log_prob[rows.index] = chosen
        return played

    def _rows(self, played: "Played", episodes: Tensor) -> PackedRows:
        """The rows of these episodes that the policies need. `episodes`: int [B'], on the host."""
        rows = self.mac.pack(played.lengths[episodes])
        index = {"episodes": episodes[rows.episodes], "steps": rows.steps, "agents": rows.agents}
        return rows._replace(**upload(index, self.device))

    def _steps(self, n_steps: Tensor, episodes: Tensor) -> tuple[Tensor, Tensor]:
        """Selects the real steps of these episodes from a tensor [B, T, ...].

        Args:
            n_steps: of all episodes, int [B], on the host.
            episodes: int [B'], on the host.
        """
        steps = th.arange(int(n_steps.max()))
        places, steps = (steps < n_steps[episodes, None]).nonzero(as_tuple=True)
        index = upload({"episodes": episodes[places], "steps": steps}, self.device)
        return index["episodes"], index["steps"]

    def _log_probs(self, played: "Played", rows: PackedRows) -> Tensor:
        """log pi^i(. | tau^i) at packed rows, [M, A]."""
        outputs = self.mac.packed_outputs(played.inputs[rows.index], rows)
        return masked_log_softmax(outputs, played.avail_actions[rows.index])

    def _policy_loss(self, played: "Played", episodes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """L_pi of a minibatch, a scalar, and metrics."""
        args = self.args
        rows = self._rows(played, episodes)
        mask = played.has_choice[rows.index]
        log_probs = self._log_probs(played, rows)
        log_prob = gather_last(log_probs, played.actions[rows.index])
        old_log_prob = played.old_log_prob[rows.index]
        advantages = played.advantages[rows.episodes, rows.steps]
        loss = clipped_policy_loss(log_prob, old_log_prob, advantages, mask, args.eps_clip)
        policy_entropy = masked_mean(entropy(log_probs), mask)
        with th.no_grad():
            log_ratio = log_prob - old_log_prob
            is_clipped = (log_ratio.exp() - 1).abs() > args.eps_clip
            stats = {
                "policy_loss": loss,
                "entropy": policy_entropy,
                "approx_kl": masked_mean(log_ratio.exp() - 1 - log_ratio, mask),
                "clip_fraction": masked_mean(is_clipped.to(loss.dtype), mask),
            }
        return loss - args.entropy_coef * policy_entropy, stats

    def _value_loss(self, played: "Played", episodes: Tensor) -> Tensor:
        """L_V of a minibatch, a scalar."""
        steps = self._steps(played.n_steps, episodes)
        return clipped_value_loss(
            self.critic(played.state[steps]),
            played.old_values[steps],
            played.normal_returns[steps],
            self.args.eps_clip,
        )


class Played(NamedTuple):
    """A round's episodes. I inputs of a policy, A actions, S state."""

    inputs: Tensor  # [B, T, N, I]
    avail_actions: Tensor  # bool [B, T, N, A]
    actions: Tensor  # int [B, T, N]
    has_choice: Tensor  # bool [B, T, N]; several actions are available, and it is no padding
    lengths: Tensor  # int [B, N], on the host; steps until an agent's last choice
    n_steps: Tensor  # int [B], on the host; of each episode
    old_log_prob: Tensor  # [B, T, N]; 0 after the last choice
    advantages: Tensor  # [B, T], standardised
    state: Tensor  # [B, T, S]
    filled: Tensor  # bool [B, T]
    returns: Tensor  # [B, T]
    normal_returns: Tensor  # [B, T]
    old_values: Tensor  # [B, T], what the critic put out before the round


def _lengths(has_choice: Tensor) -> Tensor:
    """Steps until the last choice, at least 1: bool [B, T, N] to int [B, N]."""
    steps = th.arange(1, has_choice.shape[1] + 1, device=has_choice.device)
    return (has_choice * steps[:, None]).amax(dim=1).clamp(min=1)

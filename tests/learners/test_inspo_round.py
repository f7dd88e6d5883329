"""A whole round of InSPO against its equations.

They are written out plainly: agent by agent, with loops instead of masks.
"""

import math
from copy import deepcopy

import pytest
import torch as th
from conftest import make_data
from small_learners import make_learner

from inspo.learners import inspo_learner

N, GAMMA, TAU, CQL, KL_TARGET, WEIGHT_MAX = 3, 0.9, 0.1, 0.3, 0.3, 5.0
FIXED = {
    "order": "fixed",
    "critic_inputs": "both",
    "lr": 0.01,
    "critic_lr": 0.02,
    "grad_norm_clip": 0,
    "gamma": GAMMA,
}
FIXED |= {
    "tau": TAU,
    "cql_weight": CQL,
    "weight_max": WEIGHT_MAX,
    "alpha_lr": 0.01,
    "kl_target": KL_TARGET,
    "t_max": 30,
}
FIXED |= {"beta_start": 2.0, "beta_end": 0.2, "beta_decay_steps": 10}


def draws(rho, filled, _generator=None):
    """Stands for the resampling, without chance."""
    return (3 * rho * filled[..., None]).ceil()


def log_probs(policy, batch, i):
    """log pi^i, [B, T+1, A]; -inf where an action is not available."""
    logits = policy.agents[i].net(batch["obs"][:, :, i])
    return logits.masked_fill(~batch["avail_actions"][:, :, i], -math.inf).log_softmax(-1)


def mean_under(log_pi, values):
    """sum_a pi(a) values(a) over the actions that pi gives a chance."""
    return th.where(log_pi > -math.inf, log_pi.exp() * values, th.zeros(())).sum(-1)


def taken(values, batch, i):
    """`values` [B, T+1, A] of the actions that agent i took, [B, T]."""
    return values[:, :-1].gather(-1, batch["actions"][:, :-1, i, None])[..., 0]


class PlainRound:
    """The equations' numbered steps for one agent and batch after the other."""

    def __init__(self, learner):
        self.args = learner.args
        names = ("mac", "target_mac", "critics", "target_critics", "temperatures")
        self.policy, self.target_policy, self.critics, self.target_critics, self.log_alpha = (
            deepcopy([learner.modules[name] for name in names])
        )
        self.networks = [(self.policy.agents[i], self.critics.critics[i]) for i in range(N)]
        self.targets = [
            (self.target_policy.agents[i], self.target_critics.critics[i]) for i in range(N)
        ]
        rates = (0.01, 0.02)
        self.adam = [
            [
                th.optim.Adam(network.parameters(), rate)
                for network, rate in zip(pair, rates, strict=True)
            ]
            for pair in self.networks
        ]
        self.alpha_adam = [th.optim.Adam([log_alpha], 0.01) for log_alpha in self.log_alpha]

    def train(self, batches):
        before = deepcopy(self.policy)
        losses = {}
        for i in range(N):
            for k, batch in enumerate(batches):
                sequential = self.args.update_scheme == "sequential"
                teammates = [self.policy if sequential and j < i else before for j in range(N)]
                losses |= self.update(i, batch, teammates, k)
        return losses

    def update(self, i, batch, teammates, updates):
        args, real = self.args, batch["filled"]
        alpha = self.log_alpha[i].exp().item()
        beta = 2.0 * 0.1 ** (updates / 10) if args.beta == "decaying" else args.beta
        log_mu, log_target = (
            batch["behaviour_log_probs"][:, :, i],
            log_probs(self.target_policy, batch, i).detach(),
        )
        log_pi = log_probs(self.policy, batch, i)
        inputs = th.cat([batch["state"], batch["obs"][:, :, i]], dim=-1)
        q, target_q = (
            self.critics.critics[i](inputs),
            self.target_critics.critics[i](inputs).detach(),
        )
        # 1, 2: ratio and resampling
        log_rho = sum(
            taken(log_probs(teammates[j], batch, j), batch, j) for j in range(N) if j != i
        ).detach()
        log_rho = log_rho - batch["teammates_log_prob"][:, :-1, i]
        log_rho = log_rho / (N - 1) if args.ratio == "geometric" else log_rho
        counts = draws(log_rho.clamp(-10, 5).exp()[..., None], real)[..., 0]
        # 3: policy evaluation
        next_value = mean_under(
            log_target, target_q - alpha * (log_target - log_mu) - beta * log_target
        )
        y = th.zeros_like(counts)
        for e, length in enumerate(real.sum(dim=1).tolist()):
            for t in reversed(range(length)):
                follows = next_value[e, t + 1]
                if t < length - 1:
                    follows = (1 - args.td_lambda) * follows + args.td_lambda * y[e, t + 1]
                y[e, t] = batch["reward"][e, t] + (
                    0.0 if batch["terminated"][e, t] else GAMMA * follows
                )
        available_q = q.masked_fill(~batch["avail_actions"][:, :, i], -math.inf)
        cql = th.logsumexp(available_q[:, :-1], dim=-1) - taken(q, batch, i)
        value_loss = (
            ((taken(q, batch, i) - y).square() + CQL * cql)[real]
            @ counts[real]
            / counts[real].sum()
        )
        # 4: policy improvement
        score = q.detach() - beta * log_mu
        advantage = taken(score, batch, i) - mean_under(log_target, score)[:, :-1]
        weights = (advantage / (alpha + beta)).exp().clamp(max=WEIGHT_MAX)
        over = counts[real] if args.policy_data == "resampled" else th.ones_like(counts[real])
        policy_loss = -(weights * taken(log_pi, batch, i))[real] @ over / over.sum()
        kl = mean_under(log_pi, log_pi - log_mu)[:, :-1][real].mean().item()
        for optimiser, loss in zip(self.adam[i], (policy_loss, value_loss), strict=True):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        # 5: temperature
        if args.alpha == "tuned":
            self.alpha_adam[i].zero_grad()
            (self.log_alpha[i].exp() * (KL_TARGET - kl)).backward()
            self.alpha_adam[i].step()
        # 6: targets
        for network, target in zip(self.networks[i], self.targets[i], strict=True):
            for new, old in zip(network.parameters(), target.parameters(), strict=True):
                old.data.mul_(1 - TAU).add_(TAU * new.data)
        found = {
            "value_loss": value_loss.item(),
            "policy_loss": policy_loss.item(),
            "kl_to_behaviour": kl,
        }
        return {
            f"{name}/agent_{i}": value
            for name, value in {**found, "alpha": alpha, "beta": beta}.items()
        }


@pytest.mark.parametrize("scheme", ["sequential", "simultaneous"])
@pytest.mark.parametrize(
    ("updates", "settings"),
    [
        (1, {"ratio": "geometric", "alpha": 0.3, "beta": 0.0}),
        (1, {"ratio": "plain", "alpha": "tuned", "beta": 0.4, "td_lambda": 0.7}),
        (
            3,
            {
                "ratio": "geometric",
                "alpha": "tuned",
                "beta": "decaying",
                "policy_data": "resampled",
            },
        ),
    ],
)
def test_a_round_is_what_the_equations_say(tmp_path, monkeypatch, scheme, updates, settings):
    settings = {**FIXED, **settings, "update_scheme": scheme, "updates_per_agent": updates}
    learner, buffer = make_learner(tmp_path, data=make_data(), **settings)
    with th.no_grad():  # so that policies and values are not their targets
        for parameter in [*learner.mac.parameters(), *learner.critics.parameters()]:
            parameter.add_(0.1 * th.randn_like(parameter))
    batches = [buffer.sample(6) for _ in range(updates)]
    supply = iter(batches)
    buffer.sample = lambda _: next(supply)
    monkeypatch.setattr(inspo_learner, "resample", draws)

    plain = PlainRound(learner)
    expected = plain.train(batches)
    stats = learner.train(buffer, with_stats=True)
    assert {name: stats[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for found, wanted in (
        (learner.mac, plain.policy),
        (learner.critics, plain.critics),
        (learner.target_mac, plain.target_policy),
        (learner.target_critics, plain.target_critics),
        (learner.temperatures, plain.log_alpha),
    ):
        for one, other in zip(found.parameters(), wanted.parameters(), strict=True):
            th.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)

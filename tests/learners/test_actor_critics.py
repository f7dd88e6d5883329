"""The losses of OMAR, OMIGA and ICQ against loops over episodes, steps and agents, unmasked."""

import math

import pytest
import torch as th
from small_learners import make_learner, single_episode

GAMMA, LAMBDA = 0.9, 0.6
SETTINGS = {
    "omar": {"cql_weight": 0.7, "omar_weight": 0.3, "td_lambda": LAMBDA, "critic_inputs": "both"},
    "omiga": {"alpha": 0.5, "critic_inputs": "obs"},
    "icq": {
        "policy_temperature": 0.5,
        "value_temperature": 0.8,
        "td_lambda": LAMBDA,
        "critic_inputs": "both",
    },
}


class Episode:
    """One episode of a batch: its real steps and the row that followed them, as plain rows."""

    def __init__(self, batch, number):
        self.steps = int(batch["filled"][number].sum())
        self.batch = single_episode(batch, number)
        self.state = batch["state"][number]
        self.obs = batch["obs"][number]
        self.actions = batch["actions"][number]
        self.available = batch["avail_actions"][number]
        self.reward = batch["reward"][number]
        self.terminated = batch["terminated"][number]

    def log_probs(self, mac):
        return mac.log_probs(self.batch)[0]  # [T+1, N, A]

    def values(self, critics, t, i):
        """The values of agent i's critic at row t, [A]."""
        parts = {"obs": [self.obs[t, i]], "both": [self.state[t], self.obs[t, i]]}[critics.inputs]
        return critics.critics[i](th.cat(parts))

    def targets(self, next_values):
        """TD(lambda) targets of the steps, from the value after each of them."""
        returns = [0.0] * self.steps
        for t in reversed(range(self.steps)):
            follows = next_values[t]
            if t < self.steps - 1:
                follows = (1 - LAMBDA) * next_values[t] + LAMBDA * returns[t + 1]
            returns[t] = self.reward[t] + GAMMA * (0.0 if self.terminated[t] else follows)
        return returns


def mean(values):
    return sum(values) / len(values)


def omar_loss(learner, episodes):
    first, second = learner.critics
    terms = []
    for episode in episodes:
        log_pi = episode.log_probs(learner.mac)
        log_target = episode.log_probs(learner.target_mac).detach()
        for i in range(3):
            following = []
            for t in range(1, episode.steps + 1):
                action = log_target[t, i].argmax()
                twins = [episode.values(twin, t, i)[action] for twin in learner.target_critics]
                following.append(min(twins).item())
            for t, y in enumerate(episode.targets(following)):
                action = episode.actions[t, i]
                offered = episode.available[t, i].nonzero().flatten().tolist()
                q = [episode.values(twin, t, i) for twin in (first, second)]
                value = 0.0
                for twin in q:
                    value += (twin[action] - y) ** 2
                    value += 0.7 * (twin[offered].exp().sum().log() - twin[action])
                best = max(offered, key=lambda a, q=q: min(q[0][a].item(), q[1][a].item()))
                expected = sum(log_pi[t, i, a].exp() * q[0][a].item() for a in offered)
                terms.append(value - 0.7 * expected - 0.3 * log_pi[t, i, best])
    return mean(terms)


def omiga_loss(learner, episodes):
    q_terms, v_terms, pi_terms, all_z = [], [], [], []
    for episode in episodes:
        log_pi = episode.log_probs(learner.mac)
        w_bar, b_bar = (rows[0].detach() for rows in learner.target_mixer(episode.batch["state"]))
        w, b = (rows[0] for rows in learner.mixer(episode.batch["state"]))
        for t in range(episode.steps):
            y = episode.reward[t].clone()
            if not episode.terminated[t]:
                v = [episode.values(learner.target_v, t + 1, i)[0].detach() for i in range(3)]
                y += GAMMA * (sum(w_bar[t + 1, i] * v[i] for i in range(3)) + b_bar[t + 1])
            taken = episode.actions[t]
            taken_q = [episode.values(learner.q, t, i)[taken[i]] for i in range(3)]
            q_tot = sum(w[t, i] * taken_q[i] for i in range(3)) + b[t]
            q_terms.append((q_tot - y) ** 2)
            for i in range(3):
                v = episode.values(learner.v, t, i)[0]
                q_bar = episode.values(learner.target_q, t, i)[taken[i]].detach()
                z = w_bar[t, i] * (q_bar - v) / 0.5
                v_terms.append(z.exp() + w_bar[t, i] * v / 0.5)
                weight = math.exp(min(max(z.item(), -10), 10))
                pi_terms.append(-weight * log_pi[t, i, taken[i]])
                all_z.append(z.item())
    return mean(q_terms) + math.exp(-max(*all_z, -1.0)) * mean(v_terms) + mean(pi_terms)


def icq_loss(learner, episodes):
    """The weights at a time step are normalised over the episodes that have the step."""
    q_terms, pi_terms = [], []
    taken_bar, advantages = {}, {}
    for e, episode in enumerate(episodes):
        pi = episode.log_probs(learner.mac).detach().exp()
        k_bar = learner.target_mixer(episode.batch["state"])[0].detach()
        for t in range(episode.steps):
            q_bar = [episode.values(learner.target_q, t, i).detach() for i in range(3)]
            taken = [q_bar[i][episode.actions[t, i]] for i in range(3)]
            taken_bar[e, t] = sum(k_bar[t, i] * taken[i] for i in range(3)).item()
            for i in range(3):
                q = episode.values(learner.q, t, i).detach()
                advantages[e, t, i] = (q[episode.actions[t, i]] - pi[t, i] @ q).item()
    for e, episode in enumerate(episodes):
        log_pi = episode.log_probs(learner.mac)
        k = learner.mixer(episode.batch["state"])[0]
        k_bar = learner.target_mixer(episode.batch["state"])[0]
        following = []
        for t in range(1, episode.steps):
            weights = [math.exp(q / 0.8) for (_, other), q in taken_bar.items() if other == t]
            following.append(math.exp(taken_bar[e, t] / 0.8) / mean(weights) * taken_bar[e, t])
        last = episode.steps
        q_bar = [episode.values(learner.target_q, last, i) for i in range(3)]
        expected = [log_pi[last, i].exp() @ q_bar[i] for i in range(3)]
        following.append(sum(k_bar[last, i] * expected[i] for i in range(3)).item())
        for t, y in enumerate(episode.targets(following)):
            taken = episode.actions[t]
            q_tot = sum(k[t, i] * episode.values(learner.q, t, i)[taken[i]] for i in range(3))
            q_terms.append((q_tot - y) ** 2)
            for i in range(3):
                same_step = [a for key, a in advantages.items() if key[1:] == (t, i)]
                weights = [math.exp(a / 0.5) for a in same_step]
                weight = math.exp(advantages[e, t, i] / 0.5) / mean(weights)
                pi_terms.append(-k[t, i].item() * weight * log_pi[t, i, taken[i]])
    return mean(q_terms) + mean(pi_terms)


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
@pytest.mark.parametrize("loss", [omar_loss, omiga_loss, icq_loss])
def test_the_loss_is_the_equations(tmp_path, loss, agent):
    algorithm = loss.__name__.removesuffix("_loss")
    learner, buffer = make_learner(
        tmp_path, algorithm, agent=agent, gamma=GAMMA, **SETTINGS[algorithm]
    )
    generator = th.Generator().manual_seed(0)
    with th.no_grad():  # targets that differ from the networks
        for value in learner.target_parameters:
            value.add_(0.1 * th.randn(value.shape, generator=generator))
    batch = buffer.sample(8)
    assert not batch["filled"].all()
    found, _ = learner.losses(batch, with_stats=False)
    expected = loss(learner, [Episode(batch, number) for number in range(8)])
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    parameters = [value for group in learner.optimiser.param_groups for value in group["params"]]
    gradients = (th.autograd.grad(total, parameters) for total in (found, expected))
    for one, other in zip(*gradients, strict=True):
        assert other.any()
        th.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)

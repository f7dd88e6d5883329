"""QMIX + CQL, VDN + CQL and IQL + CQL: decomposed values offline, with CQL on each agent's values.

One learner, and the setting `mixer` says which: qmix (qmix_cql.yaml), vdn (vdn_cql.yaml), or null
for independent learners (iql_cql.yaml).

    L = L_TD + cql_weight * E_D [ sum_i logsumexp_a Q^i(tau^i, a) - Q^i(tau^i, a^i) ]

The second term is CQL(H) (Kumar et al. 2020, arXiv:2006.04779, Eq. 4) of each agent's values,
summed over agents. L_TD is explained in value_decomposition_learner.py. QMIX's mixer can rescale
the agents' values, so that the penalty acts on Q_tot only indirectly. CFCQL's penalties act on it.

With VDN's sum, the penalty is CQL(H) of Q_tot over the available joint actions, MACQL's without
sampling: the logsumexp of a sum of independent terms is the sum of their logsumexps.

With independent learners it is the mean over agents, as the TD error: each agent has CQL's loss.

Reference: OffPyMARL's `q_learner.py` with `cql_type: individual`, its default. Differences:

* OffPyMARL's mask value for unavailable actions (-9999999) leaks into the TD(lambda) targets at the
  end of truncated episodes. Here it does not.
* L_TD has PyMARL2's factor 1/2, so that `cql_weight` means the same here and in CFCQL.
  OffPyMARL's 1.0 is 0.5 here.
"""

from typing import Any

from torch import Tensor

from inspo.learners.value_decomposition_learner import ConservativeConfig, ValueDecompositionLearner
from inspo.utils.batch import Batch
from inspo.utils.rl_utils import gather_last, masked_logsumexp, masked_mean


class QMIXCQLLearner(ValueDecompositionLearner):
    """Decomposed values, with conservative values of each agent."""

    Config = ConservativeConfig
    args: ConservativeConfig

    def regulariser(
        self,
        batch: Batch,
        q: Tensor,
        q_tot: Tensor,
        weights: Any,
        with_stats: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        penalties = individual_penalty(q, batch["actions"], batch["avail_actions"])
        if self.args.mixer is None:  # independent learners: the mean over agents
            penalties = penalties / self.info.n_agents
        penalty = masked_mean(penalties, batch["filled"])
        return self.args.cql_weight * penalty, {"cql_penalty": penalty}


def individual_penalty(q: Tensor, actions: Tensor, available: Tensor) -> Tensor:
    """sum_i logsumexp_a Q^i(tau^i, a) - Q^i(tau^i, a^i), [B, T].

    Args:
        q: Q^i(tau^i, .), [B, T, N, A].
        actions: the actions taken, int [B, T, N].
        available: the actions that logsumexp runs over, bool [B, T, N, A].
    """
    return (masked_logsumexp(q, available) - gather_last(q, actions)).sum(dim=-1)

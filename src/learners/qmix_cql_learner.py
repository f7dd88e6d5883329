"""QMIX + CQL: QMIX's values offline, each agent's own kept conservative (CQL: Kumar et al. 2020, arXiv:2006.04779).

    L = L_TD + cql_weight * E_D [ sum_i logsumexp_a Q^i(tau^i, a) - Q^i(tau^i, a^i) ]

the second term being CQL(H) (Kumar et al., Eq. 4) of every agent's values, summed over agents; L_TD is that of
`value_decomposition_learner.py`. The agents' values have no unit of their own, since the mixer can stretch them: what
the penalty does to Q_tot is indirect. CFCQL's penalties work on Q_tot itself.

Reference: OffPyMARL's `q_learner.py` with `cql_type: individual`, its default. Different here, on purpose:

* unavailable actions are left out of the logsumexp (there too; CFCQL's independent variant counts them);
* its mask value for them (-9999999) leaks into the TD(lambda) targets at the end of truncated episodes; here none does;
* L_TD has PyMARL2's 1/2, so that `cql_weight` means the same here and in CFCQL: OffPyMARL's 1.0 is our 0.5.
"""

from torch import Tensor

from inspo.learners.value_decomposition_learner import ConservativeConfig, ValueDecompositionLearner
from inspo.modules.mixers import Weights
from inspo.utils.batch import Batch
from inspo.utils.rl_utils import gather_last, masked_logsumexp, masked_mean


class QMIXCQLLearner(ValueDecompositionLearner):
    """Conservative local values under QMIX's mixer."""

    Config = ConservativeConfig
    args: ConservativeConfig

    def regulariser(
        self, batch: Batch, q: Tensor, q_tot: Tensor, weights: Weights, with_stats: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        penalties = individual_penalty(q, batch["actions"], batch["avail_actions"])
        penalty = masked_mean(penalties, batch["filled"])
        return self.args.cql_weight * penalty, {"cql_penalty": penalty}


def individual_penalty(q: Tensor, actions: Tensor, available: Tensor) -> Tensor:
    """sum_i logsumexp_a Q^i(tau^i, a) - Q^i(tau^i, a^i) over available actions, [B, T] from q [B, T, N, A]."""
    return (masked_logsumexp(q, available) - gather_last(q, actions)).sum(dim=-1)

"""QMIX: monotonic value function factorisation (Rashid et al., ICML 2018), learning while it plays.

The equations are those of `value_decomposition_learner.py`. Settings are PyMARL2's but for what suits quick simulators
on few cores: more games side by side, smaller batches, more gradient steps.
"""

from inspo.learners.value_decomposition_learner import (
    ValueDecompositionConfig,
    ValueDecompositionLearner,
)
from inspo.utils.config import OnlineConfig


class QMIXConfig(ValueDecompositionConfig, OnlineConfig):
    """QMIX's settings; `config/algs/qmix.yaml` says what each one does."""


class QMIXLearner(ValueDecompositionLearner):
    """Nothing but L_TD."""

    Config = QMIXConfig

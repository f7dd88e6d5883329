"""QMIX: monotonic value function factorisation (Rashid et al., ICML 2018), online.

See value_decomposition_learner.py for the equations. The settings are PyMARL2's, except for what
suits fast simulators on few cores: more games side by side, smaller batches, more gradient steps.
"""

from inspo.learners.value_decomposition_learner import (
    ValueDecompositionConfig,
    ValueDecompositionLearner,
)
from inspo.utils.config import OnlineConfig


class QMIXConfig(ValueDecompositionConfig, OnlineConfig):
    """QMIX's settings; `config/algs/qmix.yaml` explains each one."""


class QMIXLearner(ValueDecompositionLearner):
    """L_TD alone."""

    Config = QMIXConfig

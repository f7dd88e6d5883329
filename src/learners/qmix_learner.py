"""QMIX, VDN and IQL, online: one learner, and the setting `mixer` says which.

    qmix.yaml   mixer: qmix   monotonic value function factorisation (Rashid et al., ICML 2018)
    vdn.yaml    mixer: vdn    value decomposition networks (Sunehag et al., AAMAS 2018)
    iql.yaml    mixer: null   independent Q-learning (Tan, ICML 1993)

See value_decomposition_learner.py for the equations. The settings are PyMARL2's, except for what
suits fast simulators on few cores: more games side by side, smaller batches, more gradient steps.
"""

from inspo.learners.value_decomposition_learner import (
    ValueDecompositionConfig,
    ValueDecompositionLearner,
)
from inspo.utils.config import ReplayConfig


class QMIXConfig(ValueDecompositionConfig, ReplayConfig):
    """The settings of all three; `config/algs/qmix.yaml` explains each one."""


class QMIXLearner(ValueDecompositionLearner):
    """L_TD alone."""

    Config = QMIXConfig

"""Learners by name: the setting `learner`.

A learner of your own is named as `package.module:Class` and extends `BaseLearner`, see
docs/adding-an-algorithm.md.
"""

from inspo.learners.alberdice_learner import AlberDICELearner
from inspo.learners.base_learner import BaseLearner
from inspo.learners.bc_learner import BCLearner
from inspo.learners.cfcql_learner import CFCQLLearner
from inspo.learners.icq_learner import ICQLearner
from inspo.learners.inspo_learner import InSPOLearner
from inspo.learners.mappo_learner import MAPPOLearner
from inspo.learners.omar_learner import OMARLearner
from inspo.learners.omiga_learner import OMIGALearner
from inspo.learners.qmix_cql_learner import QMIXCQLLearner
from inspo.learners.qmix_learner import QMIXLearner

REGISTRY: dict[str, type[BaseLearner]] = {
    "alberdice_learner": AlberDICELearner,
    "bc_learner": BCLearner,
    "cfcql_learner": CFCQLLearner,
    "icq_learner": ICQLearner,
    "inspo_learner": InSPOLearner,
    "mappo_learner": MAPPOLearner,
    "qmix_learner": QMIXLearner,
    "omar_learner": OMARLearner,
    "omiga_learner": OMIGALearner,
    "qmix_cql_learner": QMIXCQLLearner,
}

__all__ = ["REGISTRY", "BaseLearner"]

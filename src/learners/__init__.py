"""Learners by the name that an algorithm's YAML gives them."""

from learners.alberdice_learner import AlberDICELearner
from learners.base_learner import BaseLearner
from learners.bc_learner import BCLearner
from learners.cfcql_learner import CFCQLLearner
from learners.icq_learner import ICQLearner
from learners.inspo_learner import InSPOLearner
from learners.omar_learner import OMARLearner
from learners.omiga_learner import OMIGALearner
from learners.qmix_cql_learner import QMIXCQLLearner
from learners.qmix_learner import QMIXLearner

REGISTRY: dict[str, type[BaseLearner]] = {
    "alberdice_learner": AlberDICELearner,
    "bc_learner": BCLearner,
    "cfcql_learner": CFCQLLearner,
    "icq_learner": ICQLearner,
    "inspo_learner": InSPOLearner,
    "qmix_learner": QMIXLearner,
    "omar_learner": OMARLearner,
    "omiga_learner": OMIGALearner,
    "qmix_cql_learner": QMIXCQLLearner,
}

__all__ = ["REGISTRY", "BaseLearner"]

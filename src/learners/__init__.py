"""Learners by the name that an algorithm's YAML gives them."""

from learners.base_learner import BaseLearner
from learners.bc_learner import BCLearner
from learners.cfcql_learner import CFCQLLearner
from learners.inspo_learner import InSPOLearner
from learners.qmix_cql_learner import QMIXCQLLearner
from learners.qmix_learner import QMIXLearner

REGISTRY: dict[str, type[BaseLearner]] = {
    "bc_learner": BCLearner,
    "cfcql_learner": CFCQLLearner,
    "inspo_learner": InSPOLearner,
    "qmix_learner": QMIXLearner,
    "qmix_cql_learner": QMIXCQLLearner,
}

__all__ = ["REGISTRY", "BaseLearner"]

"""Learners by the name that an algorithm's YAML gives them."""

from learners.base_learner import BaseLearner
from learners.bc_learner import BCLearner
from learners.inspo_learner import InSPOLearner

REGISTRY: dict[str, type[BaseLearner]] = {
    "bc_learner": BCLearner,
    "inspo_learner": InSPOLearner,
}

__all__ = ["REGISTRY", "BaseLearner"]

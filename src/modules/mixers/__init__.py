"""Mixers: from the agents' values to one of the team."""

from inspo.modules.mixers.linear import ConvexMixer, LinearMixer
from inspo.modules.mixers.qmix import QMixer, Weights, mix, mix_counterfactuals, mix_joint_actions

__all__ = [
    "ConvexMixer",
    "LinearMixer",
    "QMixer",
    "Weights",
    "mix",
    "mix_counterfactuals",
    "mix_joint_actions",
]

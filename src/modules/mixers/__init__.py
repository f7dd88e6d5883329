"""Mixers by name: the setting `mixer` of QMIX and the learners that build on it.

A mixer of your own is named as `package.module:Class` and extends `Mixer`. OMIGA and ICQ have
linear mixers of their own.
"""

from inspo.modules.mixers.base import Mixer
from inspo.modules.mixers.linear import ConvexMixer, LinearMixer
from inspo.modules.mixers.qmix import QMixer

REGISTRY: dict[str, type[Mixer]] = {"qmix": QMixer}

__all__ = ["REGISTRY", "ConvexMixer", "LinearMixer", "Mixer", "QMixer"]

"""Mixers by name: the setting `mixer` of QMIX and the learners that build on it.

qmix   QMIX's monotonic network
vdn    VDN's sum
null   none: independent learners

A mixer of your own is named as `package.module:Class` and extends `Mixer`. OMIGA and ICQ have
linear mixers of their own.
"""

from inspo.modules.mixers.base import Mixer
from inspo.modules.mixers.linear import ConvexMixer, LinearMixer
from inspo.modules.mixers.qmix import QMixer
from inspo.modules.mixers.vdn import NoMixer, VDNMixer
from inspo.utils.names import lookup

REGISTRY: dict[str, type[Mixer]] = {"qmix": QMixer, "vdn": VDNMixer}

__all__ = ["REGISTRY", "ConvexMixer", "LinearMixer", "Mixer", "QMixer", "VDNMixer", "mixer_class"]


def mixer_class(name: str | None) -> type[Mixer]:
    """The mixer that the setting `mixer` names.

    Raises:
        ConfigError: there is no such mixer, or the class is none.
    """
    return NoMixer if name is None else lookup(REGISTRY, name, "mixer", base=Mixer)

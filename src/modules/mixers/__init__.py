"""Mixers: from the agents' values to one of the team."""

from modules.mixers.qmix import QMixer

__all__ = ["QMixer"]

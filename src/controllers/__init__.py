"""Multi-agent controllers by the name that the `mac` key gives them."""

from inspo.controllers.basic_controller import ALL_AGENTS, BasicMAC

REGISTRY = {"basic_mac": BasicMAC}

__all__ = ["ALL_AGENTS", "REGISTRY", "BasicMAC"]

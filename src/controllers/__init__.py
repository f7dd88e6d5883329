"""Multi-agent controllers by the name that the `mac` key gives them."""

from controllers.basic_controller import EVERYBODY, BasicMAC

REGISTRY = {"basic_mac": BasicMAC}

__all__ = ["EVERYBODY", "REGISTRY", "BasicMAC"]

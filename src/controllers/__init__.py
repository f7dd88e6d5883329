"""Multi-agent controllers by the name that the `mac` key gives them."""

from controllers.basic_controller import BasicMAC

REGISTRY = {"basic_mac": BasicMAC}

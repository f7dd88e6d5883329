"""Multi-agent controllers by name: the setting `mac`.

basic_mac        one network for all agents or one each, as `share_parameters` says
non_shared_mac   one network each; the name in PyMARL's and EPyMARL's configs

A controller of your own is named as `package.module:Class` and extends `BasicMAC`.
"""

from inspo.controllers.basic_controller import ALL_AGENTS, BasicMAC, NonSharedMAC, PackedRows

REGISTRY: dict[str, type[BasicMAC]] = {"basic_mac": BasicMAC, "non_shared_mac": NonSharedMAC}

__all__ = ["ALL_AGENTS", "REGISTRY", "BasicMAC", "NonSharedMAC", "PackedRows"]

"""The network classes by ``NetworkConfig.encoder``."""

from __future__ import annotations

from sadr_cli.model.mobilenet import MobileNetSADRNet
from sadr_cli.model.network import NetworkConfig, SADRNet

NETWORKS: dict[str, type[SADRNet]] = {"residual": SADRNet, "mobilenet": MobileNetSADRNet}


def create_network(config: NetworkConfig | None = None) -> SADRNet:
    """The network that ``config`` describes, with random weights."""
    config = config or NetworkConfig()
    return NETWORKS[config.encoder](config)

"""What the controller manager and the scheduler are told when they start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from podnet.controlplane.client.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class ControllerManagerConfig:
    """Times are upstream's defaults (kube-controller-manager flags of the same names); the lab profile shortens them."""

    endpoint: Endpoint
    root_ca_file: Path
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    node_cidr_mask_size: int = 24
    node_monitor_period_s: float = 5.0
    node_monitor_grace_period_s: float = 50.0
    default_toleration_s: int = 300

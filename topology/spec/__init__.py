"""cluster.yaml: text in, ClusterSpec out, or a SpecError that lists everything wrong with it. Pure."""

from __future__ import annotations

from podnet.topology.spec.load import default_cluster_spec, load_cluster_spec
from podnet.topology.spec.types import (
    ClusterSpec,
    DNSSpec,
    HostRoute,
    HostSpec,
    LinkSpec,
    NodeSpec,
    OverlaySpec,
    Problem,
    ProxySpec,
    SpecError,
    StoreSpec,
    SwitchSpec,
    Taint,
    TimingSpec,
    UnderlaySpec,
)

__all__ = [
    "ClusterSpec",
    "DNSSpec",
    "HostRoute",
    "HostSpec",
    "LinkSpec",
    "NodeSpec",
    "OverlaySpec",
    "Problem",
    "ProxySpec",
    "SpecError",
    "StoreSpec",
    "SwitchSpec",
    "Taint",
    "TimingSpec",
    "UnderlaySpec",
    "default_cluster_spec",
    "load_cluster_spec",
]

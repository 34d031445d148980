"""What a kubelet is told when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podnet.controlplane.client.endpoint import Endpoint
from podnet.topology.paths import NodePaths


@dataclass(frozen=True, slots=True)
class KubeletConfig:
    """Names follow KubeletConfiguration. `server_cert_file`/`server_key_file` serve port `port` over TLS; callers must
    present a certificate signed by `client_ca_file`."""

    node_name: str
    node_ip: str
    endpoint: Endpoint
    paths: NodePaths
    client_ca_file: Path
    server_cert_file: Path
    server_key_file: Path
    port: int = 10250
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, Any], ...] = ()
    cluster_dns: str = "10.96.0.10"
    cluster_domain: str = "cluster.local"
    resolv_conf: Path = Path("/etc/resolv.conf")  # where dnsPolicy Default comes from
    max_pods: int = 110
    lease_duration_s: int = 40
    node_status_update_frequency_s: float = 10.0
    sync_frequency_s: float = 60.0
    limits_problem: str = ""  # why memory or CPU limits are not enforced here

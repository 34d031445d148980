"""What the API server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from podnet.controlplane.store.etcd_gateway import EtcdEndpoints


@dataclass(frozen=True, slots=True)
class APIServerConfig:
    """`bind`: addresses to listen on in the process's own network namespace; `inherited_fds`: listening sockets the
    supervisor opened on the host before it entered the room."""

    pki_dir: Path
    store_dir: Path
    store_driver: Literal["sqlite", "memory", "etcd"] = "sqlite"
    etcd: EtcdEndpoints | None = None
    bind: tuple[tuple[str, int], ...] = ()
    inherited_fds: tuple[int, ...] = ()
    advertise_address: str = "127.0.0.1"
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    cluster_domain: str = "cluster.local"
    node_port_range: tuple[int, int] = (30000, 32767)
    default_toleration_s: int = 300
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"

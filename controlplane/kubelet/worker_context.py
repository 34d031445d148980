"""What every pod worker shares: the node's parts, handed over once instead of as ten arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from podnet.controlplane.api.types import Object
from podnet.controlplane.client.types import Client
from podnet.controlplane.kubelet.config import KubeletConfig
from podnet.controlplane.kubelet.config_cache import ConfigCache
from podnet.controlplane.kubelet.container_config import NodeNames
from podnet.controlplane.kubelet.cri import RuntimeService
from podnet.controlplane.kubelet.resolv import ResolvConf
from podnet.controlplane.kubelet.runtime_cache import RuntimeCache
from podnet.controlplane.kubelet.status_writer import Spawn, StatusWriter


class Recorder(Protocol):
    """The part of client.events.EventRecorder that the kubelet uses."""

    def event(
        self,
        obj: Object,
        type_: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        *,
        field_path: str = "",
    ) -> None: ...


@dataclass(slots=True)
class WorkerContext:
    """`allocatable`, `node_labels` and `network_problem` are kept up to date by the node agent; `services` lists the cluster's
    Services once they have been read (None before)."""

    config: KubeletConfig
    client: Client
    runtime: RuntimeService
    recorder: Recorder
    cache: RuntimeCache
    statuses: StatusWriter
    configs: ConfigCache
    names: NodeNames
    spawn: Spawn
    services: Callable[[], list[Object] | None]
    node_resolv: ResolvConf
    node_hosts: str
    allocatable: Mapping[str, str] = field(default_factory=dict)
    node_labels: Mapping[str, str] = field(default_factory=dict)
    network_problem: str = ""
    clock: Callable[[], int] = time.time_ns

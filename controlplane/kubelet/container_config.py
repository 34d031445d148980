"""From a pod's container to what the runtime is asked for: SandboxConfig and ContainerConfig.

Pure: environment and mounts come in ready. Security fields of the container win over the pod's. Source: the CRI's
messages and kubelet's generateContainerConfig.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podnet.controlplane.api import quantity
from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.cri import ContainerConfig, Mount, PortMapping, SandboxConfig
from podnet.controlplane.kubelet.downward import ConfigError
from podnet.controlplane.kubelet.env import Environment
from podnet.controlplane.kubelet.expansion import expand_with
from podnet.controlplane.kubelet.hosts import sandbox_hostname
from podnet.controlplane.kubelet.pod_actions import HASH_LABEL

POD_NAME_LABEL = "io.kubernetes.pod.name"
POD_NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
POD_UID_LABEL = "io.kubernetes.pod.uid"
CONTAINER_NAME_LABEL = "io.kubernetes.container.name"


@dataclass(frozen=True, slots=True)
class NodeNames:
    """What a sandbox's configuration takes from its node."""

    node_hostname: str
    cluster_domain: str
    pod_logs_dir: Path


def pod_log_dir(logs: Path, namespace: str, name: str, uid: str) -> Path:
    """`<logs>/default_web-0_<uid>`."""
    return logs / f"{namespace}_{name}_{uid}"


def sandbox_config(pod: Object, attempt: int, node: NodeNames) -> SandboxConfig:
    """The pod's part: names, namespaces, host ports, sysctls."""
    spec, metadata = pod["spec"], pod["metadata"]
    name, namespace, uid = metadata["name"], metadata["namespace"], metadata["uid"]
    security = spec.get("securityContext") or {}
    return SandboxConfig(
        pod_name=name,
        pod_namespace=namespace,
        pod_uid=uid,
        attempt=attempt,
        hostname=sandbox_hostname(pod, node.cluster_domain, node.node_hostname),
        log_directory=str(pod_log_dir(node.pod_logs_dir, namespace, name, uid)),
        host_network=bool(spec.get("hostNetwork")),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        share_process_namespace=bool(spec.get("shareProcessNamespace")),
        port_mappings=port_mappings(pod),
        sysctls={entry["name"]: str(entry["value"]) for entry in security.get("sysctls") or ()},
        labels={
            **(metadata.get("labels") or {}),
            POD_NAME_LABEL: name,
            POD_NAMESPACE_LABEL: namespace,
            POD_UID_LABEL: uid,
        },
        annotations=dict(metadata.get("annotations") or {}),
    )


def port_mappings(pod: Object) -> tuple[PortMapping, ...]:
    """The host ports that CNI has to map; a host-network pod has its ports anyway."""
    if pod_spec.host_network(pod):
        return ()
    restartable = [c for c in pod_spec.init_containers(pod) if pod_spec.is_restartable_init(c)]
    return tuple(
        PortMapping(port["containerPort"], port["hostPort"], port.get("protocol") or "TCP", port.get("hostIP") or "")
        for container in (*restartable, *pod_spec.containers(pod))
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def _groups(security: Mapping[str, Any]) -> tuple[int, ...]:
    """The groups that every container of the pod is in besides its own."""
    given = [*(security.get("supplementalGroups") or ()), security.get("fsGroup")]
    return tuple(dict.fromkeys(int(group) for group in given if group is not None))


def container_config(
    pod: Object, container: Mapping[str, Any], attempt: int, environment: Environment, mounts: Sequence[Mount]
) -> ContainerConfig:
    """One container; ConfigError when the spec forbids what the image would be."""
    name = container["name"]
    variables = environment.lookup()
    security = {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
    user = security.get("runAsUser")
    if security.get("runAsNonRoot") and not user:
        what = "image will run as root" if user is None else "user is root"
        raise ConfigError(
            f'container has runAsNonRoot and {what} (pod: "{pod_spec.full_name(pod)}'
            f'({pod_spec.uid(pod)})", container: {name})'
        )
    limits = (container.get("resources") or {}).get("limits") or {}
    capabilities = security.get("capabilities") or {}
    return ContainerConfig(
        name=name,
        image=container.get("image", ""),
        attempt=attempt,
        command=tuple(expand_with(str(word), variables) for word in container.get("command") or ()),
        args=tuple(expand_with(str(word), variables) for word in container.get("args") or ()),
        working_dir=container.get("workingDir") or "",
        env=environment.variables,
        mounts=tuple(mounts),
        log_path=f"{name}/{attempt}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        run_as_user=user,
        run_as_group=security.get("runAsGroup"),
        supplemental_groups=_groups(pod["spec"].get("securityContext") or {}),
        read_only_rootfs=bool(security.get("readOnlyRootFilesystem")),
        privileged=bool(security.get("privileged")),
        cap_add=tuple(capabilities.get("add") or ()),
        cap_drop=tuple(capabilities.get("drop") or ()),
        no_new_privs=security.get("allowPrivilegeEscalation") is False,
        termination_message_path=container.get("terminationMessagePath") or "/dev/termination-log",
        cpu_limit_m=quantity.of(str(limits["cpu"])).to_milli() if "cpu" in limits else 0,
        memory_limit_bytes=quantity.of(str(limits["memory"])).to_int() if "memory" in limits else 0,
        labels={
            POD_NAME_LABEL: pod_spec.name_of(pod),
            POD_NAMESPACE_LABEL: pod_spec.namespace_of(pod),
            POD_UID_LABEL: pod_spec.uid(pod),
            CONTAINER_NAME_LABEL: name,
            HASH_LABEL: pod_spec.container_hash(dict(container)),
        },
    )

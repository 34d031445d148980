"""Into a running container from outside the runtime: how `podnet exec pod/x` gets there.

The supervisor, in the room's own namespaces, finds a container by name in the sandboxes' records (sandbox.json, kept
current by the shims), forks, calls `enter_container` in the child, forks again and executes a command.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podnet.controlplane.kubelet.runtime.credentials import become
from podnet.controlplane.kubelet.runtime.layout import read_json
from podnet.controlplane.kubelet.runtime.processes import is_alive
from podnet.topology.linux import syscalls


class ContainerNotFoundError(LookupError):
    """No such pod, or no such container in it; the message names what there is."""


@dataclass(frozen=True, slots=True)
class ContainerHandle:
    """A running container as the room sees it."""

    node: str
    namespace: str
    pod: str
    container: str
    pid: int
    pause_pid: int
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = "/"
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()
    netns: str = ""


def running_pods(nodes_dir: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(node, record) of every sandbox whose pause process lives. `nodes_dir` is <cluster state>/nodes."""
    for path in sorted(nodes_dir.glob("*/sandboxes/*/sandbox.json")):
        record = read_json(str(path))
        if isinstance(record, dict) and is_alive(record.get("pause_pid", 0), record.get("pause_start_time", 0)):
            yield path.parents[2].name, record


def find_container(nodes_dir: Path, namespace: str, pod: str, container: str = "") -> ContainerHandle:
    """The container of that name; without a name the pod's first that runs, as kubectl exec defaults. Of two pods of one
    name (a StatefulSet's, deleted by force and made again) it is the newer one.
    """
    newest_first = sorted(running_pods(nodes_dir), key=lambda found: -int(found[1].get("pause_start_time", 0)))
    for node, record in newest_first:
        if (record["pod_namespace"], record["pod_name"]) != (namespace, pod):
            continue
        alive = [entry for entry in record["containers"] if is_alive(entry["pid"], entry["start_time"])]
        for entry in alive:
            if container in ("", entry["name"]):
                return _handle(node, record, entry)
        names = ", ".join(entry["name"] for entry in alive) or "none"
        wanted = f"container {container} of " if container else ""
        raise ContainerNotFoundError(f"{wanted}pod {namespace}/{pod} is not running (running containers: {names})")
    raise ContainerNotFoundError(f"no running pod {namespace}/{pod}")


def _handle(node: str, record: dict[str, Any], entry: dict[str, Any]) -> ContainerHandle:
    return ContainerHandle(
        node=node,
        namespace=record["pod_namespace"],
        pod=record["pod_name"],
        container=entry["name"],
        pid=entry["pid"],
        pause_pid=record["pause_pid"],
        env=dict(entry["env"]),
        cwd=entry["cwd"],
        uid=entry["uid"],
        gid=entry["gid"],
        groups=tuple(entry.get("groups") or ()),
        capabilities=tuple(entry["capabilities"]),
        netns=record["netns"],
    )


def enter_container(handle: ContainerHandle) -> None:
    """Enter all of a container's namespaces, its root, directory, user and capabilities, for good.

    To be called in a forked, single-threaded child. A PID namespace takes effect for children only: the caller forks
    once more, and the child executes.
    """
    kinds = "net uts ipc pid mnt"
    descriptors = [os.open(f"/proc/{handle.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds.split()]
    try:
        for descriptor in descriptors:
            syscalls.setns(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    os.chdir("/")
    with contextlib.suppress(OSError):  # its directory may be gone by now
        os.chdir(handle.cwd)
    become(handle.uid, handle.gid, frozenset(handle.capabilities), handle.groups)

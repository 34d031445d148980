"""Nodes that crash, come back, join and leave while the cluster runs.

A crash is a power cut: every process of the node is killed at once, its namespaces, addresses, mounts and cable are gone
with the last of them, and what it kept under /run is lost; its disk (`nodes/<node>/` in the state directory) stays. What
follows is the cluster's own doing: the node controller notices the silent lease, taints, evicts; the kubelet that comes
back cleans up. Nothing here talks to the API server.

A change of the set of nodes is written to the cluster's `cluster.yaml` at once: the next `podnet up` without a file of
its own has the same nodes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from podnet.controlplane import pki
from podnet.topology.spec import ClusterSpec, SpecError, load_cluster_spec
from podnet.topology.spec.types import NodeSpec, Problem

if TYPE_CHECKING:
    from podnet.cluster import Cluster

KILL_TIMEOUT_S = 5.0
_POLL_S = 0.005


class NodeChangeError(ValueError):
    """Why a node cannot be changed as asked, in one line."""


def spec_with_node(spec: ClusterSpec, wanted: Mapping[str, Any]) -> tuple[ClusterSpec, NodeSpec]:
    """The spec with one more node, every rule of cluster.yaml checked. Pure; NodeChangeError says what does not fit."""
    name = str(wanted.get("name", ""))
    taken = {switch.name: "switch" for switch in spec.switches}
    taken |= {host.name: "host" for host in spec.hosts} | {node.name: "node" for node in spec.nodes}
    if name in taken:
        raise NodeChangeError(f"the name {name!r} is taken by a {taken[name]}")
    document = spec.to_dict()
    document["spec"]["nodes"].append(dict(wanted))
    try:
        changed = load_cluster_spec(_yaml(document), "")
    except SpecError as error:
        raise NodeChangeError("; ".join(_problem_of_node(problem) for problem in error.problems)) from error
    added = changed.node(name)
    assert added is not None, "it has just been put there"
    return changed, added


def _problem_of_node(problem: Problem) -> str:
    """What is wrong, with the field below the node where there is one: `taints[0].effect: must be …`."""
    found = re.match(r"spec\.nodes\[\d+\]\.(?!name$)(.+)", problem.path)
    return f"{found[1]}: {problem.message}" if found else problem.message


def spec_without_node(spec: ClusterSpec, name: str) -> ClusterSpec:
    """The spec without a node and its cable."""
    return replace(
        spec,
        nodes=tuple(node for node in spec.nodes if node.name != name),
        links=tuple(link for link in spec.links if name not in (link.a, link.b)),
    )


def processes_of(pid: int, table: Mapping[int, tuple[int, int, int]]) -> set[int]:
    """All processes of the node whose shell is `pid`: those in its mount or network namespace, and their descendants
    (containers have both of their own). `table`: pid → (parent, mount namespace, network namespace).
    """
    _, mnt, net = table.get(pid, (0, 0, 0))
    found = {
        other for other, (_, its_mnt, its_net) in table.items() if (mnt and its_mnt == mnt) or (net and its_net == net)
    }
    children: dict[int, list[int]] = {}
    for other, (parent, _, _) in table.items():
        children.setdefault(parent, []).append(other)
    waiting = list(found)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found - {1}


def read_processes() -> dict[int, tuple[int, int, int]]:
    """The process table of the room, without zombies."""
    table: dict[int, tuple[int, int, int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            if fields[0] not in (b"Z", b"X"):
                spaces = (os.stat(f"/proc/{name}/ns/{kind}").st_ino for kind in ("mnt", "net"))
                table[int(name)] = (int(fields[1]), *spaces)  # type: ignore[assignment]
        except (OSError, IndexError):
            continue  # it has just ended
    return table


class Nodes:
    """The verbs, for one cluster. Not thread-safe: the supervisor's loop calls them one after the other."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def state(self, name: str) -> str:
        """`running` or `crashed`."""
        return "running" if name in self._cluster.underlay.nodes else "crashed"

    def crash(self, name: str) -> int:
        """Cut the power; how many processes died."""
        node = self._worker(name, "crash")
        if self.state(name) == "crashed":
            raise NodeChangeError(f"{name} is down already")
        return self._power_off(node)

    def restart(self, name: str) -> int:
        """Bring a node back, after cutting its power where it still runs; how many processes died."""
        node = self._worker(name, "restart")
        killed = self._power_off(node) if self.state(name) == "running" else 0
        self._cluster.underlay.power_on(name)
        self._cluster.make_node_directories(node)
        self._cluster.supervisor.resume(name)
        return killed

    def add(self, wanted: Mapping[str, Any]) -> NodeSpec:
        """One more worker."""
        cluster = self._cluster
        spec, node = spec_with_node(cluster.spec, wanted)
        link = next(link for link in spec.links if node.name in (link.a, link.b))
        pki.ensure_kubelet_certs(cluster.paths.pki_dir, node.name, str(node.ip))
        cluster.underlay.add_node(node, link)
        cluster.make_node_directories(node)
        cluster.spec = spec
        cluster.supervisor.add(cluster.node_agent_spec(node))
        cluster.keep_spec()
        return node

    def remove(self, name: str) -> int:
        """Take a worker away for good, with its disk and its certificate; how many processes died."""
        cluster = self._cluster
        node = self._worker(name, "remove")
        if node.role == "control-plane":
            raise NodeChangeError(f"{name} carries a member of etcd: it may crash and come back, but not leave")
        killed = self._power_off(node)
        cluster.supervisor.forget(name)
        cluster.underlay.remove_node(name)
        cluster.spec = spec_without_node(cluster.spec, name)
        cluster.keep_spec()
        shutil.rmtree(cluster.paths.node(name).state, ignore_errors=True)
        for suffix in ("crt", "key"):
            (cluster.paths.pki_dir / f"kubelet-{name}.{suffix}").unlink(missing_ok=True)
        return killed

    def _worker(self, name: str, verb: str) -> NodeSpec:
        cluster = self._cluster
        node = cluster.spec.node(name)
        if node is None:
            names = ", ".join(node.name for node in cluster.spec.nodes)
            raise NodeChangeError(f"there is no node {name!r}: nodes are {names}")
        if node == cluster.control_plane_node:
            raise NodeChangeError(
                f"cannot {verb} {name}: the API server, the scheduler and the controllers live there, and nowhere else; "
                f"to kill one of them: podnet exec -c {cluster.spec.name} node/{name} -- pkill kube-scheduler"
            )
        return node

    def _power_off(self, node: NodeSpec) -> int:
        cluster = self._cluster
        if self.state(node.name) == "crashed":
            return 0
        cluster.supervisor.hold(node.name)
        killed = self._kill_all(cluster.node_pid(node.name))
        cluster.underlay.power_off(node.name)
        shutil.rmtree(cluster.paths.node(node.name).run, ignore_errors=True)
        return killed

    def _kill_all(self, pid: int) -> int:
        """SIGKILL everything, until nothing is left: what was just being forked is found in the next round."""
        killed: set[int] = set()
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while True:
            # The shell is the anchor by which the others are known: it goes last.
            found = processes_of(pid, read_processes())
            others = found - {pid}
            _kill(others or found)
            killed |= found
            self._cluster.supervisor.reap()
            if not found:
                return len(killed)
            if time.monotonic() > deadline:
                raise NodeChangeError(f"processes do not end: {', '.join(map(str, sorted(found)))}")
            threading.Event().wait(_POLL_S)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _yaml(document: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(document), sort_keys=False)

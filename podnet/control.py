"""What the command line may ask of a running cluster: the verbs of the control socket.

Each handler turns a request into an answer at once, or into work for a forked child. Nothing here waits.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from podnet.capture import CapturePoint, run_capture
from podnet.nodes import NodeChangeError, Nodes
from podnet.supervisor import Answer, Work
from podnet.targets import Point, Resolver, parse_point, parse_target
from podnet.topology.linux.conntrack import TCP, UDP, flows
from podnet.topology.spec.types import PROXY_MODES

if TYPE_CHECKING:
    from podnet.cluster import Cluster

PROTOCOLS = {TCP: "tcp", UDP: "udp"}
Handler = Callable[[dict[str, Any]], "Answer | Work"]


class ControlVerbs:
    """The handlers of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.nodes = Nodes(cluster)
        self.resolver = Resolver(cluster.paths.state / "nodes", cluster.processes, self._way_back)

    def install(self, handlers: dict[str, Handler]) -> None:
        """Register every verb."""
        handlers.update(
            {
                "status": self.status,
                "exec": self.exec,
                "capture": self.capture,
                "link": self.link,
                "links": self.links,
                "points": self.points,
                "flows": self.flows,
                "restart-component": self.restart_component,
                "proxy-mode": self.proxy_mode,
                "conntrack": self.conntrack,
                "node": self.node,
            }
        )

    def _way_back(self, node: str) -> str:
        """The command that switches a node on again; nothing for one that runs, or that nobody knows."""
        spec = self.cluster.spec
        off = spec.node(node) is not None and self.nodes.state(node) == "crashed"
        return f"podnet node restart -c {spec.name} {node}" if off else ""

    def status(self, _request: dict[str, Any]) -> Answer:
        """Components with their fortunes, nodes and hosts with addresses and pids."""
        now = time.monotonic()
        cluster = self.cluster
        components = [
            {
                "name": key,
                "state": component.state,
                "pid": component.pid,
                "restarts": component.restarts,
                "uptimeSeconds": round(now - component.started_at, 1) if component.pid else 0,
                "lastExit": component.last_exit,
                "log": str(component.spec.log),
            }
            for key, component in cluster.supervisor.components.items()
            if not component.spec.once
        ]
        return {
            "cluster": cluster.spec.name,
            "apiPort": cluster.config.api_port,
            "components": components,
            "nodes": [
                {
                    "name": node.name,
                    "role": node.role,
                    "ip": str(node.ip),
                    "pid": cluster.node_pid(node.name),
                    "state": self.nodes.state(node.name),
                    "switch": node.switch,
                }
                for node in cluster.spec.nodes
            ],
            "hosts": [
                {
                    "name": host.name,
                    "role": host.role,
                    "ip": str(host.ip),
                    "pid": cluster.underlay.hosts[host.name].pid,
                }
                for host in cluster.spec.hosts
            ],
        }

    def exec(self, request: dict[str, Any]) -> Work:
        """Run a program inside a target: `{target, namespace, container, argv, env, tty}`. With `tty` the first
        descriptor is a socket, which gets the master of a terminal that is opened in the target."""
        target = parse_target(
            str(request["target"]), str(request.get("namespace") or "default"), str(request.get("container") or "")
        )
        argv = [str(word) for word in request["argv"]]
        if not argv:
            raise ValueError("there is no command to run")
        env = {str(k): str(v) for k, v in (request.get("env") or {}).items()}
        work = self.resolver.exec_work(target, argv, env, tty=bool(request.get("tty")))
        return Work(f"podnet-exec {target}", work)

    def capture(self, request: dict[str, Any]) -> Work:
        """Capture at points until the client hangs up, a count or a time is reached; pcapng goes to descriptor 1."""
        namespace = str(request.get("namespace") or "default")
        points = [self._capture_point(parse_point(str(text), namespace), str(text)) for text in request["points"]]
        count, seconds = int(request.get("count") or 0), float(request.get("seconds") or 0.0)
        capture_filter = str(request.get("filter") or "")
        snaplen = int(request.get("snaplen") or 0)
        return Work(
            "podnet-capture",
            lambda: run_capture(points, capture_filter=capture_filter, count=count, seconds=seconds, snaplen=snaplen),
        )

    def _capture_point(self, point: Point, text: str) -> CapturePoint:
        place = self.resolver.place(point.target)
        interface = point.interface
        if not interface:
            interface = point.target.name if point.target.kind == "switch" else "eth0"
        return CapturePoint(name=text, netns=place.netns, interface=interface)

    def link(self, request: dict[str, Any]) -> Answer:
        """Change a link: `{a, b}` and any of `{up, rateBitS, delayMs, lossPercent}`; its new state."""
        number = {key: float(request[key]) for key in ("delayMs", "lossPercent") if request.get(key) is not None}
        state = self.cluster.underlay.set_link(
            str(request["a"]),
            str(request["b"]),
            up=request.get("up"),
            rate_bit_s=request.get("rateBitS"),
            delay_ms=number.get("delayMs"),
            loss_percent=number.get("lossPercent"),
        )
        return {"link": asdict(state)}

    def links(self, _request: dict[str, Any]) -> Answer:
        """Every cable of the underlay."""
        return {"links": [asdict(state) for state in self.cluster.underlay.link_states()]}

    def points(self, _request: dict[str, Any]) -> Answer:
        """Every interface of the underlay: what can be captured besides pods."""
        return {"points": [asdict(interface) for interface in self.cluster.underlay.interfaces()]}

    def flows(self, request: dict[str, Any]) -> Answer:
        """The flows of one OpenFlow switch, or of all."""
        return {"flows": [asdict(flow) for flow in self.cluster.underlay.flows(str(request.get("switch") or ""))]}

    def conntrack(self, request: dict[str, Any]) -> Answer:
        """The connections that a node or host tracks: `{target}`."""
        text = str(request["target"])
        known = self.cluster.processes()
        # A bare name is one of the underlay's, as in `node crash NAME`.
        kind = "host" if text in known["host"] else "node"
        target = parse_target(text if "/" in text else f"{kind}/{text}", "default", "")
        pid = known.get(target.kind, {}).get(target.name, 0)
        if not pid and target.kind == "node":
            self.resolver.place(target)  # says which there are, or how it comes back
        if not pid:
            raise LookupError(f"{text!r} is no node or host (a pod's node tracks for it)")
        found = flows(f"/proc/{pid}/ns/net")
        rows = [{**asdict(flow), "protocol": PROTOCOLS.get(flow.protocol, str(flow.protocol))} for flow in found]
        return {"flows": [{key: _plain(value) for key, value in row.items()} for row in rows]}

    def proxy_mode(self, request: dict[str, Any]) -> Answer:
        """The mode of kube-proxy; with `mode`, switch every node to it (their agents start anew, pods do not notice)."""
        mode = str(request.get("mode") or "")
        if mode and mode not in PROXY_MODES:
            raise ValueError(f"unknown proxy mode {mode!r}: use one of {', '.join(PROXY_MODES)}")
        if mode and mode != self.cluster.spec.proxy.mode:
            self.cluster.set_proxy_mode(mode)
        return {"mode": self.cluster.spec.proxy.mode, "nodes": [node.name for node in self.cluster.spec.nodes]}

    def node(self, request: dict[str, Any]) -> Answer:
        """Crash, restart, add or remove a node: `{action, name}`, for `add` also `{ip, switch, labels, taints}`."""
        action, name = str(request.get("action")), str(request.get("name") or "")
        if not self.cluster.booted:
            raise NodeChangeError("the cluster is still booting")
        if action == "add":
            given = {key: request[key] for key in ("ip", "switch", "labels", "taints") if request.get(key)}
            added = self.nodes.add({"name": name, "role": "worker", **given})
            return {"node": name, "state": "running", "ip": str(added.ip), "switch": added.switch}
        verbs = {"crash": self.nodes.crash, "restart": self.nodes.restart, "rm": self.nodes.remove}
        if action not in verbs:
            raise ValueError(f"unknown action {action!r}: use crash, restart, add or rm")
        killed = verbs[action](name)
        state = "removed" if action == "rm" else self.nodes.state(name)
        return {"node": name, "state": state, "killed": killed}

    def restart_component(self, request: dict[str, Any]) -> Answer:
        """Signal one component, `{name, signal}` (SIGTERM unless told); the supervisor starts it again when it ends."""
        name = str(request["name"])
        found = self.cluster.supervisor.components.get(name)
        if found is None or not found.pid:
            raise LookupError(f"no running component {name!r}: {', '.join(self.cluster.supervisor.components)}")
        os.kill(found.pid, signal.Signals(int(request.get("signal") or signal.SIGTERM)))
        return {"pid": found.pid}


def _plain(value: object) -> object:
    return value if isinstance(value, int | str) else str(value)

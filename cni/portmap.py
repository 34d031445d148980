"""The six verbs of `podnet-portmap`, chained after `podnet-bridge`: hostPorts of a pod become rules of its node.

    ADD    record -> rules -> the result it was given      a pod without hostPorts: nothing is looked at, nothing touched
    DEL    rules -> record                                 repeated, or with the rules gone already: the same end
    CHECK  every recorded port leads to this pod
    GC     every attachment on record that is not listed

Decisions are made in `hostports`; this file is where they meet the kernel and the store.
Source: CNI SPEC 1.1.0 section 2, CONVENTIONS (portMappings).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping
from typing import Any

from podnet.cni.hostports import HostPort, is_open, parse_port_mappings, render_add, render_delete, render_get
from podnet.cni.netconf import parse_detach, valid_attachments
from podnet.cni.plan import Attachment
from podnet.cni.portstore import HostPortStore
from podnet.cni.types import (
    CHECK_FAILED,
    INVALID_NETWORK_CONFIG,
    KERNEL_REFUSED,
    CNIError,
    Result,
    expect,
    parse_result,
    refuse,
    render_result,
)
from podnet.topology.kernel import Kernel, KernelError, Netns, SetSysctl

PORTMAP_TYPE = "podnet-portmap"
_FIELDS = frozenset(
    ("cniVersion", "cniVersions", "name", "type", "capabilities", "runtimeConfig", "prevResult", "args")
)

ForgetUDP = Callable[[Netns, Collection[int]], None]
"""Forget tracked UDP flows to these ports of a node: a client that was answered by nobody must meet the new rule."""


class Portmap:
    """Answers for one node; the caller orders the calls as it does for the main plugin."""

    def __init__(self, kernel: Kernel, store: HostPortStore, forget_udp: ForgetUDP, netns: Netns = "") -> None:
        self._kernel = kernel
        self._store = store
        self._forget_udp = forget_udp
        self._netns = netns

    async def verb(self, verb: str, body: Mapping[str, Any], attachment: Attachment | None) -> dict[str, Any] | None:
        """Answer ADD, DEL, CHECK, GC or STATUS."""
        conf = parse_detach(body)
        if attachment is None:
            if verb == "GC":
                self._gc(conf.name, body)
            return None
        if verb == "DEL":
            self._close(conf.name, attachment.container_id, attachment.ifname)
            return None
        for field in body:
            if field not in _FIELDS and not field.startswith("cni.dev/"):
                refuse(field, "unknown field")
        if "prevResult" not in body:
            msg = f"invalid network config: prevResult: {PORTMAP_TYPE} must be called as chained plugin"
            raise CNIError(INVALID_NETWORK_CONFIG, msg)
        previous = parse_result(body["prevResult"])
        ports = _wanted(body, previous)
        if verb == "CHECK":
            self._check(ports)
            return None
        if ports:
            self._open(conf.name, attachment, ports, previous)
        return render_result(previous, conf.cni_version)

    def repair(self) -> int:
        """Write the rules of the ports on record again where somebody deleted them; how many ports there were to mend.

        Asking costs one message to the kernel, and nothing on a node without hostPorts.
        """
        ports = self._store.all_ports()
        if not ports or self._all_open(ports):
            return 0
        self._delete_rules(ports)
        self._kernel.nft(self._netns, render_add(ports, "written again"))
        return len(ports)

    def _all_open(self, ports: tuple[HostPort, ...]) -> bool:
        try:
            answer = self._kernel.nft(self._netns, "".join(map(render_get, ports)))
        except KernelError as error:
            if not error.is_not_found:
                raise
            return False
        return all(is_open(port, answer) for port in ports)

    def _open(self, network: str, attachment: Attachment, ports: tuple[HostPort, ...], previous: Result) -> None:
        key = (network, attachment.container_id, attachment.ifname)
        self._store.record(*key, ports)
        try:
            self._allow_localhost(previous)
            script = render_add(ports, f"{attachment.pod or attachment.container_id} {attachment.ifname}")
            try:
                self._kernel.nft(self._netns, script)
            except KernelError as error:
                if not error.is_exists:
                    raise
                self._delete_rules(ports)  # somebody else's rule for the same port: the last one to come has it
                self._kernel.nft(self._netns, script)
        except BaseException:
            self._close(*key)
            raise
        udp = {port.host_port for port in ports if port.protocol == "udp"}
        if udp:
            self._forget_udp(self._netns, udp)

    def _allow_localhost(self, previous: Result) -> None:
        """Packets from 127.0.0.1 may leave through the bridge; the table's guard keeps others out."""
        bridge = next((interface.name for interface in previous.interfaces if not interface.sandbox), "")
        if bridge:
            key = f"net.ipv4.conf.{bridge}.route_localnet"
            if self._kernel.sysctl(self._netns, key) != "1":
                self._kernel.apply(self._netns, [SetSysctl(key, "1")])

    def _close(self, network: str, container_id: str, ifname: str) -> None:
        ports = self._store.ports(network, container_id, ifname)
        if ports:
            self._delete_rules(ports)
            self._store.forget(network, container_id, ifname)

    def _delete_rules(self, ports: Collection[HostPort]) -> None:
        for script in render_delete(ports):
            try:
                self._kernel.nft(self._netns, script)
            except KernelError as error:
                if not error.is_not_found:
                    raise

    def _check(self, ports: tuple[HostPort, ...]) -> None:
        problems = []
        for port in ports:
            try:
                answer = self._kernel.nft(self._netns, render_get(port))
            except KernelError as error:
                if not error.is_not_found:
                    raise
                answer = ""
            if not is_open(port, answer):
                target = f"{port.pod_ip}:{port.pod_port}"
                problems.append(f"hostPort {port.host_port}/{port.protocol} does not lead to {target}")
        if problems:
            raise CNIError(CHECK_FAILED, f"check failed: {problems[0]}", "; ".join(problems))

    def _gc(self, network: str, body: Mapping[str, Any]) -> None:
        valid = valid_attachments(body)
        if valid is None:
            raise CNIError(
                INVALID_NETWORK_CONFIG, "invalid network config: cni.dev/valid-attachments: is required for GC"
            )
        failures = []
        for container_id, ifname in sorted(self._store.attachments(network) - valid):
            try:
                self._close(network, container_id, ifname)
            except (CNIError, KernelError) as error:
                failures.append(f"{container_id} {ifname}: {error}")
        if failures:
            raise CNIError(KERNEL_REFUSED, f"GC left {len(failures)} hostPorts behind", "; ".join(failures))


def _wanted(body: Mapping[str, Any], previous: Result) -> tuple[HostPort, ...]:
    runtime = expect(body.get("runtimeConfig", {}), dict, "runtimeConfig")
    mappings = runtime.get("portMappings") or []
    if not mappings:
        return ()
    address = next((ip.address.ip for ip in previous.ips if isinstance(ip.address.ip, ipaddress.IPv4Address)), None)
    return () if address is None else parse_port_mappings(mappings, address)

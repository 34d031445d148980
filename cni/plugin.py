"""The six verbs of our plugin: ADD, DEL, CHECK, GC, STATUS, VERSION.

Decisions are made in `request`, `netconf`, `ipam` and `plan`; this file is where they meet the kernel and the store.
The order of effects makes every crash harmless: an address is reserved before its link exists and released after the
link is gone, so whatever is left behind is on record, and DEL or GC finds it.

    ADD   parse -> reserve -> bridge -> veth, pod -> result          any failure: link and lease go again
    DEL   link by its computed name -> release                       repeated, or with no namespace: the same end
    GC    every lease and every link of ours that is not listed

Source: CNI SPEC 1.1.0 section 2.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podnet.cni import plan, request
from podnet.cni.ipam import Allocation, free_addresses
from podnet.cni.netconf import NetConf, node_range_sets, parse_detach, parse_netconf, requested_version
from podnet.cni.plan import Attachment
from podnet.cni.portmap import PORTMAP_TYPE, ForgetUDP, Portmap
from podnet.cni.portstore import HostPortStore
from podnet.cni.request import Request, Response
from podnet.cni.store import LeaseStore
from podnet.cni.subnet import Subnet, read_subnet_env
from podnet.cni.types import (
    ALREADY_EXISTS,
    CHECK_FAILED,
    INCOMPATIBLE_VERSION,
    INTERNAL,
    INVALID_NETNS,
    INVALID_NETWORK_CONFIG,
    KERNEL_REFUSED,
    PLUGIN_NOT_AVAILABLE,
    CNIError,
    IPConfig,
    Result,
    render_result,
)
from podnet.topology.kernel import AddVeth, DeleteLink, Kernel, KernelError, Netns, SetSysctl
from podnet.topology.linux.conntrack import UDP, forget_flows

RemoveLinks = Callable[[Sequence[str]], Awaitable[None]]

_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
_BRIDGE_CHECK_INTERVAL_S = 5.0


def _check_since(verb: str, version: str) -> None:
    """CNIError 1 when the configuration's version has no such verb."""
    if version < _SINCE.get(verb, ""):
        msg = f"config version {version!r} does not allow {verb}"
        raise CNIError(INCOMPATIBLE_VERSION, msg, f"{verb} came with version {_SINCE[verb]}")


def forget_udp_to(netns: Netns, ports: Collection[int]) -> None:
    """Forget tracked UDP flows to these ports."""
    forget_flows(netns, lambda flow: flow.protocol == UDP and flow.destination_port in ports)


def netns_identity(netns: Netns) -> tuple[int, int]:
    """What makes two paths the same namespace. FileNotFoundError or NotADirectoryError where there is none."""
    status = os.stat(netns or "/proc/thread-self/ns/net")
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class Node:
    """What the plugin has to work with on its node. `netns` "" is the caller's own namespace; `clock` only limits how
    often the bridge is looked at again."""

    kernel: Kernel
    store: LeaseStore
    subnet_env: Path
    remove_links: RemoveLinks
    clock: Callable[[], float]
    netns: Netns = ""
    identity: Callable[[Netns], tuple[int, int]] = netns_identity
    forget_udp: ForgetUDP = forget_udp_to


@dataclass(frozen=True, slots=True)
class _Seen:
    """A bridge that was right at this time."""

    at_s: float
    mac: str


class Plugin:
    """Answers requests for one node. Not for use by several threads; requests for one container come one at a time,
    and GC alone (the daemon sees to both)."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._bridges: dict[tuple[object, ...], _Seen] = {}
        self._ports = HostPortStore(node.store.directory)
        self._portmap = Portmap(node.kernel, self._ports, node.forget_udp, node.netns)
        self._ipv6 = self._has_sysctl("net.ipv6.conf.all.disable_ipv6")

    def close(self) -> None:
        """Close what was opened on the way."""
        self._ports.close()

    def repair_host_ports(self) -> int:
        """See Portmap.repair."""
        return self._portmap.repair()

    def reclaim_after_reboot(self) -> int:
        """Take back every lease when no link of ours exists: the node's namespace is a new one, so no pod of before can
        be attached. How many addresses that were. Where some links live, telling the dead apart is GC's job."""
        links = self._node.kernel.observe(self._node.netns).links
        if any(plan.parse_alias(link.alias) for link in links):
            return 0
        self._ports.clear()
        return self._node.store.clear()

    async def handle(self, call: Request) -> Response:
        """Answer one call. Every failure is an answer too."""
        if not call.env.get("CNI_COMMAND"):
            return request.about()
        try:
            return request.answer(await self._verb(call))
        except CNIError as error:
            return request.error_answer(error, call.stdin)
        except KernelError as error:
            return request.error_answer(CNIError(KERNEL_REFUSED, "the kernel refused", str(error)), call.stdin)
        except Exception as error:
            # The caller is another program: it gets an error object whatever went wrong in here.
            text = f"{type(error).__name__}: {error}"
            return request.error_answer(CNIError(INTERNAL, "internal error", text), call.stdin)

    async def _verb(self, call: Request) -> dict[str, Any] | None:
        verb = request.required_env(call.env)
        if verb == "VERSION":
            return request.version_answer(call.stdin)
        attachment = request.parse_attachment(call.env) if verb in ("ADD", "DEL", "CHECK") else None
        body = request.parse_stdin(call.stdin)
        if body.get("type") == PORTMAP_TYPE:
            _check_since(verb, requested_version(body))
            return await self._portmap.verb(verb, body, attachment)
        conf = parse_detach(body) if verb == "DEL" else parse_netconf(body, call.env.get("CNI_ARGS", ""))
        _check_since(verb, conf.cni_version)
        if attachment is None:
            await (self.gc(conf) if verb == "GC" else self.status(conf))
            return None
        if verb == "ADD":
            return await self.add(conf, attachment)
        await (self.delete(conf, attachment) if verb == "DEL" else self.check(conf, attachment))
        return None

    # --- ADD ----------------------------------------------------------------------------------------------------------

    async def add(self, conf: NetConf, attachment: Attachment) -> dict[str, Any]:
        """Attach; the result in the configuration's version. Nothing is left when it fails."""
        self._check_netns(attachment.netns)
        conf, mtu = self._with_subnet(conf)
        key = (conf.name, attachment.container_id, attachment.ifname)
        allocations = self._node.store.reserve(*key, conf.range_sets, conf.requested_ips)
        try:
            bridge_mac = self._ensure_bridge(conf, allocations, mtu)
            wiring = plan.plan_pod(conf, attachment, allocations, mtu, bridge_mac=bridge_mac, ipv6=self._ipv6)
            self._wire(wiring, conf, attachment, mtu, allocations)
        except BaseException:
            self._node.store.release(*key)
            raise
        result = wiring.result if conf.prev_result is None else wiring.result.after(conf.prev_result)
        return render_result(result, conf.cni_version)

    def _wire(
        self, wiring: plan.Wiring, conf: NetConf, attachment: Attachment, mtu: int, allocations: Sequence[Allocation]
    ) -> None:
        kernel, node = self._node.kernel, self._node.netns
        try:
            self._wire_node(wiring, conf, attachment)
        except KernelError as error:
            if not error.is_not_found:
                raise
            # The bridge we remembered is gone: somebody deleted it. Build it again, once.
            self._bridges.clear()
            self._ensure_bridge(conf, allocations, mtu)
            self._wire_node(wiring, conf, attachment)
        try:
            kernel.apply(attachment.netns, wiring.pod)
        except BaseException:
            self._unwire(node, conf, attachment)
            raise

    def _wire_node(self, wiring: plan.Wiring, conf: NetConf, attachment: Attachment) -> None:
        try:
            self._node.kernel.apply(self._node.netns, wiring.node)
        except KernelError as error:
            if error.is_exists and isinstance(error.op, AddVeth):
                raise self._veth_error(conf, attachment) from error
            # Part of it may stand: a link without what belongs to it.
            self._unwire(self._node.netns, conf, attachment)
            raise

    def _unwire(self, node: Netns, conf: NetConf, attachment: Attachment) -> None:
        name = plan.host_veth(conf.name, attachment.container_id, attachment.ifname)
        with contextlib.suppress(KernelError):
            self._node.kernel.apply(node, [DeleteLink(name)])

    def _veth_error(self, conf: NetConf, attachment: Attachment) -> CNIError:
        """Which of the two names was taken."""
        with contextlib.suppress(KernelError):
            if self._node.kernel.observe(attachment.netns).link(attachment.ifname) is None:
                name = plan.host_veth(conf.name, attachment.container_id, attachment.ifname)
                return CNIError(ALREADY_EXISTS, f"interface {name!r} (the host's end) already exists")
        msg = f"container veth name {attachment.ifname!r} already exists"
        return CNIError(ALREADY_EXISTS, msg, f"in {attachment.netns}")

    def _ensure_bridge(self, conf: NetConf, allocations: Sequence[Allocation], mtu: int) -> str:
        """Make the bridge right; its MAC. Looking costs a dump of the node's links, so what was right a moment ago is
        trusted; a bridge that vanished meanwhile shows at once, since the veth cannot join it."""
        gateways = plan.gateway_addresses(conf, allocations)
        key, now = (conf.bridge, gateways, mtu, conf.force_address), self._node.clock()
        seen = self._bridges.get(key)
        if seen is not None and now - seen.at_s < _BRIDGE_CHECK_INTERVAL_S:
            return seen.mac
        kernel, netns = self._node.kernel, self._node.netns
        self._bridges.clear()
        state = kernel.observe(netns)
        ops = plan.plan_bridge(state, conf, gateways, mtu, ipv6=self._ipv6)
        if ops:
            kernel.apply(netns, ops)
            state = kernel.observe(netns)
        if conf.is_gateway:
            for op in plan.plan_node_sysctls([gateway.version for gateway in gateways]):
                self._set_sysctl(op)
        link = state.link(conf.bridge)
        self._bridges[key] = _Seen(now, link.mac if link else "")
        return self._bridges[key].mac

    def _set_sysctl(self, op: SetSysctl) -> None:
        # Read first: where the value is right already, a read-only /proc/sys does no harm.
        if self._sysctl(op.key) in (op.value, None):
            return
        self._node.kernel.apply(self._node.netns, [op])

    def _sysctl(self, key: str) -> str | None:
        try:
            return self._node.kernel.sysctl(self._node.netns, key)
        except KernelError as error:
            if error.is_not_found:
                return None
            raise

    def _has_sysctl(self, key: str) -> bool:
        return self._sysctl(key) is not None

    def _check_netns(self, netns: Netns) -> None:
        try:
            there = self._node.identity(netns)
        except OSError as error:
            raise CNIError(INVALID_NETNS, f"failed to open netns {netns!r}: {error.strerror}") from error
        here = self._node.identity(self._node.netns)
        if there[0] != here[0]:
            raise CNIError(INVALID_NETNS, f"failed to open netns {netns!r}: it is not a network namespace")
        if there == here:
            raise CNIError(INVALID_NETNS, f"plugin's netns and netns from CNI_NETNS should not be the same: {netns}")

    def _with_subnet(self, conf: NetConf) -> tuple[NetConf, int]:
        """The configuration with the node's range sets filled in, and the MTU to use."""
        if conf.range_sets:
            return conf, conf.mtu
        subnet: Subnet = read_subnet_env(self._node.subnet_env)
        return conf.with_range_sets(node_range_sets(subnet.subnets)), conf.mtu or subnet.mtu

    # --- the others ---------------------------------------------------------------------------------------------------

    async def delete(self, conf: NetConf, attachment: Attachment) -> None:
        """Detach. The namespace is not needed: the host's end has a name we compute, and takes the pod's end with it."""
        await self._remove(conf.name, attachment.container_id, attachment.ifname)

    async def _remove(self, network: str, container_id: str, ifname: str) -> None:
        await self._node.remove_links([plan.host_veth(network, container_id, ifname)])
        self._node.store.release(network, container_id, ifname)

    async def check(self, conf: NetConf, attachment: Attachment) -> None:
        """Compare what the attachment should be with what is. CNIError 102 lists every difference."""
        previous = conf.prev_result
        if previous is None:
            raise CNIError(INVALID_NETWORK_CONFIG, "invalid network config: prevResult: is required for CHECK")
        self._check_netns(attachment.netns)
        conf, mtu = self._with_subnet(conf)
        node = self._node
        held = set(node.store.addresses(conf.name, attachment.container_id, attachment.ifname))
        ours = _own_ips(previous, attachment.ifname)
        problems = [f"address {ip.address.ip} is not reserved" for ip in ours if ip.address.ip not in held]
        allocations = [Allocation(ip.address, ip.gateway or ip.address.ip) for ip in ours]
        mac = next((i.mac for i in previous.interfaces if i.name == attachment.ifname and i.sandbox), "")
        wiring = plan.plan_pod(conf.with_mac(mac), attachment, allocations, mtu, ipv6=self._ipv6)
        state, pod = node.kernel.observe(node.netns), node.kernel.observe(attachment.netns)
        problems += plan.check_wiring(wiring, conf, attachment, state, pod)
        if conf.is_gateway and self._sysctl("net.ipv4.ip_forward") == "0":
            problems.append("net.ipv4.ip_forward is 0 on the node")
        if problems:
            raise CNIError(CHECK_FAILED, f"check of {attachment.ifname} failed: {problems[0]}", "; ".join(problems))

    async def gc(self, conf: NetConf) -> None:
        """Remove what is not listed: leases, and links of ours whose lease is lost. Continues past errors."""
        if conf.valid_attachments is None:
            msg = "invalid network config: cni.dev/valid-attachments: is required for GC"
            raise CNIError(INVALID_NETWORK_CONFIG, msg)
        valid = conf.valid_attachments
        stale = {(lease.container_id, lease.ifname) for lease in self._node.store.leases(conf.name)}
        for link in self._node.kernel.observe(self._node.netns).links:
            owner = plan.parse_alias(link.alias)
            if owner is not None and owner[0] == conf.name:
                stale.add((owner[1], owner[2]))
        failures = []
        for container_id, ifname in sorted(stale - valid):
            try:
                await self._remove(conf.name, container_id, ifname)
            except (CNIError, KernelError) as error:
                failures.append(f"{container_id} {ifname}: {error}")
        if failures:
            raise CNIError(KERNEL_REFUSED, f"GC left {len(failures)} attachments behind", "; ".join(failures))

    async def status(self, conf: NetConf) -> None:
        """Return when an ADD would succeed. CNIError 50 says why not: no subnet yet, or no address left."""
        try:
            conf, _ = self._with_subnet(conf)
        except CNIError as error:
            raise CNIError(PLUGIN_NOT_AVAILABLE, error.msg, error.details) from error
        taken = {lease.address for lease in self._node.store.leases(conf.name)}
        for range_set in conf.range_sets:
            if free_addresses(range_set, taken) <= 0:
                text = ",".join(str(item) for item in range_set)
                raise CNIError(PLUGIN_NOT_AVAILABLE, f"no IP addresses available in range set: {text}")


def _own_ips(result: Result, ifname: str) -> list[IPConfig]:
    """The addresses of a result that belong to our interface, and not to another plugin's of the chain."""
    own = {index for index, interface in enumerate(result.interfaces) if interface.name == ifname and interface.sandbox}
    return [ip for ip in result.ips if ip.interface is None or ip.interface in own]

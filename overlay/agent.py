"""The overlay's agent on one node: publish where we are, follow where the others are, keep the tunnels right.

One constant key: whatever changed, a pass looks at all nodes and at the whole namespace, and applies the difference. A
pass runs when a node changed and every `resync_interval_s` in any case, so a device or an entry that somebody deleted
comes back by itself. Killed anywhere and started again, the agent goes on: its MAC is in its Node's annotation.

    Node objects --watch--> pass: own lease -> annotations
                                  all leases -> desired -> diff(observed) -> kernel, nft
                                  spec.podCIDR -> subnet.env -> (the CNI plugin can add pods) -> NetworkUnavailable=False

Source of the contract: flannel's kube subnet manager (annotations, condition, subnet.env).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import NODES
from podnet.controlplane.client.backoff import Backoff
from podnet.controlplane.client.informer import Informer
from podnet.controlplane.client.reconcile import supervise
from podnet.controlplane.client.types import Client
from podnet.overlay.condition import network_condition_patch
from podnet.overlay.diff import diff_overlay
from podnet.overlay.hostgw import desired_hostgw
from podnet.overlay.lease import (
    Lease,
    annotation_patch,
    node_annotations,
    node_pod_cidr,
    parse_backend_data,
    parse_leases,
    render_subnet_env,
)
from podnet.overlay.masquerade import TABLE, render_masquerade, render_no_masquerade
from podnet.overlay.types import OverlayState, Owned
from podnet.overlay.vxlan import OVERHEAD, VxlanParams, desired_vxlan, device_name
from podnet.topology.kernel import Kernel, KernelError, Netns, NetnsState, SetSysctl
from podnet.topology.paths import NodePaths

LOG = logging.getLogger(__name__)

MODES = ("vxlan", "vxlan-cross-subnet", "host-gw")

_RETRY = Backoff(base_s=0.05, max_s=5.0, jitter=0.5)


@dataclass(frozen=True, slots=True)
class OverlayConfig:
    """`pod_cidr` is the cluster's; the node's own comes from its Node. `device` "": the one that has `node_ip`. `mtu` is
    the pods'; 0: what the underlay leaves. `node_cidr`: besides the nodes themselves, networks whose hosts know the way
    to pods (never masqueraded). `vxlan-cross-subnet` routes plainly to peers on the underlay device's own subnet.
    """

    node_name: str
    node_ip: str
    paths: NodePaths
    mode: str = "vxlan"
    vni: int = 1
    port: int = 8472
    mtu: int = 1450
    device: str = ""
    pod_cidr: str = "10.244.0.0/16"
    node_cidr: tuple[str, ...] = ()
    masquerade: bool = True
    resync_interval_s: float = 5.0
    min_interval_s: float = 0.02
    netns: Netns = ""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"overlay mode {self.mode!r} is not one of {', '.join(MODES)}")


async def run_overlay_agent(config: OverlayConfig, client: Client, kernel: Kernel) -> None:
    """Run until cancelled."""
    nodes = Informer(client, NODES)
    agent = _Agent(config, client, kernel, nodes)
    nodes.add_handler(agent.node_changed)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervise("overlay informer nodes", nodes.run), name="overlay informer nodes")
        group.create_task(agent.run(), name="overlay agent")


class _Agent:
    """The loop around one pass."""

    def __init__(self, config: OverlayConfig, client: Client, kernel: Kernel, nodes: Informer) -> None:
        self._config = config
        self._client = client
        self._kernel = kernel
        self._nodes = nodes
        self._dirty = asyncio.Event()
        self._failures = 0
        self._waiting_for = ""
        self._masquerade = ("", "")
        self._has_ipv6 = _has_ipv6(kernel, config.netns)

    def node_changed(self, _key: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        """Mark ourselves dirty, unless nothing that we read has changed (a heartbeat)."""
        if old is None or new is None or _relevant(old) != _relevant(new):
            self._dirty.set()

    async def run(self) -> None:
        """Pass after pass, at most one per `min_interval_s`."""
        await self._nodes.wait_synced()
        while True:
            self._dirty.clear()
            wait_s = await self._pass_or_retry()
            try:
                async with asyncio.timeout(wait_s):
                    await self._dirty.wait()
                # Nodes come in bursts; what else changes in this moment is taken along.
                await asyncio.sleep(self._config.min_interval_s)
            except TimeoutError:
                continue  # nothing changed that we heard of: time to look again

    async def _pass_or_retry(self) -> float:
        """One pass; how long to wait for a change before the next."""
        try:
            await self.reconcile()
        except (StatusError, KernelError, OSError) as error:
            delay_s = _RETRY.delay_s(self._failures)
            self._failures += 1
            level = (
                logging.DEBUG if isinstance(error, StatusError) and error.code in (404, 409, 503) else logging.WARNING
            )
            LOG.log(level, "overlay of %s: %s", self._config.node_name, error)
            return delay_s
        self._failures = 0
        return self._config.resync_interval_s

    async def reconcile(self) -> None:
        """Make everything right, once."""
        config = self._config
        nodes = self._nodes.list()
        own_node = next((node for node in nodes if node["metadata"]["name"] == config.node_name), None)
        pod_cidr = node_pod_cidr(own_node) if own_node is not None else None
        if own_node is None or pod_cidr is None:
            self._wait_for(f"node {config.node_name}" if own_node is None else f"podCIDR of node {config.node_name}")
            return
        observed = self._kernel.observe(config.netns)
        device = config.device or underlay_device(observed, IPv4Address(config.node_ip))
        mtu = pod_mtu(config, observed, device)
        own = own_lease(config, own_node, pod_cidr, observed, _random_mac())
        patch = annotation_patch(own_node, own)
        if patch is not None:
            await self._client.patch(NODES, config.node_name, "", patch)
        others = [node for node in nodes if node is not own_node]
        leases = parse_leases(others, IPv4Network(config.pod_cidr))
        desired = desired_state(config, own, leases, observed, device, mtu)
        owned = Owned(device_name(config.vni), device, IPv4Network(config.pod_cidr))
        ops = [op for op in diff_overlay(observed, desired, owned) if self._has_ipv6 or not isinstance(op, SetSysctl)]
        if ops:
            LOG.info("overlay of %s: %d changes, %d peers", config.node_name, len(ops), len(leases))
            self._kernel.apply(config.netns, ops)
        self._apply_sysctls(device)
        self._apply_masquerade(nodes)
        self._write_subnet_env(pod_cidr, mtu)
        condition = network_condition_patch(own_node, now=_now())
        if condition is not None:
            await self._client.patch(
                NODES, config.node_name, "", condition, patch_type="strategic", subresource="status"
            )
        self._waiting_for = ""

    def _wait_for(self, what: str) -> None:
        if self._waiting_for != what:
            self._waiting_for = what
            LOG.info("overlay waits for %s", what)

    def _apply_sysctls(self, device: str) -> None:
        """Forward; and accept what a pod sends to a node, although the answer leaves by the tunnel: where the machine
        filters strictly by reverse path (1), do it loosely (2, which wins over 1 on every interface)."""
        kernel, netns = self._kernel, self._config.netns
        if kernel.sysctl(netns, "net.ipv4.ip_forward") != "1":
            kernel.apply(netns, [SetSysctl("net.ipv4.ip_forward", "1")])
        filters = [kernel.sysctl(netns, f"net.ipv4.conf.{name}.rp_filter") for name in ("all", device)]
        if "1" in filters and filters[0] != "2":
            kernel.apply(netns, [SetSysctl("net.ipv4.conf.all.rp_filter", "2")])

    def _apply_masquerade(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        config = self._config
        script = render_no_masquerade()
        if config.masquerade:
            addresses = {IPv4Address(config.node_ip), *node_addresses(nodes)}
            direct = [IPv4Network(network) for network in config.node_cidr]
            script = render_masquerade(IPv4Network(config.pod_cidr), addresses, direct)
        if (script, self._listed()) != self._masquerade:
            self._kernel.nft(config.netns, script)
            self._masquerade = (script, self._listed())

    def _listed(self) -> str:
        """The table as the kernel has it now. Compared with what it was right after we wrote it, it shows whether
        somebody changed it, whatever nft's own way of printing rules."""
        try:
            return self._kernel.nft(self._config.netns, f"list table ip {TABLE}\n")
        except KernelError:
            return ""

    def _write_subnet_env(self, pod_cidr: IPv4Network, mtu: int) -> None:
        config = self._config
        text = render_subnet_env(IPv4Network(config.pod_cidr), pod_cidr, mtu, masquerade=config.masquerade)
        path = config.paths.subnet_env
        if path.exists() and path.read_text() == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.new")
        aside.write_text(text)
        aside.replace(path)


def underlay_device(observed: NetnsState, node_ip: IPv4Address) -> str:
    """The link that has the node's address. KernelError (ENODEV) while none has."""
    for name, address in observed.addresses:
        if address.ip == node_ip:
            return name
    raise KernelError(f"no interface has the node's address {node_ip}", 19)


def pod_mtu(config: OverlayConfig, observed: NetnsState, device: str) -> int:
    """The pods' MTU: as configured, or what the underlay leaves after the mode's overhead."""
    link = observed.link(device)
    underlay = link.mtu if link is not None else 1500
    if config.mode == "host-gw":
        return underlay
    return config.mtu or underlay - OVERHEAD


def own_lease(
    config: OverlayConfig, node: Mapping[str, Any], pod_cidr: IPv4Network, observed: NetnsState, new_mac: str
) -> Lease:
    """Our own lease. The VTEP's MAC is that of our annotation, so that it outlives the device; without one, that of the
    device; without either, the new one."""
    public_ip = IPv4Address(config.node_ip)
    if config.mode == "host-gw":
        return Lease(config.node_name, pod_cidr, public_ip, backend="host-gw")
    _, mac = parse_backend_data(node_annotations(node))
    link = observed.link(device_name(config.vni))
    return Lease(config.node_name, pod_cidr, public_ip, mac or (link.mac if link else new_mac), config.vni, "vxlan")


def desired_state(
    config: OverlayConfig, own: Lease, leases: Sequence[Lease], observed: NetnsState, device: str, mtu: int
) -> OverlayState:
    """What the configured mode wants. A peer that claims what is ours is left out."""
    peers = [
        lease
        for lease in leases
        if not lease.pod_cidr.overlaps(own.pod_cidr)
        and lease.public_ip != own.public_ip
        and (not lease.vtep_mac or lease.vtep_mac != own.vtep_mac)
    ]
    if config.mode == "host-gw":
        return desired_hostgw(own, peers, device)
    direct = None
    if config.mode == "vxlan-cross-subnet":
        networks = (address.network for name, address in observed.addresses if name == device)
        direct = next((n for n in networks if isinstance(n, IPv4Network) and own.public_ip in n), None)
    return desired_vxlan(own, peers, VxlanParams(config.vni, config.port, mtu, device, direct))


def node_addresses(nodes: Sequence[Mapping[str, Any]]) -> set[IPv4Address]:
    """Every IPv4 address the Node objects name (InternalIP, ExternalIP, and flannel's public-ip)."""
    found: set[IPv4Address] = set()
    for node in nodes:
        entries = (node.get("status") or {}).get("addresses") or ()
        texts = [entry.get("address", "") for entry in entries if entry.get("type") in ("InternalIP", "ExternalIP")]
        for text in (*texts, *(value for key, value in node_annotations(node).items() if key.endswith("/public-ip"))):
            try:
                found.add(IPv4Address(text))
            except ValueError:
                continue
    return found


def _relevant(node: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        (node.get("metadata") or {}).get("uid"),
        node_annotations(node),
        node_pod_cidr(node),
        node_addresses([node]),
        network_condition_patch(node, now="") is None,
    )


def _has_ipv6(kernel: Kernel, netns: Netns) -> bool:
    try:
        kernel.sysctl(netns, "net.ipv6.conf.all.disable_ipv6")
    except KernelError as error:
        if error.is_not_found:
            return False
        raise
    return True


def _random_mac() -> str:
    """A locally administered unicast MAC."""
    raw = bytearray(os.urandom(6))
    raw[0] = (raw[0] & 0xFC) | 0x02
    return bytes(raw).hex(":")


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

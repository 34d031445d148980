"""The underlay: nodes, outside hosts, switches and cables of one cluster, standing in the room.

It runs inside a network namespace of its own (the room's), as root or as uid 0 of a user namespace: switches and their
ports live there, every machine in namespaces of its own. Switches are started first, then each machine is one Mininet
host, one netlink batch in the room and one inside the machine.

    control-plane   worker-1   worker-2    client
         eth0         eth0       eth0       eth0        a namespace each
          │            │          │          │
    ──────┴────────────┴── s1 ────┴──────────┴──────    the room's namespace; the gateway's address is on the switch

Mininet's own view of all this is `net`, an ordinary Mininet object: `net.get("worker-1").cmd("ip route")` works.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, Self

from podnet.topology import faults, links, shaping, switches
from podnet.topology.interfaces import Interface, points
from podnet.topology.kernel import AddAddress, AddVeth, DeleteLink, Kernel, KernelError, SetLink
from podnet.topology.links import UPLINK, End, KernelIntf, KernelLink
from podnet.topology.mininet_modules import forward_mininet_log, mininet
from podnet.topology.naming import port_name, trunk_name
from podnet.topology.node import Machine, Node, OutsideHost, UnderlayError
from podnet.topology.spec.types import ClusterSpec, HostSpec, LinkSpec, NodeSpec, SwitchSpec

LOG = logging.getLogger(__name__)

# Most of a machine's start is waiting for its shell.
_STARTED_AT_ONCE = 4

_PORTS_GONE_POLLS, _PORTS_GONE_POLL_S = 60, 0.005

# Links a new namespace may have without anybody's doing: the fallback devices of tunnel modules.
_FALLBACK_LINKS = frozenset(
    {"lo", "tunl0", "sit0", "gre0", "gretap0", "erspan0", "ip6tnl0", "ip6gre0", "ip_vti0", "ip6_vti0"}
)


class Underlay:
    """One cluster's underlay. Not thread-safe: one caller starts, changes and stops it."""

    def __init__(
        self, spec: ClusterSpec, kernel: Kernel, run_dir: Path | None = None, resolv_conf: Path | None = None
    ) -> None:
        """`run_dir`: where the machines' shared /etc/hosts is kept; `resolv_conf`: what they find as /etc/resolv.conf.
        Without them names resolve as on the real machine."""
        self.spec = spec
        self.kernel = kernel
        self.nodes: dict[str, Node] = {}
        self.hosts: dict[str, OutsideHost] = {}
        self.switches: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.phases_ms: dict[str, float] = {}
        self._hosts_file = run_dir / "hosts" if run_dir else None
        self._resolv_conf = resolv_conf
        self._openflow: Any = None
        self._private_dir: Path | None = None
        self._ends: dict[frozenset[str], tuple[End, End]] = {}
        self._states: dict[frozenset[str], LinkSpec] = {}
        self._off: dict[str, list[LinkSpec]] = {}  # the cables of nodes that are switched off, as they were
        self._mininet_links: dict[frozenset[str], KernelLink] = {}
        forward_mininet_log()
        # Mininet would check for real root and raise limits of the whole machine.
        mininet.net.Mininet.inited = True
        self.net = mininet.net.Mininet(topo=None, controller=None, build=False, ipBase=str(spec.underlay.cidr))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- life ------------------------------------------------------------------------------------------------

    def start(self) -> float:
        """Build everything and wait until every port forwards; the milliseconds it took. Nothing stands on failure."""
        began = time.perf_counter()
        self._check_room()
        try:
            self._start_room()
            self._phase("switches", began, self._start_switches)
            self._phase("machines", time.perf_counter(), self._start_machines)
            self._phase("links", time.perf_counter(), self._start_links)
        except KernelError as error:
            self.stop()
            raise UnderlayError(f"the kernel refused to build the underlay: {error}") from error
        except BaseException:
            self.stop()
            raise
        total = (time.perf_counter() - began) * 1000
        self.phases_ms["total"] = total
        return total

    def stop(self) -> None:
        """Take everything down; harmless when it is down already."""
        machines = self.machines()
        for machine in machines:
            self.kernel.forget(machine.netns)
            machine.hang_up()
        for machine in machines:
            machine.terminate()
        for switch in self.switches.values():
            switch.stop()
        self._wait_ports_gone()
        if self._openflow is not None:
            self._openflow.stop()
            self._openflow = None
        if self._private_dir is not None:
            shutil.rmtree(self._private_dir, ignore_errors=True)
            self._private_dir = None
        self.nodes, self.hosts, self.switches = {}, {}, {}
        self._ends, self._states, self._mininet_links, self._off = {}, {}, {}, {}
        self.net.hosts, self.net.switches, self.net.links, self.net.nameToNode = [], [], [], {}

    def _wait_ports_gone(self) -> None:
        """Ports go with their machines, all in one go; deleting each would cost 20 ms.

        What is left after a moment (cables between switches, or a machine in which something still runs) is deleted.
        """
        ports = {end.ifname for ends in self._ends.values() for end in ends if not end.netns}
        machines = {far.ifname for near, far in self._ends.values() if near.netns}
        for _ in range(_PORTS_GONE_POLLS):
            standing = ports & {link.name for link in self.kernel.observe("").links}
            if not standing & machines:
                break
            threading.Event().wait(_PORTS_GONE_POLL_S)
        for ifname in sorted(standing):
            self._delete_link(ifname)

    def machines(self) -> list[Machine]:
        """Nodes and outside hosts, in the order of the spec."""
        return [*self.nodes.values(), *self.hosts.values()]

    def _phase(self, name: str, began: float, work: Any) -> None:
        work()
        self.phases_ms[name] = (time.perf_counter() - began) * 1000

    def _check_room(self) -> None:
        foreign = [link.name for link in self.kernel.observe("").links if link.name not in _FALLBACK_LINKS]
        if foreign:
            raise UnderlayError(f"the underlay needs a network namespace of its own; this one has {', '.join(foreign)}")

    def _start_room(self) -> None:
        self.kernel.apply("", [SetLink("lo", up=True)])
        self._warn_missing("the room", links.apply_sysctls(self.kernel, "", switches.ROOM_SYSCTLS))
        # The gateway answers "network unreachable" for what is outside, instead of silence.
        self._warn_missing("the room", links.apply_sysctls(self.kernel, "", (("net.ipv4.ip_forward", "1"),)))

    def _start_switches(self) -> None:
        for number, spec in enumerate(self.spec.switches, start=1):
            extra = {"daemons": self._openflow_daemons()} if spec.kind == "openflow" else {}
            switch = self.net.addSwitch(
                spec.name, cls=_switch_class(spec), spec=spec, kernel=self.kernel, dpid=number, **extra
            )
            self.switches[spec.name] = switch
            switch.start()
        gateway = IPv4Interface((self.spec.underlay.gateway, self.spec.underlay.cidr.prefixlen))
        first = self.switches[self.spec.switches[0].name]
        self.kernel.apply("", [AddAddress(first.gateway_interface(), gateway)])

    def _openflow_daemons(self) -> Any:
        """The daemons behind all OpenFlow switches, started with the first."""
        if self._openflow is None:
            from podnet.topology.openflow.daemons import OpenFlowDaemons  # os-ken is an extra
            from podnet.topology.openflow.switch import USERSPACE_NOTE, has_kernel_datapath

            if self._private_dir is None:
                # Short: the sockets' paths must fit the 108 bytes of sun_path.
                self._private_dir = Path(tempfile.mkdtemp(prefix="podnet-ovs-"))
            self._openflow = OpenFlowDaemons(self._private_dir)
            self._openflow.start(*self._known())
            if not has_kernel_datapath():
                self.warnings.append(USERSPACE_NOTE)
                LOG.warning("%s", USERSPACE_NOTE)
        return self._openflow

    def _known(self) -> tuple[dict[str, str], list[str]]:
        """What the controller's ARP answers need: address to MAC of every machine, and which ports are trunks."""
        machines: list[NodeSpec | HostSpec] = [*self.spec.nodes, *self.spec.hosts]
        names = {switch.name for switch in self.spec.switches}
        trunks = [(link.a, link.b) for link in self.spec.links if {link.a, link.b} <= names]
        ports = [trunk_name(here, there) for a, b in trunks for here, there in ((a, b), (b, a))]
        return {str(machine.ip): links.mac_of(machine.ip) for machine in machines}, ports

    def revive(self) -> list[str]:
        """Start again what died of the OpenFlow switches' daemons; the names of it. Cheap: call it now and then."""
        return self._openflow.revive() if self._openflow is not None else []

    def flows(self, switch: str = "") -> list[Any]:
        """The flows of one OpenFlow switch, or of all of them (`openflow.flows.Flow`)."""
        if switch and switch not in self.switches:
            raise UnderlayError(f"there is no switch {switch!r}")
        chosen = [self.switches[switch]] if switch else list(self.switches.values())
        return [flow for one in chosen if not one.bridged for flow in one.flows()]

    def _start_machines(self) -> None:
        specs: list[NodeSpec | HostSpec] = [*self.spec.nodes, *self.spec.hosts]
        with ThreadPoolExecutor(_STARTED_AT_ONCE) as pool:
            for machine in pool.map(self._start_machine, specs):
                self._plug(machine)
        # Threads end in any order; lists keep the file's.
        order = {spec.name: position for position, spec in enumerate(specs)}
        self.nodes = dict(sorted(self.nodes.items(), key=lambda item: order[item[0]]))
        self.hosts = dict(sorted(self.hosts.items(), key=lambda item: order[item[0]]))
        self.net.hosts.sort(key=lambda machine: order[machine.name])
        self._write_hosts_file()

    def _start_links(self) -> None:
        for link in self.spec.links:
            if link.a in self.switches and link.b in self.switches:
                self._start_trunk(link)
        for link in self.spec.links:
            self._shape(link)
        self._wait_forwarding(self._ends)

    # --- machines --------------------------------------------------------------------------------------------

    def add_node(self, node: NodeSpec, link: LinkSpec | None = None) -> Node:
        """Plug in one more node, by `link` where it is special; forwarding when this returns."""
        if node.name in {*self.nodes, *self.hosts, *self.switches}:
            raise UnderlayError(f"the name {node.name!r} is taken")
        if node.ip in {machine.address for machine in self.machines()} or node.ip == self.spec.underlay.gateway:
            raise UnderlayError(f"the address {node.ip} is taken")
        if node.switch not in self.switches:
            raise UnderlayError(f"there is no switch {node.switch!r}")
        link = link or LinkSpec(node.name, node.switch)
        self.spec = replace(self.spec, nodes=(*self.spec.nodes, node), links=(*self.spec.links, link))
        try:
            machine = self._start_machine(node)
            self._plug(machine)
            self._shape(link)
            self._wait_forwarding([frozenset((node.name, node.switch))])
        except (KernelError, UnderlayError):
            self.remove_node(node.name)
            raise
        self._tell_names()
        return self.nodes[node.name]

    def remove_node(self, name: str) -> None:
        """Unplug a node and end its shell; what else runs on it is its owner's to end."""
        if self.spec.node(name) is None:
            raise UnderlayError(f"there is no node {name!r}")
        self.power_off(name)
        self.spec = replace(
            self.spec,
            nodes=tuple(node for node in self.spec.nodes if node.name != name),
            links=tuple(link for link in self.spec.links if name not in (link.a, link.b)),
        )
        self._off.pop(name, None)
        self._tell_names()

    def power_off(self, name: str) -> None:
        """As if its plug were pulled: its namespaces, addresses and cable are gone, its place in the spec is kept."""
        machine = self.nodes.pop(name, None)
        if machine is None:
            return
        self._off[name] = [link for pair, link in self._states.items() if name in pair]
        for pair in [pair for pair in self._ends if name in pair]:
            self._unplug(pair)
        self.kernel.forget(machine.netns)
        machine.terminate()
        self.net.hosts.remove(machine)
        del self.net.nameToNode[name]

    def power_on(self, name: str) -> Node:
        """Bring a node back: new namespaces, the same address, its cable with the shape it had."""
        spec = self.spec.node(name)
        if spec is None or name in self.nodes:
            raise UnderlayError(f"there is no node {name!r} that is switched off")
        links_of = self._off.pop(name)
        try:
            self._plug(self._start_machine(spec))
            for link in links_of:
                self._shape(link)
            self._wait_forwarding([frozenset((link.a, link.b)) for link in links_of])
        except (KernelError, UnderlayError):
            self.power_off(name)
            self._off[name] = links_of
            raise
        self.nodes = {node.name: self.nodes[node.name] for node in self.spec.nodes if node.name in self.nodes}
        return self.nodes[name]

    def _start_machine(self, spec: NodeSpec | HostSpec) -> Machine:
        """The Mininet host and, for a node, what Kubernetes needs of its namespace; not plugged in yet."""
        if isinstance(spec, HostSpec):
            host: OutsideHost = self.net.addHost(spec.name, cls=OutsideHost, spec=spec, kernel=self.kernel)
            self.hosts[spec.name] = host
            return host
        node: Node = self.net.addHost(spec.name, cls=Node, spec=spec, kernel=self.kernel)
        self.nodes[spec.name] = node
        self._warn_missing("nodes", links.apply_sysctls(self.kernel, node.netns, links.NODE_SYSCTLS))
        return node

    def _plug(self, machine: Machine) -> None:
        switch = self.switches[machine.switch_name]
        machine.port = port_name(machine.name)
        mtu = self.spec.underlay.mtu
        mac = links.mac_of(machine.address)
        plan = links.plan_port(machine.name, machine.netns, mac, switch.name, mtu, bridged=switch.bridged)
        self.kernel.apply("", plan)
        near = End(machine.name, machine.netns, UPLINK)
        far = End(switch.name, "", machine.port)
        self._ends[frozenset((machine.name, switch.name))] = (near, far)
        routes = machine.spec.routes if isinstance(machine, OutsideHost) else ()
        self.kernel.apply(machine.netns, links.plan_machine(self.spec, machine.address, routes))
        if not switch.bridged:
            switch.prepare(near)
            switch.attach(machine.port)
        prefixlen = self.spec.underlay.cidr.prefixlen
        self._register(
            KernelIntf(UPLINK, machine, near, self.kernel, machine.ip, prefixlen),
            KernelIntf(machine.port, switch, far, self.kernel),
        )
        if self._hosts_file is not None:
            self._hosts_file.parent.mkdir(parents=True, exist_ok=True)
            self._hosts_file.touch()
            machine.bind_file(str(self._hosts_file), "/etc/hosts")
        if self._resolv_conf is not None:
            machine.bind_if_there(str(self._resolv_conf), "/etc/resolv.conf")

    def _tell_names(self) -> None:
        self._write_hosts_file()
        if self._openflow is not None:
            self._openflow.set_hosts(*self._known())

    def _write_hosts_file(self) -> None:
        if self._hosts_file is None:
            return
        lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
        lines += [f"{machine.ip}\t{machine.name}" for machine in self.machines()]
        # In place: a bind mount shows the file it was made of, not the one that took over its name.
        self._hosts_file.write_text("\n".join(lines) + "\n")

    # --- cables ----------------------------------------------------------------------------------------------

    def link_state(self, a: str, b: str) -> faults.LinkState:
        """A cable as it is now."""
        pair, (near, far) = self._pair(a, b)
        spec = self._states[pair]
        link = self.kernel.observe(far.netns).link(far.ifname)
        return faults.LinkState(
            spec.a,
            spec.b,
            link is not None and link.up,
            spec.rate_bit_s,
            spec.delay_ms,
            spec.loss_percent,
            *(end.ifname for end in ((near, far) if near.owner == spec.a else (far, near))),
        )

    def link_states(self) -> list[faults.LinkState]:
        """All cables, in the order of the spec."""
        return [
            faults.LinkState(link.a, link.b, False, link.rate_bit_s, link.delay_ms, link.loss_percent, "", "")
            if {link.a, link.b} & self._off.keys()
            else self.link_state(link.a, link.b)
            for link in self.spec.links
        ]

    def set_link(
        self,
        a: str,
        b: str,
        *,
        up: bool | None = None,
        rate_bit_s: int | None = None,
        delay_ms: float | None = None,
        loss_percent: float | None = None,
    ) -> faults.LinkState:
        """Pull out or plug in a cable, or change what it carries; what is not given stays. 0 removes a limit."""
        pair, (_, far) = self._pair(a, b)
        now = self._states[pair]
        wanted = replace(
            now,
            rate_bit_s=now.rate_bit_s if rate_bit_s is None else rate_bit_s,
            delay_ms=now.delay_ms if delay_ms is None else delay_ms,
            loss_percent=now.loss_percent if loss_percent is None else loss_percent,
        )
        problem = faults.shape_problem(wanted.rate_bit_s, wanted.delay_ms, wanted.loss_percent)
        if problem:
            raise UnderlayError(problem)
        if wanted != now:
            self._shape(wanted)
        if up is not None:
            # The switch's end goes down: the machine's loses its carrier but keeps its routes, as with a real cable.
            self.kernel.apply(far.netns, [SetLink(far.ifname, up=up)])
            if up:
                self._wait_forwarding([pair])
        return self.link_state(a, b)

    def interfaces(self) -> list[Interface]:
        """Every interface of every machine and switch, as points of capture."""
        found: list[Interface] = []
        for prefix, machines in (("node", self.nodes), ("host", self.hosts)):
            for name, machine in machines.items():
                found += points(f"{prefix}/{name}", machine.netns, self.kernel.observe(machine.netns).links)
        ends = [end for pair in self._ends.values() for end in pair if not end.netns]
        owners = {end.ifname: end.owner for end in ends} | {name: name for name in self.switches}
        for link in self.kernel.observe("").links:
            if link.name in owners:
                found += points(f"switch/{owners[link.name]}", f"/proc/{os.getpid()}/ns/net", [link])
        return found

    def _start_trunk(self, link: LinkSpec) -> None:
        ends = End(link.a, "", trunk_name(link.a, link.b)), End(link.b, "", trunk_name(link.b, link.a))
        self.kernel.apply("", [AddVeth(ends[0].ifname, ends[1].ifname, mtu=self.spec.underlay.mtu)])
        for end, other in (ends, ends[::-1]):
            self.kernel.apply("", [SetLink(end.ifname, up=True, alias=f"{end.owner} to {other.owner}")])
            switch = self.switches[end.owner]
            if not switch.bridged:
                switch.prepare(other)
            switch.attach(end.ifname)
        self._ends[frozenset((link.a, link.b))] = ends
        self._register(*(KernelIntf(end.ifname, self.switches[end.owner], end, self.kernel) for end in ends))

    def _register(self, one: KernelIntf, other: KernelIntf) -> None:
        link = KernelLink(one, other)
        self._mininet_links[frozenset((one.end.owner, other.end.owner))] = link
        self.net.links.append(link)

    def _unplug(self, pair: frozenset[str]) -> None:
        near, far = self._ends.pop(pair)
        self._states.pop(pair, None)
        for end in (near, far):
            if end.owner in self.switches:
                self.switches[end.owner].detach(end.ifname)
        self._delete_link(far.ifname)
        link = self._mininet_links.pop(pair, None)
        if link is not None:
            self.net.links.remove(link)
            for intf in (link.intf1, link.intf2):
                intf.node.delIntf(intf)

    def _delete_link(self, ifname: str) -> None:
        try:
            self.kernel.apply("", [DeleteLink(ifname)])
        except KernelError as error:
            if not error.is_not_found:
                raise

    def _pair(self, a: str, b: str) -> tuple[frozenset[str], tuple[End, End]]:
        pair = frozenset((a, b))
        off = sorted(pair & self._off.keys())
        if off:
            back = f"podnet node restart -c {self.spec.name} {off[0]}"
            raise UnderlayError(f"{off[0]} is switched off: its cable leads nowhere ({back})")
        if pair not in self._ends:
            known = ", ".join(f"{link.a}-{link.b}" for link in self.spec.links)
            raise UnderlayError(f"there is no link between {a!r} and {b!r} (links: {known})")
        return pair, self._ends[pair]

    def _shape(self, link: LinkSpec) -> None:
        pair, ends = self._pair(link.a, link.b)
        before = self._states.get(pair, LinkSpec(link.a, link.b))
        for end in ends:
            if (link.rate_bit_s, link.delay_ms) != (before.rate_bit_s, before.delay_ms):
                shaping.apply_queue(self.kernel, end, link, before)
            if link.loss_percent != before.loss_percent:
                shaping.apply_loss(self.kernel, end, link.loss_percent)
        self._states[pair] = link

    def _wait_forwarding(self, pairs: Iterable[frozenset[str]]) -> None:
        ends = [end for pair in pairs for end in self._ends[pair]]
        owners = {end.owner: self.switches[end.owner] for end in ends if end.owner in self.switches}
        for switch in owners.values():
            if not switch.bridged:
                switch.wait_connected()
        ports = [end for end in ends if end.owner in owners and owners[end.owner].bridged]
        switches.wait_forwarding(self.kernel, ports, [end for end in ends if end.owner not in owners])

    def _warn_missing(self, where: str, keys: list[str]) -> None:
        for key in keys:
            text = f"{where}: this kernel has no sysctl {key}"
            if key.startswith("net.bridge."):
                text += " (br_netfilter is not loaded: Services between pods of one node will not work)"
            if text not in self.warnings:
                self.warnings.append(text)
                LOG.warning("%s", text)


def _switch_class(spec: SwitchSpec) -> type[switches.KernelSwitch]:
    if spec.kind == "openflow":
        from podnet.topology.openflow.switch import OpenFlowSwitch  # os-ken is an extra

        return OpenFlowSwitch
    return switches.BridgeSwitch

"""Switches of the underlay, as Mininet knows them: a Linux bridge made through the `Kernel`.

Mininet's own LinuxBridge needs `brctl` and its Switch a shell each; a bridge needs neither. It lives in the room's
network namespace, where frames that it forwards must not meet the room's own firewall hooks, so those are off there
(and stay on inside nodes, where kube-proxy's rules need them).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any

from podnet.topology.kernel import AddBridge, DeleteLink, Kernel, KernelError, SetLink
from podnet.topology.links import End
from podnet.topology.mininet_modules import mininet
from podnet.topology.node import UnderlayError
from podnet.topology.spec.types import SwitchSpec

ROOM_SYSCTLS: tuple[tuple[str, str], ...] = (
    ("net.bridge.bridge-nf-call-iptables", "0"),
    ("net.bridge.bridge-nf-call-ip6tables", "0"),
    ("net.bridge.bridge-nf-call-arptables", "0"),
    # Every bridge is an interface of the room; only the one with the gateway's address may answer for it.
    ("net.ipv4.conf.all.arp_ignore", "1"),
    # A switch is no IPv6 host: its own neighbour discovery would only be noise in captures.
    ("net.ipv6.conf.default.disable_ipv6", "1"),
)
_FORWARDING_TIMEOUT_S = 5.0
_FIRST_POLL_S = 0.0005
_LONGEST_POLL_S = 0.05


class KernelSwitch(mininet.node.Switch):  # type: ignore[misc]  # Mininet has no types
    """A switch without a shell; Mininet's `cmd()` starts one when it is first used."""

    bridged = True

    def __init__(self, name: str, *, spec: SwitchSpec, kernel: Kernel, dpid: int, **params: Any) -> None:
        self.spec = spec
        self.kernel = kernel
        params.pop("ip", None)
        params["inNamespace"] = False
        # Not Switch.__init__: it runs `ifconfig lo up` in the room.
        mininet.node.Node.__init__(self, name, **params)
        self.dpid = f"{dpid:016x}"
        self.opts, self.listenPort, self.controlIntf = "", None, None
        self.pid = os.getpid()

    @classmethod
    def setup(cls) -> None:
        """Nothing has to be installed."""

    def startShell(self, mnopts: str | None = None) -> None:  # noqa: N802 - Mininet's name
        """Not before `cmd` needs it."""

    def cmd(self, *args: Any, **kwargs: Any) -> Any:
        """Run a shell command in the room's namespaces."""
        if not self.shell:
            super().startShell()
        return super().cmd(*args, **kwargs)

    def terminate(self) -> None:
        """End the shell, where one was started."""
        if self.shell:
            super().terminate()


class BridgeSwitch(KernelSwitch):
    """A Linux bridge."""

    def start(self, _controllers: Iterable[Any] = ()) -> None:
        """Create the bridge, up and forwarding at once. Its MAC is its own: ports that come and go must not change it."""
        self.kernel.apply("", [AddBridge(self.name, mac=f"02:01:00:00:{int(self.dpid, 16):02x}:00")])

    def gateway_interface(self) -> str:
        """The room's interface on this switch: a bridge is one itself."""
        return self.spec.name

    def attach(self, ifname: str) -> None:
        """Plug an interface of the room into the bridge."""
        self.kernel.apply("", [SetLink(ifname, master=self.name, up=True)])

    def detach(self, _ifname: str) -> None:
        """A port leaves the bridge with its interface."""

    def stop(self, deleteIntfs: bool = True) -> None:  # noqa: ARG002, N803 - Mininet's signature
        """Delete the bridge; its ports are their machines' to delete."""
        try:
            self.kernel.apply("", [DeleteLink(self.name)])
        except KernelError as error:
            if not error.is_not_found:
                raise
        self.terminate()


def wait_forwarding(kernel: Kernel, ports: Iterable[End], stations: Iterable[End] = ()) -> None:
    """Wait until bridge ports pass frames and the stations at the cables' other ends may send. A port without carrier
    would lose the first second of traffic.

    Both must be `UP`: carrier comes at once, but the kernel's link watch looks at it later, and until then an interface
    drops what it should send, a bridge's port even though it is called forwarding.
    """
    waiting = {(end.netns, end.ifname): True for end in ports} | {(end.netns, end.ifname): False for end in stations}
    pause_s, waited_s = _FIRST_POLL_S, 0.0
    while waiting:
        for netns in {netns for netns, _ in waiting}:
            for link in kernel.observe(netns).links:
                forwards = link.port_state == "forwarding" or not waiting.get((netns, link.name), True)
                if forwards and link.operstate == "UP":
                    waiting.pop((netns, link.name), None)
        if not waiting:
            return
        if waited_s >= _FORWARDING_TIMEOUT_S:
            named = ", ".join(sorted({ifname for _, ifname in waiting}))
            raise UnderlayError(f"ports {named} did not begin to forward in {waited_s:.0f} s")
        threading.Event().wait(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * 2, _LONGEST_POLL_S)

"""An Open vSwitch bridge as Mininet knows it, driven by podnet's own controller.

With the kernel's datapath where there is one; else in user space (`datapath_type=netdev`), and then with transmit
checksum offload off at every interface that leads to it: without that, pings pass and TCP hangs.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from podnet.topology.kernel import AddVeth, DeleteLink, SetLink
from podnet.topology.links import End
from podnet.topology.linux.ethtool import set_tx_checksum
from podnet.topology.naming import trunk_name
from podnet.topology.node import UnderlayError
from podnet.topology.openflow.controller import OFP_PORT
from podnet.topology.openflow.daemons import OpenFlowDaemons
from podnet.topology.openflow.flows import Flow, parse_flows
from podnet.topology.switches import KernelSwitch

_CONNECT_TIMEOUT_S = 10.0
_POLL_S = 0.02

USERSPACE_NOTE = (
    "this kernel has no openvswitch module: OpenFlow switches run in user space (about a tenth of the speed), "
    "and checksum offload is off at every interface that leads to them"
)


def datapath_type() -> str:
    """How the switch forwards: `system` in the kernel, `netdev` in user space.

    `dummy` is `netdev` again, but its local port is no tap device, which an ordinary user may not be allowed to open;
    ovs-vswitchd offers it with --enable-dummy.
    """
    if has_kernel_datapath():
        return "system"
    return "netdev" if os.access("/dev/net/tun", os.R_OK | os.W_OK) else "dummy"


def has_kernel_datapath() -> bool:
    """Whether the openvswitch module is there (it registers a genetlink family; sysfs shows it without asking)."""
    return Path("/sys/module/openvswitch").exists()


class OpenFlowSwitch(KernelSwitch):
    """One OVS bridge. `daemons` are shared by all of an underlay."""

    bridged = False

    def __init__(self, name: str, *, daemons: OpenFlowDaemons, **params: Any) -> None:
        self.daemons = daemons
        self.datapath_type = datapath_type()
        self.userspace = self.datapath_type != "system"
        super().__init__(name, **params)

    def start(self, _controllers: Iterable[Any] = ()) -> None:
        """Create the bridge. `secure`: without a controller it forwards by the flows it has, and learns nothing."""
        name = self.spec.name
        self.daemons.vsctl(
            *("--", "--may-exist", "add-br", name),
            *("--", "set", "bridge", name, f"other_config:datapath-id={self.dpid}", "fail_mode=secure"),
            *("protocols=OpenFlow13", f"datapath_type={self.datapath_type}"),
            *("--", "set-controller", name, f"tcp:127.0.0.1:{OFP_PORT}"),
            *("--", "set", "controller", name, "max_backoff=1000", "inactivity_probe=5000"),
        )
        if self.datapath_type == "dummy":
            # The room's interface on the switch is a veth under the name the local port would have had.
            self.kernel.apply("", [AddVeth(name, local := trunk_name(name, "local"))])
            self.prepare(End(name, "", name))
            self.attach(local)
        else:
            self.kernel.apply("", [SetLink(name, up=True)])

    def gateway_interface(self) -> str:
        """The bridge's own port, an interface of the room with the bridge's name."""
        return str(self.spec.name)

    def attach(self, ifname: str) -> None:
        """Plug an interface of the room into the switch."""
        self.kernel.apply("", [SetLink(ifname, up=True)])
        self.daemons.vsctl("--", "--may-exist", "add-port", self.spec.name, ifname)

    def detach(self, ifname: str) -> None:
        """Take a port out."""
        self.daemons.vsctl("--", "--if-exists", "del-port", self.spec.name, ifname)

    def prepare(self, far: End) -> None:
        """Make the other end of a cable send whole checksums, where this switch needs them."""
        if self.userspace:
            set_tx_checksum(far.netns, far.ifname, on=False)

    def connected(self) -> bool:
        """Whether the controller is connected."""
        return "true" in self.daemons.vsctl("get", "controller", self.spec.name, "is_connected")

    def wait_connected(self) -> None:
        """Wait for the controller's first flow: until then nothing is forwarded.

        Not for `connected`: the database hears of the connection up to five seconds later.
        """
        deadline = time.monotonic() + _CONNECT_TIMEOUT_S
        while not self.flows():
            if time.monotonic() > deadline:
                said = self.daemons.log_tail("controller")
                raise UnderlayError(
                    f"switch {self.spec.name!r} did not reach the controller; it said: {said or 'nothing'}"
                )
            threading.Event().wait(_POLL_S)

    def flows(self) -> list[Flow]:
        """The flows installed now, for display."""
        return parse_flows(self.spec.name, self.daemons.ofctl("dump-flows", self.spec.name))

    def stop(self, deleteIntfs: bool = True) -> None:  # noqa: ARG002, N803 - Mininet's signature
        """Delete the bridge; the daemons are the underlay's to end."""
        with contextlib.suppress(UnderlayError):  # the daemons may be gone before us
            self.daemons.vsctl("--", "--if-exists", "del-br", self.spec.name)
        if self.datapath_type == "dummy" and self.kernel.observe("").link(self.spec.name):
            self.kernel.apply("", [DeleteLink(self.spec.name)])
        self.terminate()

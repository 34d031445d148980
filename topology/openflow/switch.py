"""An Open vSwitch bridge as Mininet knows it, driven by podnet's own controller.

With the kernel's datapath where there is one; else in user space (`datapath_type=netdev`), and then with transmit
checksum offload off at every interface that leads to it: without that, pings pass and TCP hangs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from podnet.topology.kernel import KernelError, SetLink
from podnet.topology.links import End
from podnet.topology.linux.ethtool import set_tx_checksum
from podnet.topology.openflow.controller import OFP_PORT
from podnet.topology.openflow.daemons import OpenFlowDaemons
from podnet.topology.openflow.flows import Flow, parse_flows
from podnet.topology.switches import KernelSwitch

USERSPACE_NOTE = (
    "this kernel has no openvswitch module: OpenFlow switches run in user space (about a tenth of the speed), "
    "and checksum offload is off at every interface that leads to them"
)


def has_kernel_datapath() -> bool:
    """Whether the openvswitch module is there (it registers a genetlink family; sysfs shows it without asking)."""
    return Path("/sys/module/openvswitch").exists()


class OpenFlowSwitch(KernelSwitch):
    """One OVS bridge. `daemons` are shared by all of an underlay."""

    bridged = False

    def __init__(self, name: str, *, daemons: OpenFlowDaemons, **params: Any) -> None:
        self.daemons = daemons
        self.userspace = not has_kernel_datapath()
        super().__init__(name, **params)

    def start(self, _controllers: Iterable[Any] = ()) -> None:
        """Create the bridge. `secure`: without a controller it forwards by the flows it has, and learns nothing."""
        name = self.spec.name
        self.daemons.vsctl(
            *("--", "--may-exist", "add-br", name),
            *("--", "set", "bridge", name, f"other_config:datapath-id={self.dpid}", "fail_mode=secure"),
            *("protocols=OpenFlow13", f"datapath_type={'netdev' if self.userspace else 'system'}"),
            *("--", "set-controller", name, f"tcp:127.0.0.1:{OFP_PORT}"),
            *("--", "set", "controller", name, "max_backoff=1000", "inactivity_probe=5000"),
        )
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

    def flows(self) -> list[Flow]:
        """The flows installed now, for display."""
        return parse_flows(self.spec.name, self.daemons.ofctl("dump-flows", self.spec.name))

    def stop(self, deleteIntfs: bool = True) -> None:  # noqa: ARG002, N803 - Mininet's signature
        """Delete the bridge; the daemons are the underlay's to end."""
        try:
            self.daemons.vsctl("--", "--if-exists", "del-br", self.spec.name)
        except KernelError:
            return
        finally:
            self.terminate()

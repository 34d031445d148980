"""The generation of a namespace's nftables rules: a number that every transaction of anybody raises by one.

One request of 20 bytes tells whether rules were touched since we last wrote them, so looking for rules that somebody
deleted by hand costs nothing while nobody does. Source: NFT_MSG_GETGEN in linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import socket
import struct

from podnet.topology.kernel import KernelError, Netns
from podnet.topology.linux import netlink
from podnet.topology.linux.syscalls import in_netns

_NETLINK_NETFILTER = 12
_NFT_MSG_GETGEN = (10 << 8) | 16
_NFTA_GEN_ID = 1
_NFGENMSG = struct.pack("=BBH", 0, 0, 0)
_TIMEOUT_S = 2.0


class Generations:
    """Asks, through one socket for each namespace that stays open: the kernel closes a netfilter socket only after the
    clean-up of the last transaction, which takes 5 to 25 ms."""

    def __init__(self) -> None:
        self._doors: dict[Netns, socket.socket] = {}

    def __call__(self, netns: Netns) -> int:
        """The current generation. KernelError where the kernel does not say."""
        try:
            return _ask(self._door(netns))
        except OSError as error:
            self.forget(netns)  # whatever may still come belongs to no later question
            raise KernelError(f"nftables generation: {error}", error.errno or 0) from error
        except KernelError:
            self.forget(netns)
            raise

    def forget(self, netns: Netns) -> None:
        """Close a namespace's socket."""
        if door := self._doors.pop(netns, None):
            door.close()

    def _door(self, netns: Netns) -> socket.socket:
        if netns not in self._doors:
            with in_netns(netns):
                door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
            door.settimeout(_TIMEOUT_S)
            self._doors[netns] = door
        return self._doors[netns]


def _ask(door: socket.socket) -> int:
    door.send(netlink.message(_NFT_MSG_GETGEN, 0, _NFGENMSG))
    for kind, flags, _, body in netlink.messages(door.recv(4096)):
        if kind == netlink.NLMSG_ERROR:
            code, text = netlink.error_of(flags, body)
            raise KernelError(f"nftables generation: {text or code}", abs(code))
        value = netlink.attributes(body, len(_NFGENMSG)).get(_NFTA_GEN_ID)
        if value is not None:
            return int.from_bytes(value, "big")
    raise KernelError("nftables generation: no answer", 5)

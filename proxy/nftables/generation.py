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


def observe_generation(netns: Netns) -> int:
    """The current generation. KernelError where the kernel does not say."""
    try:
        with in_netns(netns):
            door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        with door:
            door.settimeout(_TIMEOUT_S)
            door.send(netlink.message(_NFT_MSG_GETGEN, 0, _NFGENMSG))
            answer = door.recv(4096)
    except OSError as error:
        raise KernelError(f"nftables generation: {error}", error.errno or 0) from error
    for kind, flags, _, body in netlink.messages(answer):
        if kind == netlink.NLMSG_ERROR:
            code, text = netlink.error_of(flags, body)
            raise KernelError(f"nftables generation: {text or code}", abs(code))
        value = netlink.attributes(body, len(_NFGENMSG)).get(_NFTA_GEN_ID)
        if value is not None:
            return int.from_bytes(value, "big")
    raise KernelError("nftables generation: no answer", 5)

"""Checksum offload of an interface, by the ethtool ioctl (the `ethtool` program is not needed).

A veth leaves checksums for the hardware to fill in, and there is none. The kernel fills them in where it must; a switch
in user space reads the frame as it is, and every TCP segment through it arrives damaged. So offload is switched off at
interfaces that lead to such a switch. Source: include/uapi/linux/ethtool.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

from podnet.topology.kernel import KernelError, Netns
from podnet.topology.linux.syscalls import in_netns

_SIOCETHTOOL = 0x8946
_ETHTOOL_GTXCSUM = 0x16
_ETHTOOL_STXCSUM = 0x17


def set_tx_checksum(netns: Netns, ifname: str, *, on: bool) -> None:
    """Switch transmit checksum offload (and with it segmentation offload) on or off."""
    _ethtool(netns, ifname, _ETHTOOL_STXCSUM, int(on))


def tx_checksum(netns: Netns, ifname: str) -> bool:
    """Whether checksums are left to the hardware."""
    return bool(_ethtool(netns, ifname, _ETHTOOL_GTXCSUM, 0))


def _ethtool(netns: Netns, ifname: str, command: int, data: int) -> int:
    value = ctypes.create_string_buffer(struct.pack("=II", command, data), 8)
    request = struct.pack("16sP16x", ifname.encode(), ctypes.addressof(value))
    try:
        with in_netns(netns):
            door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        with door:
            fcntl.ioctl(door, _SIOCETHTOOL, request)
    except OSError as error:
        raise KernelError(f"checksum offload of {ifname!r}: {error.strerror}", error.errno or 0) from error
    return int(struct.unpack("=II", value.raw)[1])

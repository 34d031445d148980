"""The pcapng file format, as far as captures at named points need it: bytes out, nothing else.

One section, one interface description per point, enhanced packet blocks with nanosecond time stamps and the direction.
Source: draft-ietf-opsawg-pcapng, sections 4.1 (SHB), 4.2 (IDB), 4.3 (EPB), 4.6 (ISB).
"""

from __future__ import annotations

import struct

LINKTYPE_ETHERNET = 1
INBOUND, OUTBOUND = 1, 2

_OPT_END = 0
_SHB_HARDWARE_OS, _SHB_USERAPPL = 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL = 2, 3, 9
_EPB_FLAGS = 2
_ISB_IFRECV, _ISB_IFDROP = 4, 5


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def section_header(application: str) -> bytes:
    """The first block of a file; the section's length is not known beforehand (-1)."""
    options = _option(_SHB_USERAPPL, application.encode()) + _option(_OPT_END, b"")
    return _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + options)


def interface_description(name: str, description: str, snaplen: int) -> bytes:
    """One capture point; interfaces are numbered in the order of these blocks. Time stamps count nanoseconds."""
    options = (
        _option(_IF_NAME, name.encode())
        + _option(_IF_DESCRIPTION, description.encode())
        + _option(_IF_TSRESOL, bytes([9]))
        + _option(_OPT_END, b"")
    )
    return _block(1, struct.pack("<HHI", LINKTYPE_ETHERNET, 0, snaplen) + options)


def enhanced_packet(interface: int, time_ns: int, frame: bytes, original_length: int, direction: int = 0) -> bytes:
    """One packet seen at one interface."""
    header = struct.pack("<IIIII", interface, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), original_length)
    options = _option(_EPB_FLAGS, struct.pack("<I", direction)) + _option(_OPT_END, b"") if direction else b""
    return _block(6, header + _padded(frame) + options)


def interface_statistics(interface: int, time_ns: int, received: int, dropped: int) -> bytes:
    """How many packets an interface saw and lost, at the end of a capture."""
    options = (
        _option(_ISB_IFRECV, struct.pack("<Q", received))
        + _option(_ISB_IFDROP, struct.pack("<Q", dropped))
        + _option(_OPT_END, b"")
    )
    return _block(5, struct.pack("<III", interface, time_ns >> 32, time_ns & 0xFFFFFFFF) + options)

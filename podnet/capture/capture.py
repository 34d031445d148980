"""One capture, many points: AF_PACKET sockets opened inside each namespace, one loop, one clock, one pcapng file.

All points share one kernel, so their time stamps can be compared: sorting by time shows a packet travel from hop to
hop. Sockets stay in the namespace where they were made (packet(7)); the process itself stays where it is.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import BinaryIO

from podnet.capture import filters, pcapng
from podnet.topology.linux import syscalls

ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
SOL_PACKET, PACKET_STATISTICS, PACKET_AUXDATA = 263, 6, 8
SO_TIMESTAMPNS = 35
MAX_FRAME = 262144
RECEIVE_BUFFER = 8 << 20
BATCH = 256


@dataclass(frozen=True, slots=True)
class CapturePoint:
    """`name` is how the user wrote it and becomes the interface block's name; `netns` "" is the caller's own."""

    name: str
    netns: str
    interface: str


class CaptureError(Exception):
    """A point that cannot be opened."""


@dataclass(slots=True)
class _Tap:
    sock: socket.socket
    number: int
    seen: int = 0


@dataclass(slots=True)
class Capture:
    """A running capture. `count` 0 and `seconds` 0.0 mean: until told to stop."""

    out: BinaryIO
    count: int = 0
    seconds: float = 0.0
    taps: list[_Tap] = field(default_factory=list)
    written: int = 0
    stopped: bool = False

    def open(self, points: list[CapturePoint], program: bytes, snaplen: int) -> None:
        """Open every point and write the head of the file. From now on nothing is missed."""
        for number, point in enumerate(points):
            self.taps.append(_Tap(_open_tap(point, program), number))
        with contextlib.suppress(OSError):  # what an earlier capture left; not before all is well, and a pipe has none
            self.out.truncate(0)
        self.out.write(pcapng.section_header("podnet"))
        for point in points:
            description = f"{point.interface} in {point.netns or 'the room'}"
            self.out.write(pcapng.interface_description(point.name, description, snaplen))
        self.out.flush()

    def run(self) -> None:
        """Copy packets until the count, the time or `stop`."""
        selector = selectors.DefaultSelector()
        for tap in self.taps:
            selector.register(tap.sock, selectors.EVENT_READ, tap)
        deadline = time.monotonic() + self.seconds if self.seconds else None
        while not self.stopped and not self._full():
            left = 0.5 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                break
            batch = [record for key, _ in selector.select(min(left, 0.5)) for record in self._drain(key.data)]
            self._write(batch)
        self._finish()

    def stop(self) -> None:
        """End the loop at its next turn."""
        self.stopped = True

    def _full(self) -> bool:
        return bool(self.count) and self.written >= self.count

    def _drain(self, tap: _Tap) -> list[tuple[int, bytes]]:
        """What one tap holds now, as (time, block)."""
        records = []
        for _ in range(BATCH):
            try:
                frame, ancillary, _, address = tap.sock.recvmsg(MAX_FRAME, 128)
            except BlockingIOError:
                break
            except OSError:  # the interface went down or away: the others go on
                break
            time_ns = _timestamp_ns(ancillary)
            direction = pcapng.OUTBOUND if address[2] == PACKET_OUTGOING else pcapng.INBOUND
            frame = _with_vlan_tag(frame, ancillary)
            records.append((time_ns, pcapng.enhanced_packet(tap.number, time_ns, frame, len(frame), direction)))
            tap.seen += 1
        return records

    def _write(self, batch: list[tuple[int, bytes]]) -> None:
        if not batch:
            return
        batch.sort(key=lambda record: record[0])
        if self.count:
            batch = batch[: self.count - self.written]
        for _, block in batch:
            self.out.write(block)
        self.written += len(batch)
        self.out.flush()

    def _finish(self) -> None:
        now = time.time_ns()
        for tap in self.taps:
            received, dropped = _statistics(tap.sock)
            self.out.write(pcapng.interface_statistics(tap.number, now, max(received, tap.seen), dropped))
            tap.sock.close()
        self.out.flush()


def _open_tap(point: CapturePoint, program: bytes) -> socket.socket:
    try:
        with syscalls.in_netns(point.netns):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
                if program:
                    filters.attach_filter(sock, program)
                sock.bind((point.interface, ETH_P_ALL))
            except OSError:
                sock.close()
                raise
    except OSError as err:
        present = ", ".join(name for name in _interface_names(point.netns) if name != "lo")
        raise CaptureError(
            f"{point.name}: cannot capture on {point.interface}: {err.strerror} (there are: {present})"
        ) from err
    sock.setblocking(False)
    return sock


def _interface_names(netns: str) -> list[str]:
    with contextlib.suppress(OSError), syscalls.in_netns(netns):
        return [name for _, name in socket.if_nameindex()]
    return []


def _timestamp_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.time_ns()


def _with_vlan_tag(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """The kernel strips an 802.1Q tag into auxiliary data (tpacket_auxdata); put it back."""
    for level, kind, data in ancillary:
        if level == SOL_PACKET and kind == PACKET_AUXDATA and len(data) >= 20:
            status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
            if status & 0x10:  # TP_STATUS_VLAN_VALID
                tag = struct.pack("!HH", tpid if status & 0x40 else 0x8100, tci)
                return frame[:12] + tag + frame[12:]
    return frame


def _statistics(sock: socket.socket) -> tuple[int, int]:
    try:
        received, dropped = struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    except OSError:
        return 0, 0
    return int(received), int(dropped)


def run_capture(
    points: list[CapturePoint], *, capture_filter: str = "", count: int = 0, seconds: float = 0.0, snaplen: int = 0
) -> int:
    """Capture to standard output until SIGTERM, SIGINT or SIGHUP; what was seen is told on standard error."""
    out = os.fdopen(1, "wb", buffering=1 << 20, closefd=False)
    program = filters.compile_filter(capture_filter, snaplen or MAX_FRAME) if capture_filter else b""
    capture = Capture(out, count=count, seconds=seconds)
    try:
        capture.open(points, program, snaplen or MAX_FRAME)
    except CaptureError as err:
        print(f"podnet: {err}", file=sys.stderr)
        return 1
    except OSError as err:
        print(f"podnet: cannot write the capture: {err.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: capture.stop())
    print(f"capturing at {', '.join(point.name for point in points)}", file=sys.stderr, flush=True)
    try:
        capture.run()
    except BrokenPipeError:  # `-w - | tcpdump -r - -c 1`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the rest would be tried once more at the end
    except OSError as err:  # a full disk: what has been written is a file that can be read up to its last whole packet
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(f"podnet: the capture ended: {err.strerror}; {capture.written} packets captured", file=sys.stderr)
        return 1
    print(f"{capture.written} packets captured", file=sys.stderr, flush=True)
    return 0

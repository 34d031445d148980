"""One SPDY/3.1 connection without a socket.

    control  |1| version 3 (15) | type (16) | flags (8) | length (24) | ...
    data     |0| stream (31)                | flags (8) | length (24) | ...

`receive(bytes)` gives events; what has to be sent, answers to PING and window updates included, waits in `outgoing()`.
The rule: a broken frame ends the connection (SPDYError), a frame for a stream that is not open ends at most that stream.

Windows: every DATA is acknowledged at once, and the peer's window is not waited for. Go's spdystream, which is on the
other side of every port-forward, never sends window updates; slowing down is left to TCP below.
Source: SPDY/3.1 draft, sections 2.2 to 2.6.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from podnet.controlplane.api.spdy.headers import HeaderError, HeaderReader, HeaderWriter

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 0x01
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM = 1, 2, 3
_VERSION = 0x8003
_ID = 0x7FFFFFFF

MAX_CONTROL = 64 * 1024
MAX_DATA = 1024 * 1024
MAX_STREAMS = 4096
CHUNK = 32 * 1024
"""DATA frames are sent in pieces of this size, so that streams share a connection fairly."""


class SPDYError(Exception):
    """The peer does not speak SPDY/3.1, or too much of it."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """SYN_STREAM; it has to be answered with `reply` or `reset`."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class Data:
    """DATA, possibly empty; `fin`: the peer will send no more on this stream."""

    stream: int
    data: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    """RST_STREAM: both directions are over."""

    stream: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The peer opens no more streams."""


Event = StreamOpened | Data | StreamReset | GoAway


class Connection:
    """See the module. `client` decides who may open which stream numbers (odd ones are a client's)."""

    def __init__(self, *, client: bool = False) -> None:
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._reader = HeaderReader()
        self._writer = HeaderWriter()
        self._next = 1 if client else 2
        self._parity = 0 if client else 1
        self._last = 0
        self._receiving: set[int] = set()
        self._sending: set[int] = set()

    # -- what comes in

    def receive(self, data: bytes) -> list[Event]:
        """The events in these bytes; a frame that is not complete yet waits for the next call."""
        self._buffer += data
        events: list[Event] = []
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            length = second & 0xFFFFFF
            if length > (MAX_CONTROL if first & ~_ID else MAX_DATA):
                raise SPDYError(f"a frame of {length} bytes is too long")
            if len(self._buffer) < 8 + length:
                break
            body = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            event = self._frame(first, second >> 24, body)
            if event is not None:
                events.append(event)
        return events

    def _frame(self, first: int, flags: int, body: bytes) -> Event | None:
        if not first & ~_ID:
            return self._data(first & _ID, body, fin=bool(flags & FIN))
        if first >> 16 != _VERSION:
            raise SPDYError(f"version {(first >> 16) & 0x7FFF} is not 3")
        try:
            return self._control(first & 0xFFFF, flags, body)
        except struct.error:
            raise SPDYError("a control frame is cut short") from None
        except HeaderError as error:
            raise SPDYError(str(error)) from None

    def _control(self, kind: int, flags: int, body: bytes) -> Event | None:
        if kind == GOAWAY:
            return GoAway()
        if kind == PING:
            (number,) = struct.unpack_from(">I", body)
            if number % 2 == self._parity:  # the peer's own: ours come back with our parity
                self._control_frame(PING, 0, body[:4])
            return None
        if kind not in {SYN_STREAM, SYN_REPLY, RST_STREAM, HEADERS}:
            return None  # settings and window updates: see the module; unknown kinds are to be ignored
        stream = struct.unpack_from(">I", body)[0] & _ID
        if kind == SYN_STREAM:
            return self._opened(stream, self._reader.decode(body[10:]), fin=bool(flags & FIN))
        if kind == RST_STREAM:
            known = stream in self._receiving or stream in self._sending
            self._forget(stream)
            return StreamReset(stream) if known else None
        self._reader.decode(body[4:])  # nothing in it matters, but the deflate stream has to be followed
        return self._data(stream, b"", fin=True) if flags & FIN else None

    def _opened(self, stream: int, headers: Mapping[str, str], *, fin: bool) -> Event | None:
        if stream <= self._last or stream % 2 != self._parity:
            raise SPDYError(f"stream {stream} cannot be opened now")
        self._last = stream
        if len(self._receiving | self._sending) >= MAX_STREAMS:
            self._control_frame(RST_STREAM, 0, struct.pack(">II", stream, REFUSED_STREAM))
            return None
        self._sending.add(stream)
        if not fin:
            self._receiving.add(stream)
        return StreamOpened(stream, headers, fin)

    def _data(self, stream: int, body: bytes, *, fin: bool) -> Event | None:
        if stream not in self._receiving:
            if stream not in self._sending:
                self._control_frame(RST_STREAM, 0, struct.pack(">II", stream, INVALID_STREAM))
            return None
        if body:
            self._control_frame(WINDOW_UPDATE, 0, struct.pack(">II", stream, len(body)))
        if fin:
            self._receiving.discard(stream)
        return Data(stream, body, fin)

    def _forget(self, stream: int) -> None:
        self._receiving.discard(stream)
        self._sending.discard(stream)

    # -- what goes out

    def outgoing(self) -> bytes:
        """Everything that has to be sent, once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def open(self, headers: Mapping[str, str], *, fin: bool = False) -> int:
        """SYN_STREAM; the number of the new stream."""
        stream, self._next = self._next, self._next + 2
        head = struct.pack(">IIH", stream, 0, 0)
        self._control_frame(SYN_STREAM, FIN if fin else 0, head + self._writer.encode(headers))
        self._receiving.add(stream)
        if not fin:
            self._sending.add(stream)
        return stream

    def reply(self, stream: int) -> None:
        """SYN_REPLY without headers: the stream is accepted."""
        self._control_frame(SYN_REPLY, 0, struct.pack(">I", stream) + self._writer.encode({}))

    def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """DATA; nothing where the stream is closed on this side already."""
        if stream not in self._sending:
            return
        for at in range(0, len(data), CHUNK):
            piece = data[at : at + CHUNK]
            last = fin and at + CHUNK >= len(data)
            self._out.append(struct.pack(">II", stream, (FIN << 24 if last else 0) | len(piece)) + piece)
        if fin:
            if not data:
                self._out.append(struct.pack(">II", stream, FIN << 24))
            self._sending.discard(stream)

    def reset(self, stream: int, status: int = PROTOCOL_ERROR) -> None:
        """RST_STREAM; nothing where both sides are done."""
        if stream in self._receiving or stream in self._sending:
            self._forget(stream)
            self._control_frame(RST_STREAM, 0, struct.pack(">II", stream, status))

    def go_away(self) -> None:
        """GOAWAY: no more streams are accepted."""
        self._control_frame(GOAWAY, 0, struct.pack(">II", self._last, 0))

    def ping(self, number: int) -> None:
        """PING."""
        self._control_frame(PING, 0, struct.pack(">I", number))

    def _control_frame(self, kind: int, flags: int, body: bytes) -> None:
        self._out.append(struct.pack(">HHI", _VERSION, kind, flags << 24 | len(body)) + body)

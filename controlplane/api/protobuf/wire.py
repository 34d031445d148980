"""The protobuf wire format: a message is a run of (tag, value); this file reads the run and knows no schema.

Rule: every length is checked against the bytes at hand; a malformed message raises `WireError`, never IndexError.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations


class WireError(ValueError):
    """Bytes that are no protobuf message."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at `at` and the position after it."""
    result = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
            if shift > 63:
                raise WireError("a varint is longer than ten bytes")
    except IndexError:
        raise WireError("unexpected end of message") from None


def read_fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """The (field number, value) pairs of a message: an int for varints and fixed widths, bytes for the rest."""
    fields: list[tuple[int, int | bytes]] = []
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        if tag < 0x80:  # almost every tag is one byte
            at += 1
        else:
            tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise WireError("illegal tag 0")
        if wire == 2:
            length, at = read_varint(data, at)
            stop = at + length
            if stop > end:
                raise WireError("unexpected end of message")
            fields.append((number, data[at:stop]))
            at = stop
        elif wire == 0:
            value, at = read_varint(data, at)
            fields.append((number, value))
        elif wire in {1, 5}:
            stop = at + (8 if wire == 1 else 4)
            if stop > end:
                raise WireError("unexpected end of message")
            fields.append((number, int.from_bytes(data[at:stop], "little")))
            at = stop
        else:
            raise WireError(f"illegal wire type {wire}")
    return fields

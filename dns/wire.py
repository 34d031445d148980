"""Messages to bytes and back (RFC 1035 section 4, RFC 6891), the only place that knows the format.

The rules kept here: `decode(encode(m)) == m`; whatever the bytes, `decode` returns a message or raises `WireError`, in
time bounded by their number; names keep their case; compression pointers go backwards only and are made only for names of
the very same case, so that an asker's case never leaks into other names.

     0      2       4     6     8     10    12
    | id   | flags | QD  | AN  | NS  | AR  | question | answers | authority | additional, OPT last |

This codec is our own and not dnslib's: that one takes length bytes of 64 to 191 for labels, recurses without bound on
crossed pointers, refuses labels that are not UTF-8 and makes pointers beyond 16 KiB. dnslib, dnspython and scapy are
oracles in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from struct import error as StructError  # noqa: N812 - the name it has in its module is `error`

from podnet.dns.message import (
    A_,
    AAAA,
    AAAA_,
    CNAME,
    CNAME_,
    MX,
    MX_,
    NS,
    NS_,
    OPT_,
    PTR,
    PTR_,
    SOA,
    SOA_,
    SRV,
    SRV_,
    TXT,
    TXT_,
    A,
    Edns,
    Message,
    Question,
    Raw,
    Rdata,
    Record,
    labels_of,
    name_of,
)

HEADER = Struct("!HHHHHH")
_QUESTION_TAIL = Struct("!HH")
_RECORD_TAIL = Struct("!HHIH")
_SRV = Struct("!HHH")
_SOA = Struct("!IIIII")
_U16 = Struct("!H")

MAX_MESSAGE = 65535
MIN_UDP_PAYLOAD = 512
MAX_NAME = 255
MAX_POINTER = 0x3FFF


class WireError(ValueError):
    """The bytes are no DNS message, or the message cannot be put into bytes."""


def decode(data: bytes) -> Message:
    """The message in `data`; all of it must be used."""
    try:
        return _decode(bytes(data))
    except (IndexError, StructError) as error:
        raise WireError("message ends early") from error


def _decode(data: bytes) -> Message:
    ident, flags, questions, answers, authority, additional = HEADER.unpack_from(data)
    offset = HEADER.size
    asked = []
    for _ in range(questions):
        name, offset = decode_name(data, offset)
        qtype, qclass = _QUESTION_TAIL.unpack_from(data, offset)
        offset += 4
        asked.append(Question(name, qtype, qclass))
    sections: list[tuple[Record, ...]] = []
    edns: Edns | None = None
    extended = 0
    for section, count in enumerate((answers, authority, additional)):
        records = []
        for _ in range(count):
            name, offset = decode_name(data, offset)
            rtype, rclass, ttl, length = _RECORD_TAIL.unpack_from(data, offset)
            offset += 10
            end = offset + length
            if end > len(data):
                raise WireError("record data ends early")
            if rtype == OPT_:
                if section != 2 or edns is not None or name != ".":
                    raise WireError("OPT out of place")
                edns = Edns(rclass, ttl >> 16 & 0xFF, bool(ttl & 0x8000), _options(data, offset, end))
                extended = ttl >> 24
            else:
                records.append(Record(name, rtype, ttl, _decode_rdata(rtype, data, offset, end), rclass))
            offset = end
        sections.append(tuple(records))
    if offset != len(data):
        raise WireError(f"{len(data) - offset} bytes too many")
    return Message(
        ident,
        bool(flags & 0x8000),
        flags >> 11 & 15,
        bool(flags & 0x0400),
        bool(flags & 0x0200),
        bool(flags & 0x0100),
        bool(flags & 0x0080),
        bool(flags & 0x0020),
        bool(flags & 0x0010),
        flags & 15 | extended << 4,
        tuple(asked),
        sections[0],
        sections[1],
        sections[2],
        edns,
    )


def decode_name(data: bytes, offset: int) -> tuple[str, int]:
    """The name at `offset` and where what follows it begins."""
    labels: list[bytes] = []
    after = -1
    limit = offset
    size = 1
    while True:
        length = data[offset]
        if length == 0:
            return name_of(labels), offset + 1 if after < 0 else after
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | data[offset + 1]
            # Each jump must land before everything read so far, so there are no loops.
            if target >= limit:
                raise WireError("compression pointer does not go backwards")
            if after < 0:
                after = offset + 2
            offset = limit = target
        elif length >= 0x40:
            raise WireError(f"label type {length >> 6} is not in use")
        else:
            label = data[offset + 1 : offset + 1 + length]
            size += length + 1
            if len(label) < length:
                raise WireError("name ends early")
            if size > MAX_NAME:
                raise WireError("name is longer than 255 bytes")
            labels.append(label)
            offset += 1 + length


def _options(data: bytes, offset: int, end: int) -> tuple[tuple[int, bytes], ...]:
    options = []
    while offset < end:
        code, length = _QUESTION_TAIL.unpack_from(data, offset)
        offset += 4
        if offset + length > end:
            raise WireError("EDNS option ends early")
        options.append((code, data[offset : offset + length]))
        offset += length
    if offset != end:
        raise WireError("EDNS option ends early")
    return tuple(options)


def _decode_rdata(rtype: int, data: bytes, offset: int, end: int) -> Rdata:
    decoder = _DECODERS.get(rtype)
    # Updates carry records without data (RFC 2136); they are refused later, but they are no garbage.
    if decoder is None or offset == end:
        return Raw(data[offset:end])
    rdata, after = decoder(data, offset, end)
    if after != end:
        raise WireError("record data has another length than it says")
    return rdata


def _decode_a(data: bytes, offset: int, end: int) -> tuple[Rdata, int]:
    if end - offset != 4:
        raise WireError("an A record has 4 bytes")
    return A(IPv4Address(data[offset:end])), end


def _decode_aaaa(data: bytes, offset: int, end: int) -> tuple[Rdata, int]:
    if end - offset != 16:
        raise WireError("an AAAA record has 16 bytes")
    return AAAA(IPv6Address(data[offset:end])), end


def _decode_target(
    make: Callable[[str], Rdata],
) -> Callable[[bytes, int, int], tuple[Rdata, int]]:
    def decoder(data: bytes, offset: int, _end: int) -> tuple[Rdata, int]:
        name, after = decode_name(data, offset)
        return make(name), after

    return decoder


def _decode_mx(data: bytes, offset: int, _end: int) -> tuple[Rdata, int]:
    name, after = decode_name(data, offset + 2)
    return MX(_U16.unpack_from(data, offset)[0], name), after


def _decode_srv(data: bytes, offset: int, _end: int) -> tuple[Rdata, int]:
    name, after = decode_name(data, offset + 6)
    priority, weight, port = _SRV.unpack_from(data, offset)
    return SRV(priority, weight, port, name), after


def _decode_soa(data: bytes, offset: int, _end: int) -> tuple[Rdata, int]:
    mname, offset = decode_name(data, offset)
    rname, offset = decode_name(data, offset)
    return SOA(mname, rname, *_SOA.unpack_from(data, offset)), offset + 20


def _decode_txt(data: bytes, offset: int, end: int) -> tuple[Rdata, int]:
    strings = []
    while offset < end:
        length = data[offset]
        offset += 1
        strings.append(data[offset : offset + length])
        offset += length
    return TXT(tuple(strings)), offset


_DECODERS: dict[int, Callable[[bytes, int, int], tuple[Rdata, int]]] = {
    A_: _decode_a,
    AAAA_: _decode_aaaa,
    CNAME_: _decode_target(CNAME),
    NS_: _decode_target(NS),
    PTR_: _decode_target(PTR),
    MX_: _decode_mx,
    SRV_: _decode_srv,
    SOA_: _decode_soa,
    TXT_: _decode_txt,
}


def encode(message: Message, max_size: int = MAX_MESSAGE) -> bytes:
    """The bytes of a message in at most `max_size`: records that do not fit are left out from the end, and TC says so.

    The question and OPT always stay (a message of those alone may exceed a size below 512, which nobody asks for).
    """
    writer = _Writer()
    for question in message.questions:
        writer.name(question.name)
        writer.data += _QUESTION_TAIL.pack(question.type, question.qclass)
    opt = _encode_opt(message)
    counts, cut = _write_records(writer, message, min(max_size, MAX_MESSAGE) - len(opt))
    header = HEADER.pack(
        message.id,
        _flags(message, truncated=cut or message.truncated),
        len(message.questions),
        counts[0],
        counts[1],
        counts[2] + bool(opt),
    )
    return header + bytes(writer.data[HEADER.size :]) + opt


def _write_records(writer: _Writer, message: Message, limit: int) -> tuple[list[int], bool]:
    """How many records of each section fit, and whether one did not."""
    counts = [0, 0, 0]
    for section, records in enumerate((message.answers, message.authority, message.additional)):
        for record in records:
            size = len(writer.data)
            writer.record(record)
            if len(writer.data) > limit:
                del writer.data[size:]
                return counts, True
            counts[section] += 1
    return counts, False


def _flags(message: Message, *, truncated: bool) -> int:
    return (
        message.response << 15
        | message.opcode << 11
        | message.authoritative << 10
        | truncated << 9
        | message.recursion_desired << 8
        | message.recursion_available << 7
        | message.authentic_data << 5
        | message.checking_disabled << 4
        | message.rcode & 15
    )


def _encode_opt(message: Message) -> bytes:
    edns = message.edns
    if edns is None:
        return b""
    options = b"".join(_QUESTION_TAIL.pack(code, len(value)) + value for code, value in edns.options)
    ttl = (message.rcode >> 4) << 24 | edns.version << 16 | edns.do << 15
    return b"\0" + _RECORD_TAIL.pack(OPT_, edns.payload, ttl, len(options)) + options


@lru_cache(maxsize=4096)
def encode_name(name: str) -> bytes:
    """A name without compression."""
    try:
        labels = labels_of(name)
    except ValueError as error:
        raise WireError(str(error)) from error
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


class _Writer:
    """Bytes under way, and where each name in them stands."""

    __slots__ = ("_known", "data")

    def __init__(self) -> None:
        self.data = bytearray(HEADER.size)
        self._known: dict[bytes, int] = {}

    def name(self, name: str) -> None:
        """A name, as a pointer where it or its end is there already."""
        rest = encode_name(name)
        while len(rest) > 1:
            at = self._known.get(rest)
            if at is not None:
                self.data += _U16.pack(0xC000 | at)
                return
            if len(self.data) <= MAX_POINTER:
                self._known[rest] = len(self.data)
            label_end = rest[0] + 1
            self.data += rest[:label_end]
            rest = rest[label_end:]
        self.data += b"\0"

    def record(self, record: Record) -> None:
        """Owner, type, class, TTL, length and data."""
        self.name(record.name)
        start = len(self.data)
        self.data += _RECORD_TAIL.pack(record.type, record.rclass, record.ttl, 0)
        self._rdata(record.data)
        length = len(self.data) - start - 10
        if length > MAX_MESSAGE:
            raise WireError("record data is longer than 65535 bytes")
        _U16.pack_into(self.data, start + 8, length)

    def _rdata(self, data: Rdata) -> None:
        match data:
            case A() | AAAA():
                self.data += data.address.packed
            case CNAME() | NS() | PTR():
                self.name(data.target)
            case SRV():
                self.data += _SRV.pack(data.priority, data.weight, data.port)
                # RFC 2782: the target is not compressed.
                self.data += encode_name(data.target)
            case SOA():
                self.name(data.mname)
                self.name(data.rname)
                self.data += _SOA.pack(data.serial, data.refresh, data.retry, data.expire, data.minimum)
            case TXT():
                if not data.strings:
                    raise WireError("a TXT record has at least one string")
                for text in data.strings:
                    if len(text) > 255:
                        raise WireError("a character string has at most 255 bytes")
                    self.data += bytes((len(text),)) + text
            case MX():
                self.data += _U16.pack(data.preference)
                self.name(data.exchange)
            case _:
                self.data += data.data


def ttl_offsets(data: bytes) -> list[int]:
    """Where the TTLs of all records but OPT stand in an encoded message."""
    _, _, questions, *counts = HEADER.unpack_from(data)
    offset = HEADER.size
    for _ in range(questions):
        offset = decode_name(data, offset)[1] + 4
    found: list[int] = []
    while offset < len(data) and len(found) < sum(counts):
        offset = decode_name(data, offset)[1]
        rtype, _, _, length = _RECORD_TAIL.unpack_from(data, offset)
        if rtype != OPT_:
            found.append(offset + 4)
        offset += 10 + length
    return found

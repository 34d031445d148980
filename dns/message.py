r"""DNS messages as values: names, records, questions, whole messages.

The rule kept here: data only. Nothing in this file reads bytes (`wire.py` does), asks anybody or looks at a clock.

Names are text in presentation form, absolute, with the case they came in: `Web.prod.svc.cluster.local.`; the root is `.`.
A dot or backslash inside a label is `\.` and `\\`, an unprintable byte `\DDD` (RFC 1035 section 5.1, RFC 4343).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Final, TypeAlias

# Types (RFC 1035 and later ones), by their field names.
A_, NS_, CNAME_, SOA_, PTR_, HINFO_, MX_, TXT_ = 1, 2, 5, 6, 12, 13, 15, 16
AAAA_, SRV_, NAPTR_, OPT_, SVCB_, HTTPS_ = 28, 33, 35, 41, 64, 65
IXFR_, AXFR_, ANY_ = 251, 252, 255
TYPE_NAMES: Final[dict[int, str]] = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 17: "RP", 18: "AFSDB",
    24: "SIG", 25: "KEY", 28: "AAAA", 29: "LOC", 33: "SRV", 35: "NAPTR", 37: "CERT", 39: "DNAME", 41: "OPT",
    43: "DS", 44: "SSHFP", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA",
    59: "CDS", 60: "CDNSKEY", 64: "SVCB", 65: "HTTPS", 99: "SPF", 251: "IXFR", 252: "AXFR", 255: "ANY",
    256: "URI", 257: "CAA",
}  # fmt: skip
TYPE_NUMBERS: Final[dict[str, int]] = {name: number for number, name in TYPE_NAMES.items()}

IN, CH, HS, NONE_CLASS, ANY_CLASS = 1, 3, 4, 254, 255
CLASS_NAMES: Final[dict[int, str]] = {1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}
CLASS_NUMBERS: Final[dict[str, int]] = {name: number for number, name in CLASS_NAMES.items()}

QUERY, IQUERY, STATUS, NOTIFY, UPDATE = 0, 1, 2, 4, 5

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, NOTAUTH, BADVERS = 0, 1, 2, 3, 4, 5, 9, 16
RCODE_NAMES: Final[dict[int, str]] = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 7: "YXRRSET",
    8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 16: "BADVERS", 22: "BADTRUNC", 23: "BADCOOKIE",
}  # fmt: skip
RCODE_NUMBERS: Final[dict[str, int]] = {name: number for number, name in RCODE_NAMES.items()}


def type_name(number: int) -> str:
    """`AAAA` for 28; `TYPE12345` for a type without a name here (RFC 3597)."""
    return TYPE_NAMES.get(number) or f"TYPE{number}"


def type_number(name: str) -> int:
    """The other way round, in any case; KeyError for what is no type."""
    name = name.upper()
    if name.startswith("TYPE") and name[4:].isdigit() and int(name[4:]) < 65536:
        return int(name[4:])
    return TYPE_NUMBERS[name]


def class_name(number: int) -> str:
    """`IN` for 1."""
    return CLASS_NAMES.get(number) or f"CLASS{number}"


def rcode_name(number: int) -> str:
    """`NXDOMAIN` for 3."""
    return RCODE_NAMES.get(number) or f"RCODE{number}"


@dataclass(frozen=True, slots=True)
class A:
    """An IPv4 address (RFC 1035)."""

    TYPE: ClassVar[int] = A_
    address: IPv4Address

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class AAAA:
    """An IPv6 address (RFC 3596)."""

    TYPE: ClassVar[int] = AAAA_
    address: IPv6Address

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class CNAME:
    """The canonical name of an alias."""

    TYPE: ClassVar[int] = CNAME_
    target: str

    def __str__(self) -> str:
        return self.target


@dataclass(frozen=True, slots=True)
class NS:
    """A name server of the zone."""

    TYPE: ClassVar[int] = NS_
    target: str

    def __str__(self) -> str:
        return self.target


@dataclass(frozen=True, slots=True)
class PTR:
    """The name behind an address."""

    TYPE: ClassVar[int] = PTR_
    target: str

    def __str__(self) -> str:
        return self.target


@dataclass(frozen=True, slots=True)
class MX:
    """A mail exchange."""

    TYPE: ClassVar[int] = MX_
    preference: int
    exchange: str

    def __str__(self) -> str:
        return f"{self.preference} {self.exchange}"


@dataclass(frozen=True, slots=True)
class SRV:
    """Where a service listens (RFC 2782)."""

    TYPE: ClassVar[int] = SRV_
    priority: int
    weight: int
    port: int
    target: str

    def __str__(self) -> str:
        return f"{self.priority} {self.weight} {self.port} {self.target}"


@dataclass(frozen=True, slots=True)
class TXT:
    """Character strings, each at most 255 bytes."""

    TYPE: ClassVar[int] = TXT_
    strings: tuple[bytes, ...]

    def __str__(self) -> str:
        return " ".join('"' + _escape(text, b'"\\') + '"' for text in self.strings)


@dataclass(frozen=True, slots=True)
class SOA:
    """The start of a zone; `minimum` is the TTL of negative answers (RFC 2308)."""

    TYPE: ClassVar[int] = SOA_
    mname: str
    rname: str
    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int

    def __str__(self) -> str:
        numbers = f"{self.serial} {self.refresh} {self.retry} {self.expire} {self.minimum}"
        return f"{self.mname} {self.rname} {numbers}"


@dataclass(frozen=True, slots=True)
class Raw:
    """Record data of a type this server does not look into (RFC 3597)."""

    data: bytes

    def __str__(self) -> str:
        return f"\\# {len(self.data)} {self.data.hex()}".rstrip()


Rdata: TypeAlias = A | AAAA | CNAME | NS | PTR | MX | SRV | TXT | SOA | Raw
TYPED: Final = (A, AAAA, CNAME, NS, PTR, MX, SRV, TXT, SOA)


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record. Make one with `record(name, ttl, data)`, which knows the type."""

    name: str
    type: int
    ttl: int
    data: Rdata
    rclass: int = IN

    def __str__(self) -> str:
        return f"{self.name}\t{self.ttl}\t{class_name(self.rclass)}\t{type_name(self.type)}\t{self.data}"


def record(name: str, ttl: int, data: Rdata, *, rtype: int = 0) -> Record:
    """A record of class IN whose type follows from its data; `rtype` says it for `Raw`."""
    return Record(name, rtype if isinstance(data, Raw) else data.TYPE, ttl, data)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, in the asker's own case."""

    name: str
    type: int
    qclass: int = IN


@dataclass(frozen=True, slots=True)
class Edns:
    """The OPT pseudo-record (RFC 6891); the upper bits of the rcode are in `Message.rcode`."""

    payload: int = 1232
    version: int = 0
    do: bool = False
    options: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message. OPT is not among `additional`; it is `edns`."""

    id: int = 0
    response: bool = False
    opcode: int = QUERY
    authoritative: bool = False
    truncated: bool = False
    recursion_desired: bool = False
    recursion_available: bool = False
    authentic_data: bool = False
    checking_disabled: bool = False
    rcode: int = NOERROR
    questions: tuple[Question, ...] = ()
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    edns: Edns | None = field(default=None)

    @property
    def question(self) -> Question:
        """The one question of a query that the server let in."""
        return self.questions[0]

    def with_(self, **changes: object) -> Message:
        """A copy with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]


def query(name: str, qtype: int, *, id_: int = 0, edns: Edns | None = None, recursion: bool = True) -> Message:
    """A query as a stub resolver sends it."""
    return Message(id=id_, recursion_desired=recursion, questions=(Question(fqdn(name), qtype),), edns=edns)


def reply(
    asked: Message,
    rcode: int = NOERROR,
    *,
    answers: Iterable[Record] = (),
    authority: Iterable[Record] = (),
    additional: Iterable[Record] = (),
    authoritative: bool = True,
) -> Message:
    """An answer to `asked`: same id, question, RD and CD. EDNS is added at the door (`server.py`), not here."""
    return Message(
        id=asked.id,
        response=True,
        opcode=asked.opcode,
        authoritative=authoritative,
        recursion_desired=asked.recursion_desired,
        checking_disabled=asked.checking_disabled,
        rcode=rcode,
        questions=asked.questions,
        answers=tuple(answers),
        authority=tuple(authority),
        additional=tuple(additional),
    )


def fqdn(name: str) -> str:
    """With the final dot."""
    return name if name.endswith(".") and not name.endswith("\\.") else name + "."


def is_subdomain(name: str, zone: str) -> bool:
    """Is `name` the zone itself or below it? Both lower-case, absolute."""
    if zone in {".", name}:
        return True
    # A dot that is part of a label is escaped, so the character before the suffix decides.
    return name.endswith("." + zone) and not _escaped_at(name, len(name) - len(zone) - 1)


def _escaped_at(name: str, index: int) -> bool:
    slashes = 0
    while index - slashes > 0 and name[index - slashes - 1] == "\\":
        slashes += 1
    return slashes % 2 == 1


def labels_of(name: str) -> tuple[bytes, ...]:
    """The labels of a name, unescaped. ValueError for what is no name."""
    if name == ".":
        return ()
    if "\\" not in name and name.isascii():
        parts = tuple(name.encode().removesuffix(b".").split(b"."))
    else:
        parts = _unescape_labels(name)
    if not all(0 < len(part) < 64 for part in parts):
        raise ValueError(f"{name!r}: a label must have 1 to 63 bytes")
    if sum(len(part) + 1 for part in parts) > 254:
        raise ValueError(f"{name!r}: longer than 255 bytes")
    return parts


def _unescape_labels(name: str) -> tuple[bytes, ...]:
    labels: list[bytes] = []
    current = bytearray()
    index = 0
    while index < len(name):
        char = name[index]
        if char == ".":
            labels.append(bytes(current))
            current.clear()
            index += 1
        elif char == "\\":
            digits = name[index + 1 : index + 4]
            if len(digits) == 3 and digits.isascii() and digits.isdigit() and int(digits) < 256:
                current.append(int(digits))
                index += 4
            elif digits and digits[0].isascii() and not digits[0].isdigit():
                current.append(ord(digits[0]))
                index += 2
            else:
                raise ValueError(f"{name!r}: bad escape")
        else:
            current += char.encode()
            index += 1
    if current:
        labels.append(bytes(current))
    return tuple(labels)


def name_of(labels: Iterable[bytes]) -> str:
    """The presentation form of labels."""
    text = "".join([_escape(label, b'.\\"();@$') + "." for label in labels])
    return text or "."


_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*/+:=,!#%&'<>?[]^`{|}~")


def _escape(data: bytes, special: bytes) -> str:
    if _PLAIN.issuperset(data):
        return data.decode("ascii")
    pieces = []
    for byte in data:
        if byte in special:
            pieces.append("\\" + chr(byte))
        elif 0x20 <= byte < 0x7F and not (byte == 0x20 and b"." in special):
            pieces.append(chr(byte))
        else:
            pieces.append(f"\\{byte:03d}")
    return "".join(pieces)

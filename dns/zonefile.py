r"""Master files (RFC 1035 section 5): text in, records out.

The rule kept here: pure, and strict: a line that cannot be read is an error with file and line, never left out.
Known: $ORIGIN, $TTL, `@`, relative names, owners left out, parentheses, comments, quoted strings, TTLs such as 1h30m, and
`\# LENGTH HEX` for any type (RFC 3597). Types nothing here looks into are in `rare_types.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from podnet.dns.message import (
    AAAA,
    CLASS_NUMBERS,
    CNAME,
    MX,
    NS,
    PTR,
    SOA,
    SRV,
    TXT,
    A,
    Raw,
    Rdata,
    Record,
    class_name,
    labels_of,
    type_name,
    type_number,
)
from podnet.dns.rare_types import Word, encode_rare

MAX_TTL = 2**31 - 1
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([()])|;[^\n]*|((?:[^\s;()"\\]|\\.)+)', re.DOTALL)
_TTL = re.compile(r"(?:\d+[smhdw]?)+", re.IGNORECASE)
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class ZoneFileError(ValueError):
    """A line that is no record."""


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    quoted: bool = False


def parse_zone_file(text: str, origin: str, *, file: str = "zone", default_ttl: int | None = None) -> list[Record]:
    """All records. `origin` is the zone; names without a final dot are below it."""
    records: list[Record] = []
    owner, ttl = origin, default_ttl
    for number, blank, words in _entries(text, file):
        try:
            if words[0].text.upper() == "$ORIGIN":
                origin = _absolute(words[1].text, origin)
            elif words[0].text.upper() == "$TTL":
                ttl = parse_ttl(words[1].text)
            elif words[0].text.startswith("$"):
                raise ZoneFileError(f"{words[0].text} is not supported")
            else:
                record = _record(words, owner if blank else None, origin, ttl)
                owner = record.name
                # Where neither the line nor $TTL says it, the last one said counts (RFC 1035).
                ttl = record.ttl if ttl is None else ttl
                records.append(record)
        except (ValueError, KeyError, IndexError) as error:
            raise ZoneFileError(f"{file}:{number}: {error or 'the line ends early'}") from error
    return records


def parse_record(text: str, origin: str = ".") -> Record:
    """One record on one line, as templates make them; without a TTL it is 3600."""
    entries = list(_entries(text, "record"))
    if len(entries) != 1:
        raise ZoneFileError("not one record")
    try:
        return _record(entries[0][2], None, origin, 3600)
    except (ValueError, KeyError, IndexError) as error:
        raise ZoneFileError(f"{error or 'the line ends early'}") from error


def parse_ttl(text: str) -> int:
    """Seconds of `3600`, `1h`, `1h30m`."""
    if not _TTL.fullmatch(text):
        raise ZoneFileError(f"'{text}' is no TTL")
    total = sum(int(number) * _UNIT_S[unit.lower()] for number, unit in re.findall(r"(\d+)([a-zA-Z]?)", text))
    if total > MAX_TTL:
        raise ZoneFileError(f"TTL {text} is too large")
    return total


def _entries(text: str, file: str) -> Iterator[tuple[int, bool, list[_Word]]]:
    """Line number, does it begin blank, and the words; parentheses join lines."""
    words: list[_Word] = []
    depth, start, blank = 0, 1, False
    for number, line in enumerate(text.splitlines(), 1):
        at = 0
        if depth == 0:
            start, blank = number, line[:1].isspace()
        while at < len(line):
            if line[at].isspace():
                at += 1
                continue
            found = _TOKEN.match(line, at)
            if found is None:
                raise ZoneFileError(f"{file}:{number}: cannot read {line[at:]!r}")
            at = found.end()
            if found[2]:
                depth += 1 if found[2] == "(" else -1
                if depth < 0:
                    raise ZoneFileError(f"{file}:{number}: unexpected ')'")
            elif found[1] is not None:
                words.append(_Word(found[1], quoted=True))
            elif found[3]:
                words.append(_Word(found[3]))
        if depth == 0 and words:
            yield start, blank, words
            words = []
    if depth:
        raise ZoneFileError(f"{file}:{start}: '(' is never closed")


def _record(words: Sequence[_Word], owner: str | None, origin: str, ttl: int | None) -> Record:
    rest = list(words)
    if owner is None:
        owner = _absolute(rest.pop(0).text, origin)
    rclass = 1
    while rest:
        text = rest[0].text
        if text.upper() in CLASS_NUMBERS and text.upper() != "ANY":
            rclass = CLASS_NUMBERS[text.upper()]
        elif _TTL.fullmatch(text) and not rest[0].quoted:
            ttl = parse_ttl(text)
        else:
            break
        rest.pop(0)
    try:
        rtype = type_number(rest[0].text)
    except KeyError:
        raise ZoneFileError(f"'{rest[0].text}' is no type") from None
    if ttl is None:
        raise ZoneFileError("no TTL, and no $TTL before")
    return Record(owner, rtype, ttl, _rdata(rtype, rest[1:], origin), rclass)


def _rdata(rtype: int, words: list[_Word], origin: str) -> Rdata:
    if words and words[0].text == "\\#":
        data = bytes.fromhex("".join(word.text for word in words[2:]))
        if len(data) != int(words[1].text):
            raise ZoneFileError("the data has another length than it says")
        return Raw(data)
    parser = _PARSERS.get(rtype)
    if parser is None:
        rare = [Word(word.text, partial(_absolute, word.text, origin), partial(_string, word)) for word in words]
        found = encode_rare(rtype, rare)
        if found is not None:
            return Raw(found)
        raise ZoneFileError(f"data of type {type_name(rtype)} must be given as \\# LENGTH HEX")
    count, make = parser
    if (count and len(words) != count) or not words:
        raise ZoneFileError(f"a {type_name(rtype)} record has {count or 'some'} values, not {len(words)}")
    try:
        return make(words, origin)
    except AddressValueError as error:
        raise ZoneFileError(f"no address: {error}") from error


def _absolute(text: str, origin: str) -> str:
    if text == "@":
        return origin
    name = text if text.endswith(".") and not text.endswith("\\.") else f"{text}." + ("" if origin == "." else origin)
    labels_of(name)
    return name


def _number(word: _Word, high: int) -> int:
    if not (word.text.isascii() and word.text.isdigit()) or int(word.text) > high:
        raise ZoneFileError(f"'{word.text}' is not a number up to {high}")
    return int(word.text)


def _string(word: _Word) -> bytes:
    def byte(found: re.Match[str]) -> str:
        return chr(int(found[1])) if found[1].isdigit() and int(found[1]) < 256 else found[1]

    data = re.sub(r"\\(\d{3}|.)", byte, word.text).encode("latin-1", "replace")
    if len(data) > 255:
        raise ZoneFileError("a character string has at most 255 bytes")
    return data


def _soa(words: list[_Word], origin: str) -> Rdata:
    times = [parse_ttl(word.text) for word in words[3:]]
    return SOA(_absolute(words[0].text, origin), _absolute(words[1].text, origin), _number(words[2], 2**32 - 1), *times)


_Parser = Callable[[list[_Word], str], Rdata]
_PARSERS: dict[int, tuple[int, _Parser]] = {
    A.TYPE: (1, lambda words, _: A(IPv4Address(words[0].text))),
    AAAA.TYPE: (1, lambda words, _: AAAA(IPv6Address(words[0].text))),
    CNAME.TYPE: (1, lambda words, origin: CNAME(_absolute(words[0].text, origin))),
    NS.TYPE: (1, lambda words, origin: NS(_absolute(words[0].text, origin))),
    PTR.TYPE: (1, lambda words, origin: PTR(_absolute(words[0].text, origin))),
    MX.TYPE: (2, lambda words, origin: MX(_number(words[0], 65535), _absolute(words[1].text, origin))),
    SRV.TYPE: (
        4,
        lambda words, origin: SRV(
            _number(words[0], 65535),
            _number(words[1], 65535),
            _number(words[2], 65535),
            _absolute(words[3].text, origin),
        ),
    ),
    TXT.TYPE: (0, lambda words, _: TXT(tuple(_string(word) for word in words))),
    SOA.TYPE: (7, _soa),
}


def render_record(record: Record) -> str:
    """The line that parses to the record."""
    return f"{record.name} {record.ttl} {class_name(record.rclass)} {type_name(record.type)} {record.data}"

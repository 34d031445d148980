"""Record data that zone files have and nothing here looks into: presentation form to wire bytes.

The rule kept here: pure. Types this server works with are classes in `message.py`; these go to the client as they are, so
bytes are all that is needed of them.

Sources: RFC 1035 (HINFO), 1183 (RP, AFSDB), 3403 (NAPTR), 4034 (DS, DNSKEY), 4255 (SSHFP), 6672 (DNAME), 6698 (TLSA),
7553 (URI), 8659 (CAA).
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from podnet.dns.wire import encode_name


@dataclass(frozen=True, slots=True)
class Word:
    """One value of a record: its text, the name it stands for (made absolute when asked), its bytes as a string."""

    text: str
    name: Callable[[], str]
    string: Callable[[], bytes]


Part = Callable[[Sequence[Word]], bytes]
"""From the words that are left to bytes; a part takes one word, the last one may take all."""


def _number(size: int) -> Part:
    def part(words: Sequence[Word]) -> bytes:
        text = words[0].text
        if not (text.isascii() and text.isdigit()) or int(text) >> 8 * size:
            raise ValueError(f"'{text}' is not a number of {size} bytes")
        return int(text).to_bytes(size, "big")

    return part


def _name(words: Sequence[Word]) -> bytes:
    return encode_name(words[0].name())


def _string(words: Sequence[Word]) -> bytes:
    data = words[0].string()
    return bytes((len(data),)) + data


def _rest_string(words: Sequence[Word]) -> bytes:
    return b"".join(word.string() for word in words)


def _rest_hex(words: Sequence[Word]) -> bytes:
    return bytes.fromhex("".join(word.text for word in words))


def _rest_base64(words: Sequence[Word]) -> bytes:
    return b64decode("".join(word.text for word in words), validate=True)


BYTE, SHORT = _number(1), _number(2)
DNAME_ = 39
_FORMS: dict[int, tuple[Part, ...]] = {
    13: (_string, _string),  # HINFO
    17: (_name, _name),  # RP
    18: (SHORT, _name),  # AFSDB
    35: (SHORT, SHORT, _string, _string, _string, _name),  # NAPTR
    DNAME_: (_name,),
    43: (SHORT, BYTE, BYTE, _rest_hex),  # DS
    44: (BYTE, BYTE, _rest_hex),  # SSHFP
    48: (SHORT, BYTE, BYTE, _rest_base64),  # DNSKEY
    52: (BYTE, BYTE, BYTE, _rest_hex),  # TLSA
    256: (SHORT, SHORT, _rest_string),  # URI
    257: (BYTE, _string, _rest_string),  # CAA
}
_OPEN = (_rest_hex, _rest_base64)


def encode_rare(rtype: int, words: Sequence[Word]) -> bytes | None:
    """The data, or None for a type that is not known here. ValueError for what is no such data."""
    form = _FORMS.get(rtype)
    if form is None:
        return None
    if len(words) < len(form) or (len(words) > len(form) and form[-1] not in _OPEN):
        raise ValueError(f"there are {len(form)} values in such a record, not {len(words)}")
    return b"".join(part(words[index:]) for index, part in enumerate(form))

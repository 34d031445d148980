"""The fast path: answers served as bytes, without decoding the query or asking a plugin.

    query   | id | flags counts | question (any case) | [OPT] |
                  └────── key, in lower case ───────┘
    answer  | id | head         | that question       | body  | [that OPT] |

The rule kept here: this table never invents anything. An entry is an answer which the chain (the slow path) gave to the
very same question and said could be given again (`handler.Reuse`), or one that a plugin had prepared (`Plugin.prepare`);
it is gone when its data changes or its time is over. Whatever looks unusual (other flags, several questions, EDNS
options, DO, an answer too long for the client, a mixed-case question whose answer repeats names outside of pointers)
is not for this file: `answer` returns None and the slow path takes it. tests/unit/dns/test_fastpath.py proves both equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from podnet.dns.handler import Reuse, Validity, WireAnswer
from podnet.dns.message import AAAA, SOA, TXT, A, Message
from podnet.dns.wire import ttl_offsets

MAX_ENTRIES = 65_536
OPT_SIZE = 11
"""The length of an OPT record without options."""
_OPT_START = b"\0\0\x29"
_NO_OPT_FLAGS = b"\0\0\0\0\0\0"
"""Extended rcode, version, flags, length of options."""
_FLAGS_OF_QUERIES = frozenset({0x0000, 0x0100, 0x0020, 0x0120})
"""A standard query with or without RD and AD (dig sets it)."""
_FOREVER = Validity()

Source: TypeAlias = Callable[[bytes], tuple[str, WireAnswer] | None]
"""From a question in lower case to the server block's zone and the prepared answer."""
Observer: TypeAlias = Callable[["Entry", int], None]


class Entry:
    """One prepared answer."""

    __slots__ = ("aged", "body", "case_safe", "expires", "head", "hits", "offsets", "others", "qtype", "request_size", "reuse", "size", "span", "stride",
                 "tick", "turn", "validity", "zone")  # fmt: skip

    def __init__(self, tail: bytes, head: bytes, body: bytes, reuse: Reuse, *, case_safe: bool, zone: str) -> None:
        self.head = head
        self.body = body
        self.request_size = len(tail) + 2
        self.size = self.request_size + len(body)
        self.qtype = tail[-4] << 8 | tail[-3]
        self.reuse = reuse
        self.zone = zone
        self.case_safe = case_safe
        self.validity = reuse.validities[0] if reuse.validities else _FOREVER
        self.others = reuse.validities[1:]
        self.expires = reuse.expires
        self.tick = self.expires
        self.hits = 0
        self.stride = self.span = self.turn = 0
        self.offsets: tuple[int, ...] = ()
        self.aged = 0

    @property
    def rcode(self) -> int:
        """Of the answer."""
        return self.head[1] & 15


class FastPath:
    """The table of one UDP socket. `source` is asked for names that are not in it; `observer` is told of hits."""

    def __init__(self, source: Source | None = None, observer: Observer | None = None) -> None:
        self._table: dict[bytes, Entry] = {}
        self.source = source
        self.observer = observer
        self.seconds = 0.0
        self.queries = 0

    def __len__(self) -> int:
        return len(self._table)

    def answer(self, data: bytes, now: float) -> bytes | None:
        """The whole answer to a UDP query, or None: the slow path must find out."""
        if len(data) < 17:
            return None
        if data[11]:
            opt = data[-OPT_SIZE:]
            if opt[:3] != _OPT_START or opt[5:] != _NO_OPT_FLAGS:
                return None
            limit = (opt[3] << 8 | opt[4]) - OPT_SIZE
            limit = max(limit, 501)
            tail = data[2:-OPT_SIZE]
        else:
            opt = b""
            limit = 512
            tail = data[2:]
        entry = self._table.get(tail)
        if entry is None:
            entry = self._other_entry(tail)
            if entry is None:
                return None
        if now >= entry.tick or not entry.validity.valid or entry.others:
            entry = self._still_good(tail, entry, now)
            if entry is None:
                return None
        if entry.size > limit:
            return None
        entry.hits += 1
        if entry.stride:
            turn = entry.turn = (entry.turn + entry.stride) % entry.span
            body = entry.body
            return b"".join(
                (data[:2], entry.head, tail[10:], body[turn : entry.span], body[:turn], body[entry.span :], opt)
            )
        return data[:2] + entry.head + tail[10:] + entry.body + opt

    def learn(self, data: bytes, out: bytes, message: Message, reuse: Reuse, zone: str, now: float) -> None:
        """Keep the answer `out` which the slow path gave to `data` at `now`, if it is of the kind this table serves."""
        has_opt = bool(data[11])
        tail = data[2:-OPT_SIZE] if has_opt else data[2:]
        opt = data[-OPT_SIZE:] if has_opt else b""
        # Without EDNS every client takes 512 bytes, so even what is cut is the same for all of them.
        truncated = bool(out[2] & 2)
        if (truncated and has_opt) or not _usual(data, opt) or tail != _lower(tail):
            return
        question_end = len(tail) + 2
        if out[12:question_end] != tail[10:] or (has_opt and out[-OPT_SIZE:] != opt):
            return
        body = out[question_end : len(out) - len(opt)]
        entry = Entry(tail, out[2:12], body, reuse, case_safe=_case_safe(message), zone=zone)
        if reuse.rotates and not truncated and not _set_rotation(entry, message):
            return
        if reuse.ages_from is not None:
            entry.offsets = tuple(offset - question_end for offset in ttl_offsets(out[: question_end + len(body)]))
            entry.aged = int(now - reuse.ages_from)
            entry.tick = min(entry.expires, reuse.ages_from + entry.aged + 1)
        self._put(tail, entry)

    def clear(self) -> None:
        """Forget everything: there is a new Corefile."""
        self.flush()
        self._table.clear()

    def flush(self) -> None:
        """Tell everybody who counts how often each answer was served."""
        for entry in self._table.values():
            self._flush(entry)

    def _flush(self, entry: Entry) -> None:
        hits, entry.hits = entry.hits, 0
        if hits and self.observer:
            self.observer(entry, hits)
        if hits and entry.reuse.counted:
            entry.reuse.counted(hits)

    def _put(self, tail: bytes, entry: Entry) -> None:
        old = self._table.pop(tail, None)
        if old is not None:
            self._flush(old)
        elif len(self._table) >= MAX_ENTRIES:
            # The oldest goes: a dictionary keeps the order of insertion.
            self._flush(self._table.pop(next(iter(self._table))))
        self._table[tail] = entry

    def _other_entry(self, tail: bytes) -> Entry | None:
        """The entry under the lower-case name, or one from a plugin that has it prepared."""
        lower = _lower(tail)
        if lower != tail:
            entry = self._table.get(lower)
            if entry is not None:
                return entry if entry.case_safe else None
        flags = tail[0] << 8 | tail[1]
        if self.source is None or flags not in _FLAGS_OF_QUERIES or tail[2:8] != b"\0\1\0\0\0\0" or tail[8]:
            return None
        found = self.source(lower[10:])
        if found is None or (lower != tail and not found[1].case_safe):
            return None
        zone, prepared = found
        entry = _entry_of(tail, prepared, zone)
        if prepared.reuse is not None:
            self._put(lower, entry)
        return entry

    def _still_good(self, tail: bytes, entry: Entry, now: float) -> Entry | None:
        """The entry with its TTLs brought up to date, or None when its time is over."""
        if now >= entry.expires or not entry.validity.valid or not all(each.valid for each in entry.others):
            self._flush(entry)
            self._table.pop(_lower(tail), None)
            return None
        if now >= entry.tick and entry.reuse.ages_from is not None:
            passed = int(now - entry.reuse.ages_from)
            entry.body = _aged(entry.body, entry.offsets, passed - entry.aged)
            entry.aged = passed
            entry.tick = min(entry.expires, entry.reuse.ages_from + passed + 1)
        return entry


def _usual(data: bytes, opt: bytes) -> bool:
    flags = data[2] << 8 | data[3]
    if flags not in _FLAGS_OF_QUERIES or data[4:10] != b"\0\1\0\0\0\0" or data[10]:
        return False
    return not opt or (data[11] == 1 and opt[:3] == _OPT_START and opt[5:] == _NO_OPT_FLAGS)


def _lower(tail: bytes) -> bytes:
    """Counts, type and class are numbers and stay; in a name only letters change, for lengths are below 64."""
    return tail[:10] + tail[10:-4].lower() + tail[-4:]


def _case_safe(message: Message) -> bool:
    """Is every name in the answer the question's own, or the end of it in a SOA? Those are pointers."""
    name = message.question.name
    answers = all(
        isinstance(each.data, (A, AAAA, TXT)) and each.name == name for each in (*message.answers, *message.additional)
    )
    authority = all(
        isinstance(each.data, SOA)
        and name.endswith(each.name)
        and each.data.mname.endswith(each.name)
        and each.data.rname.endswith(each.name)
        for each in message.authority
    )
    return answers and authority


def _set_rotation(entry: Entry, message: Message) -> bool:
    """Addresses of one type under the name asked for are records of one length, and any turn of them is as good. False
    for several addresses that cannot be turned: those must be shuffled each time."""
    addresses = [each.data for each in message.answers if isinstance(each.data, (A, AAAA))]
    if len(addresses) < 2:
        return True
    if {(each.name, each.type) for each in message.answers} != {(message.question.name, addresses[0].TYPE)}:
        return False
    entry.stride = 12 + len(addresses[0].address.packed)
    entry.span = entry.stride * len(addresses)
    return True


def _entry_of(tail: bytes, prepared: WireAnswer, zone: str) -> Entry:
    flags = 0x8000 | prepared.authoritative << 10 | (tail[0] & 1) << 8 | prepared.rcode
    counts = (1, prepared.answers, prepared.authority, prepared.additional + tail[9])
    head = b"".join(number.to_bytes(2, "big") for number in (flags, *counts))
    entry = Entry(tail, head, prepared.body, prepared.reuse or Reuse(), case_safe=prepared.case_safe, zone=zone)
    if prepared.stride and prepared.answers > 1 and entry.reuse.rotates:
        entry.stride, entry.span = prepared.stride, prepared.stride * prepared.answers
    return entry


def _aged(body: bytes, offsets: tuple[int, ...], seconds: int) -> bytes:
    """The records with TTLs that many seconds lower."""
    changed = bytearray(body)
    for at in offsets:
        ttl = max(int.from_bytes(changed[at : at + 4], "big") - seconds, 0)
        changed[at : at + 4] = ttl.to_bytes(4, "big")
    return bytes(changed)

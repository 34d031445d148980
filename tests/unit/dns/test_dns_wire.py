"""The codec: laws, oracles (dnspython, dnslib, scapy), and what is no message."""

from __future__ import annotations

import string
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podnet.dns import message as m
from podnet.dns.wire import HEADER, MAX_MESSAGE, WireError, decode, encode, encode_name, ttl_offsets

LABEL = st.binary(min_size=1, max_size=63)
PLAIN = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=20).map(str.encode)
NAMES = st.one_of(
    st.lists(PLAIN, max_size=6).map(m.name_of),
    st.lists(LABEL, max_size=3).map(m.name_of),
    st.sampled_from([".", "cluster.local.", "web.default.svc.cluster.local.", "WEB.default.svc.Cluster.local."]),
)
U16, U31 = st.integers(0, 65535), st.integers(0, 2**31 - 1)
U32 = st.integers(0, 2**32 - 1)
RDATA = st.one_of(
    st.builds(m.A, st.builds(IPv4Address, U32)),
    st.builds(m.AAAA, st.builds(IPv6Address, st.integers(0, 2**128 - 1))),
    st.builds(m.CNAME, NAMES),
    st.builds(m.NS, NAMES),
    st.builds(m.PTR, NAMES),
    st.builds(m.MX, U16, NAMES),
    st.builds(m.SRV, U16, U16, U16, NAMES),
    st.builds(m.TXT, st.lists(st.binary(max_size=255), min_size=1, max_size=3).map(tuple)),
    st.builds(m.SOA, NAMES, NAMES, U32, U32, U32, U32, U32),
)
RECORDS = st.one_of(
    st.builds(m.record, NAMES, U31, RDATA),
    st.builds(lambda name, ttl, data: m.Record(name, 4711, ttl, m.Raw(data)), NAMES, U31, st.binary(max_size=40)),
)
SECTION = st.lists(RECORDS, max_size=4).map(tuple)
EDNS = st.builds(
    m.Edns,
    U16,
    st.integers(0, 255),
    st.booleans(),
    st.lists(st.tuples(U16, st.binary(max_size=20)), max_size=2).map(tuple),
)


@st.composite
def messages(draw):
    edns = draw(st.none() | EDNS)
    return m.Message(
        id=draw(U16),
        response=draw(st.booleans()),
        opcode=draw(st.integers(0, 15)),
        authoritative=draw(st.booleans()),
        truncated=draw(st.booleans()),
        recursion_desired=draw(st.booleans()),
        recursion_available=draw(st.booleans()),
        authentic_data=draw(st.booleans()),
        checking_disabled=draw(st.booleans()),
        rcode=draw(st.integers(0, 4095 if edns else 15)),
        questions=tuple(draw(st.lists(st.builds(m.Question, NAMES, U16, U16), max_size=2))),
        answers=draw(SECTION),
        authority=draw(SECTION),
        additional=draw(SECTION),
        edns=edns,
    )


@given(messages())
@settings(max_examples=300, deadline=None)
def test_decode_undoes_encode(message):
    assert decode(encode(message)) == message


@given(messages(), st.integers(0, 600))
@settings(max_examples=200, deadline=None)
def test_a_truncated_message_fits_says_so_and_is_a_prefix(message, size):
    whole, cut = encode(message), encode(message, size)
    floor = len(encode(replace(message, answers=(), authority=(), additional=())))
    assert len(cut) <= max(size, floor)
    got = decode(cut)
    if len(whole) <= size:
        assert cut == whole
        return
    assert got.questions == message.questions
    assert got.edns == message.edns
    sent = (*message.answers, *message.authority, *message.additional)
    kept = (*got.answers, *got.authority, *got.additional)
    assert kept == sent[: len(kept)]
    assert got.truncated or kept == sent


@given(message=messages())
@settings(max_examples=150, deadline=None)
def test_dnspython_reads_what_we_write(dnspython, message):
    # Other opcodes than QUERY give records another meaning for it.
    message = replace(
        message,
        opcode=0,
        questions=(m.Question("web.default.svc.cluster.local.", 1),),
        edns=None,
        rcode=message.rcode & 15,
    )
    data = encode(message)
    theirs = dnspython.from_wire(data, one_rr_per_rrset=True, continue_on_error=True, raise_on_truncation=False)
    assert theirs.id == message.id
    assert len(theirs.question) == 1
    assert sum(len(rrset) for rrset in theirs.answer) == len(message.answers)
    assert int(theirs.rcode()) == message.rcode


TYPICAL = m.reply(
    m.query("web.default.svc.cluster.local.", m.SRV_, id_=4711),
    answers=[m.record("web.default.svc.cluster.local.", 5, m.SRV(0, 100, 80, "web.default.svc.cluster.local."))],
    authority=[
        m.record(
            "cluster.local.", 5, m.SOA("ns.dns.cluster.local.", "hostmaster.cluster.local.", 1, 7200, 1800, 86400, 5)
        )
    ],
    additional=[
        m.record("web.default.svc.cluster.local.", 5, m.A(IPv4Address("10.96.0.7"))),
        m.record("web.default.svc.cluster.local.", 5, m.AAAA(IPv6Address("fd00::7"))),
        m.record("txt.cluster.local.", 28800, m.TXT((b"1.1.0",))),
        m.record("mx.cluster.local.", 1, m.MX(10, "web.default.svc.cluster.local.")),
    ],
).with_(edns=m.Edns(1232, options=((10, b"12345678"),)))


def test_dnspython_says_the_same_of_a_typical_answer(dnspython):
    theirs = dnspython.from_wire(encode(TYPICAL))
    assert (
        theirs.answer[0].to_text() == "web.default.svc.cluster.local. 5 IN SRV 0 100 80 web.default.svc.cluster.local."
    )
    assert theirs.payload == 1232
    assert theirs.authority[0][0].serial == 1
    assert decode(theirs.to_wire()) == TYPICAL


def test_dnslib_says_the_same_of_a_typical_answer():
    theirs = dnslib.DNSRecord.parse(encode(TYPICAL))
    assert [str(rr.rdata) for rr in theirs.rr] == ["0 100 80 web.default.svc.cluster.local."]
    assert [str(rr.rdata) for rr in theirs.ar[:2]] == ["10.96.0.7", "fd00::7"]
    assert decode(theirs.pack()).answers == TYPICAL.answers


def test_scapy_says_the_same_of_a_typical_answer():
    scapy_dns = pytest.importorskip("scapy.layers.dns")
    theirs = scapy_dns.DNS(encode(TYPICAL))
    assert theirs.id == 4711
    assert theirs.an[0].target == b"web.default.svc.cluster.local."
    assert theirs.ar[0].rdata == "10.96.0.7"


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_message_or_a_wire_error(data):
    try:
        message = decode(data)
    except WireError:
        return
    assert decode(encode(message)) == message


@given(messages(), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_messages_never_break_the_decoder(message, data):
    raw = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for each in (bytes(raw), bytes(raw[:cut])):
        try:
            decode(each)
        except WireError:
            pass


QUESTION = b"\x03web\x04test\x00\x00\x01\x00\x01"


def header(qd=1, an=0, ns=0, ar=0, flags=0x0100):
    return HEADER.pack(7, flags, qd, an, ns, ar)


MALFORMED = {
    "empty": b"",
    "half a header": b"\0\1\0\0\0",
    "no question where one is announced": header(),
    "name without end": header() + b"\x03web",
    "label length beyond the end": header() + b"\x3fweb\0\0\1\0\1",
    "label type 01": header() + b"\x41" + b"a" * 65 + b"\0\0\1\0\1",
    "label type 10": header() + b"\x81" + b"a" * 129 + b"\0\0\1\0\1",
    "pointer to itself": header() + b"\xc0\x0c\0\1\0\1",
    "pointer forwards": header() + b"\xc0\x20\0\1\0\1" + b"\0" * 32,
    "two pointers crossed": header(qd=2) + b"\x02\xc0\x10\xc0\x0e\0\1\0\1\xc0\x0c\0\1\0\1",
    "name of more than 255 bytes": header() + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
    "bytes behind the end": header() + QUESTION + b"x",
    "A record of three bytes": header(an=1) + QUESTION + b"\xc0\x0c\0\1\0\1\0\0\0\5\0\3abc",
    "AAAA record of four bytes": header(an=1) + QUESTION + b"\xc0\x0c\0\x1c\0\1\0\0\0\5\0\4abcd",
    "record data beyond the end": header(an=1) + QUESTION + b"\xc0\x0c\0\1\0\1\0\0\0\5\0\xffabc",
    "TXT string beyond its record": header(an=1) + QUESTION + b"\xc0\x0c\0\x10\0\1\0\0\0\5\0\2\5a",
    "CNAME shorter than its length": header(an=1) + QUESTION + b"\xc0\x0c\0\5\0\1\0\0\0\5\0\4\xc0\x0cab",
    "two OPT records": header(ar=2) + QUESTION + b"\0\0\x29\4\xd0\0\0\0\0\0\0" * 2,
    "OPT among the answers": header(an=1) + QUESTION + b"\0\0\x29\4\xd0\0\0\0\0\0\0",
    "OPT with a name": header(ar=1) + QUESTION + b"\xc0\x0c\0\x29\4\xd0\0\0\0\0\0\0",
    "EDNS option cut": header(ar=1) + QUESTION + b"\0\0\x29\4\xd0\0\0\0\0\0\5\0\x0a\0\x08a",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(data):
    with pytest.raises(WireError):
        decode(data)


def test_a_long_chain_of_pointers_is_followed_and_ends():
    # a, then 100 names that are nothing but a pointer to the one before.
    names = [b"\x01a\x00"]
    offset, previous = 12 + 3 + 4, 12
    for _ in range(100):
        names.append((0xC000 | previous).to_bytes(2, "big"))
        previous, offset = offset, offset + 6
    message = decode(header(qd=101) + b"".join(name + b"\0\1\0\1" for name in names))
    assert {question.name for question in message.questions} == {"a."}


@pytest.mark.parametrize(
    "name",
    ["a" * 64 + ".", "a..b.", ".a.", ("a" * 62 + ".") * 5],
    ids=["long label", "empty label", "leading dot", "long name"],
)
def test_names_that_cannot_be_sent(name):
    with pytest.raises(WireError):
        encode_name(name)


NAME_FORMS = {
    "plain": ("a.b.", b"\1a\1b\0"),
    "root": (".", b"\0"),
    "case kept": ("A.b.", b"\1A\1b\0"),
    "dot in a label": (r"a\.b.c.", b"\3a.b\1c\0"),
    "backslash": (r"a\\b.", b"\3a\\b\0"),
    "byte": (r"\000\255.", b"\2\0\xff\0"),
    "space": (r"a\032b.", b"\3a b\0"),
}


@pytest.mark.parametrize(("text", "wire"), NAME_FORMS.values(), ids=NAME_FORMS.keys())
def test_name_forms(text, wire):
    assert encode_name(text) == wire
    assert decode(HEADER.pack(0, 0, 1, 0, 0, 0) + wire + b"\0\1\0\1").question.name == text


def test_pointers_keep_the_case_of_every_name():
    message = m.reply(
        m.query("WWW.Example.com.", 1), answers=[m.record("www.example.com.", 1, m.CNAME("Example.com."))]
    )
    data = encode(message)
    assert decode(data) == message
    assert b"\3www\7example" in data, "a name of another case is written out"


def test_srv_targets_are_not_compressed():
    assert encode(TYPICAL).count(b"\3web\7default\3svc\7cluster\5local\0") >= 1


def test_names_beyond_16_kib_are_written_out():
    records = [m.record(f"n{i}.example.", 1, m.TXT((b"x" * 200,))) for i in range(120)]
    records += [
        m.record("late.example.", 1, m.CNAME("later.late.example.")),
        m.record("late.example.", 1, m.NS("later.late.example.")),
    ]
    message = m.reply(m.query("example.", 1), answers=records)
    data = encode(message)
    assert len(data) > 0x3FFF
    assert decode(data) == message


def test_a_message_of_more_than_64_kib_is_cut():
    message = m.reply(m.query("big.", 16), answers=[m.record("big.", 1, m.TXT((b"x" * 250,) * 4)) for _ in range(100)])
    data = encode(message)
    assert len(data) <= MAX_MESSAGE
    assert decode(data).truncated


def test_ttl_offsets_point_at_ttls():
    data = encode(TYPICAL)
    found = [int.from_bytes(data[at : at + 4], "big") for at in ttl_offsets(data)]
    assert found == [5, 5, 5, 5, 28800, 1], "all but OPT"


def test_string_longer_than_255_bytes_is_refused():
    with pytest.raises(WireError):
        encode(m.reply(m.query("a.", 16), answers=[m.record("a.", 1, m.TXT((b"x" * 256,)))]))


@pytest.mark.parametrize(
    ("name", "zone", "expected"),
    [
        ("a.b.", "b.", True),
        ("b.", "b.", True),
        ("ab.", "b.", False),
        ("a.", ".", True),
        (".", ".", True),
        (r"a\.b.", "b.", False),
        (r"a\\.b.", "b.", True),
    ],
)
def test_subdomains(name, zone, expected):
    assert m.is_subdomain(name, zone) is expected


def test_type_names():
    assert m.type_name(28) == "AAAA"
    assert m.type_name(4711) == "TYPE4711"
    assert m.type_number("type4711") == 4711
    assert m.type_number("srv") == 33
    with pytest.raises(KeyError):
        m.type_number("nonsense")

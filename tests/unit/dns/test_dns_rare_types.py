"""Zone files with records that nothing here looks into, against dnspython; DNAME, which moves a whole tree."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dns_harness import Chain, records, says

from podnet.dns import message as m
from podnet.dns.wire import encode
from podnet.dns.zone import FileZone
from podnet.dns.zonefile import ZoneFileError, parse_record, parse_zone_file

RARE = {
    "HINFO": 'a.test. 60 IN HINFO "PC" "Linux"',
    "RP": "a.test. 60 IN RP admin.a.test. text.a.test.",
    "AFSDB": "a.test. 60 IN AFSDB 1 afs.a.test.",
    "NAPTR": 'a.test. 60 IN NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:info@example.com!" .',
    "DNAME": "a.test. 60 IN DNAME b.test.",
    "DS": "a.test. 60 IN DS 60485 5 1 2BB183AF5F22588179A53B0A 98631FAD1A292118",
    "SSHFP": "a.test. 60 IN SSHFP 2 1 123456789abcdef67890123456789abcdef67890",
    "DNSKEY": "a.test. 60 IN DNSKEY 256 3 5 AQPSKmynfzW4kyBv015MUG2DeIQ3",
    "TLSA": "a.test. 60 IN TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b9d2abde240d7cd3ee6b4b28c54df034b9",
    "URI": 'a.test. 60 IN URI 10 1 "ftp://ftp1.example.com/public"',
    "CAA": 'a.test. 60 IN CAA 0 issue "ca.example.net; policy=ev"',
}


@pytest.mark.parametrize("text", RARE.values(), ids=RARE.keys())
def test_dnspython_reads_the_same(text, dnspython):
    message = m.Message(response=True, answers=(parse_record(text),))
    read = dnspython.from_wire(encode(message)).answer[0]
    owner, ttl, _, rtype, *rest = text.split(maxsplit=4)
    wanted = dnspython.from_text(
        f"id 0\nopcode QUERY\nrcode NOERROR\nflags QR\n;ANSWER\n{owner} {ttl} IN {rtype} {rest[0]}\n"
    )
    assert read == wanted.answer[0]


@pytest.mark.parametrize(
    "text",
    ["a. 5 IN CAA 256 issue x", "a. 5 IN HINFO x", "a. 5 IN DS 1 2 3 xyz", "a. 5 IN DNAME a. b.", "a. 5 IN LOC x"],
)
def test_what_is_no_such_data(text):
    with pytest.raises(ZoneFileError):
        parse_record(text)


ZONE = """\
$ORIGIN a.test.
$TTL 60
@ SOA ns1 admin 1 2 3 4 5
@ NS ns1
ns1 A 10.0.0.1
old DNAME new
www.new A 10.0.0.2
away DNAME b.test.
"""


@pytest.fixture
def zone():
    return FileZone("a.test.", parse_zone_file(ZONE, "a.test."))


def test_a_tree_that_moved(zone):
    found = zone.lookup("WWW.old.a.test.", m.A_)
    texts = [f"{each.name} {m.type_name(each.type)}" for each in found.answers]
    assert texts == ["old.a.test. DNAME", "WWW.old.a.test. CNAME", "WWW.new.a.test. A"]
    assert str(found.answers[1].data) == "WWW.new.a.test."
    assert zone.lookup("www.away.a.test.", m.A_).chase == "www.b.test."
    # The owner itself has not moved.
    assert zone.lookup("old.a.test.", m.A_).answers == ()
    assert [each.type for each in zone.lookup("old.a.test.", 39).answers] == [39]
    assert zone.lookup("nope.old.a.test.", m.A_).rcode == m.NXDOMAIN


def test_a_name_that_becomes_too_long(zone):
    long = ".".join(["x" * 60] * 3 + ["y" * 55])
    records = [*parse_zone_file(ZONE, "a.test."), parse_record("s.a.test. 5 IN DNAME very-long-name-indeed.b.test.")]
    found = FileZone("a.test.", records).lookup(f"{long}.s.a.test.", m.A_)
    assert (found.rcode, len(found.answers)) == (6, 1)


async def test_over_the_chain(tmp_path):
    path = tmp_path / "db"
    path.write_text(ZONE)
    async with Chain(f"file {path} a.test", last=says("@ 5 IN A 10.9.9.9")) as chain:
        assert records(await chain.ask("www.away.a.test"))[1:] == [
            "www.away.a.test. CNAME www.b.test.",
            "www.b.test. A 10.9.9.9",
        ]

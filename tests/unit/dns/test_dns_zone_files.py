"""Zone files: what they answer, how they are read again, and what is refused."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from dns_harness import Chain, records, says

from podnet.dns import message as m
from podnet.dns.zone import FileZone
from podnet.dns.zonefile import ZoneFileError, parse_record, parse_ttl, parse_zone_file, render_record

UP = says("@ 300 IN A 192.0.2.1")


# --- zone files ----------------------------------------------------------------------------------------------------

ZONE = r"""
$ORIGIN example.test.
$TTL 1h
@   IN SOA ns1 admin.example.test. ( 2024 ; serial
        2h 30m 1d 60 )
    IN NS ns1
    NS ns2.other.
ns1 A 10.0.0.1
web 300 IN A 10.0.0.2
    IN A 10.0.0.3
    AAAA fd00::2
alias CNAME web
far CNAME www.elsewhere.
loop1 CNAME loop2
loop2 CNAME loop1
*.wild A 10.0.0.9
real.wild TXT "here; \"quoted\"" second
a.b.deep A 10.0.0.4
sub NS ns.sub
ns.sub A 10.0.0.5
_http._tcp SRV 0 5 80 web
mail MX 10 web
raw TYPE4711 \# 3 010203
"""
LOOKUPS = {
    "A": ("web", "A", 0, ["web A 10.0.0.2", "web A 10.0.0.3"]),
    "case": ("WEB", "AAAA", 0, ["WEB AAAA fd00::2"]),
    "no data": ("web", "MX", 0, []),
    "denied": ("nope", "A", 3, []),
    "CNAME followed": ("alias", "AAAA", 0, ["alias CNAME web.example.test.", "web AAAA fd00::2"]),
    "CNAME asked": ("alias", "CNAME", 0, ["alias CNAME web.example.test."]),
    "CNAME to no data": ("alias", "MX", 0, ["alias CNAME web.example.test."]),
    "wildcard": ("x.wild", "A", 0, ["x.wild A 10.0.0.9"]),
    "wildcard deeper": ("x.y.wild", "A", 0, ["x.y.wild A 10.0.0.9"]),
    "wildcard hidden by a name": ("real.wild", "A", 0, []),
    "wildcard not below a name": ("x.real.wild", "A", 3, []),
    "wildcard of another type": ("x.wild", "MX", 0, []),
    "empty non-terminal": ("b.deep", "A", 0, []),
    "below an empty non-terminal": ("x.b.deep", "A", 3, []),
    "SRV": ("_http._tcp", "SRV", 0, ["_http._tcp SRV 0 5 80 web.example.test."]),
    "unknown type": ("raw", "TYPE4711", 0, ["raw TYPE4711 \\# 3 010203"]),
    "TXT": ("real.wild", "TXT", 0, ['real.wild TXT "here; \\"quoted\\"" "second"']),
}


@pytest.fixture
def zone_file(tmp_path):
    path = tmp_path / "db.example"
    path.write_text(ZONE)
    return path


@pytest.mark.parametrize(("name", "qtype", "rcode", "expected"), LOOKUPS.values(), ids=LOOKUPS.keys())
async def test_file(name, qtype, rcode, expected, zone_file):
    async with Chain(f"file {zone_file} example.test", last=UP) as chain:
        message = await chain.ask(f"{name}.example.test", qtype)
        short = [each.replace(".example.test. ", " ", 1) for each in records(message)]
        assert (message.rcode, short) == (rcode, expected)
        assert message.authoritative
        final = [each for each in message.answers if each.type != m.CNAME_ or qtype == "CNAME"]
        assert bool([each for each in message.authority if each.type == m.SOA_]) is (not final)
        assert chain.asked == []


async def test_file_delegation_apex_and_others(zone_file):
    async with Chain(f"file {zone_file} example.test", last=UP) as chain:
        message = await chain.ask("x.sub.example.test")
        assert (message.rcode, message.answers, message.authoritative) == (0, (), False)
        assert [str(each.data) for each in message.authority] == ["ns.sub.example.test."]
        assert [str(each.data) for each in message.additional] == ["10.0.0.5"]
        message = await chain.ask("example.test", "SOA")
        assert str(message.answers[0].data) == "ns1.example.test. admin.example.test. 2024 7200 1800 86400 60"
        assert len(message.authority) == 2
        assert (await chain.ask("nope.example.test")).authority[0].ttl == 60
        assert (await chain.ask("example.test", "AXFR")).rcode == m.REFUSED
        message = await chain.ask("loop1.example.test")
        assert (message.rcode, len(message.answers)) == (0, 10)
        message = await chain.ask("far.example.test")
        assert records(message) == ["far.example.test. CNAME www.elsewhere.", "www.elsewhere. A 192.0.2.1"]


async def test_file_fallthrough_and_reload(zone_file):
    async with Chain(f"file {zone_file} example.test {{\n fallthrough\n reload 20ms\n}}", last=UP) as chain:
        await chain.ask("nope.example.test")
        assert chain.asked
        response = await chain.respond("web.example.test")
        zone_file.write_text(ZONE.replace("10.0.0.2", "10.0.0.77").replace("2024", "2025"))
        async with asyncio.timeout(3):
            while response.reuse.validities[0].valid:
                await asyncio.sleep(0.01)
        assert "web.example.test. A 10.0.0.77" in records(await chain.ask("web.example.test"))
        zone_file.write_text("nonsense")
        await asyncio.sleep(0.05)
        assert (await chain.ask("web.example.test")).answers


BAD_ZONES = {
    "no TTL": "@ IN A 1.2.3.4",
    "no type": "@ 5 IN NOPE 1.2.3.4",
    "no address": "@ 5 IN A 1.2.3",
    "parenthesis": "@ 5 IN SOA a. b. ( 1 2 3 4",
    "too few values": "@ 5 IN MX 10",
    "a long label": f"{'a' * 64} 5 IN A 1.2.3.4",
    "include": "$INCLUDE /etc/passwd",
    "unknown data": "@ 5 IN TYPE4711 abc",
    "length": "@ 5 IN TYPE4711 \\# 9 00",
}


@pytest.mark.parametrize("text", BAD_ZONES.values(), ids=BAD_ZONES.keys())
def test_bad_zone_files(text):
    with pytest.raises(ZoneFileError, match=r"^db:\d+: "):
        parse_zone_file("\n" + text, "a.test.", file="db")


def test_a_zone_needs_one_soa():
    with pytest.raises(ValueError, match="0 SOA records"):
        FileZone("a.test.", [])
    assert parse_ttl("1w2d3h4m5s") == 788645


@given(st.binary(max_size=40).map(lambda data: m.record("x.test.", 5, m.TXT((data,)))))
def test_records_survive_their_text(record):
    assert parse_record(render_record(record)) == record

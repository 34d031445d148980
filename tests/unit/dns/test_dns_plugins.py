"""Plugins without sockets: what they answer, what they pass on."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from dns_harness import Chain, ask_udp, records, says, serving

from podnet.dns import message as m
from podnet.dns.handler import Response, Reuse
from podnet.dns.zone import FileZone
from podnet.dns.zonefile import ZoneFileError, parse_record, parse_ttl, parse_zone_file, render_record

UP = says("@ 300 IN A 192.0.2.1")

# --- hosts ---------------------------------------------------------------------------------------------------------

HOSTS = """hosts /dev/null a.test in-addr.arpa ip6.arpa {
  10.0.0.1 web.a.test www.a.test # comment
  10.0.0.2 web.a.test
  fd00::1 web.a.test
  10.0.0.3 other.b.test
  ttl 60
  %s
}"""
HOSTS_CASES = {
    "A": ("web.a.test", "A", ["web.a.test. A 10.0.0.1", "web.a.test. A 10.0.0.2"]),
    "AAAA": ("web.a.test", "AAAA", ["web.a.test. AAAA fd00::1"]),
    "case": ("WEB.A.test", "AAAA", ["WEB.A.test. AAAA fd00::1"]),
    "no such type": ("web.a.test", "TXT", []),
    "no IPv6": ("www.a.test", "AAAA", []),
    "PTR": (
        "1.0.0.10.in-addr.arpa",
        "PTR",
        ["1.0.0.10.in-addr.arpa. PTR web.a.test.", "1.0.0.10.in-addr.arpa. PTR www.a.test."],
    ),
}


@pytest.mark.parametrize(("name", "qtype", "expected"), HOSTS_CASES.values(), ids=HOSTS_CASES.keys())
async def test_hosts(name, qtype, expected):
    async with Chain(HOSTS % "", last=UP) as chain:
        message = await chain.ask(name, qtype)
        assert (message.rcode, records(message)) == (0, expected)
        assert all(each.ttl == 60 for each in message.answers)
        assert chain.asked == []


@pytest.mark.parametrize(
    ("option", "name", "qtype", "rcode", "passed"),
    [
        ("", "nope.a.test", "A", m.SERVFAIL, False),
        ("fallthrough", "nope.a.test", "A", 0, True),
        ("fallthrough b.test", "nope.a.test", "A", m.SERVFAIL, False),
        ("", "x.org", "A", 0, True),
        ("", "other.b.test", "A", 0, True),
        ("", "9.0.0.10.in-addr.arpa", "PTR", 0, True),
        ("no_reverse", "1.0.0.10.in-addr.arpa", "PTR", 0, True),
        ("fallthrough", "web.a.test", "TXT", 0, False),
    ],
)
async def test_hosts_passes_on(option, name, qtype, rcode, passed):
    async with Chain(HOSTS % option, last=UP) as chain:
        message = await chain.ask(name, qtype)
        assert message.rcode == rcode
        assert bool(chain.asked) is passed


async def test_hosts_file_is_read_again(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 web.test\nnonsense\n10.0.0.300 bad.test\n")
    async with Chain(f"hosts {path} {{\n reload 20ms\n}}") as chain:
        response = await chain.respond("web.test")
        assert records(response.message) == ["web.test. A 10.0.0.1"]
        path.write_text("10.0.0.22 web.test\n")
        async with asyncio.timeout(3):
            while response.reuse.validities[0].valid:
                await asyncio.sleep(0.01)
        assert records(await chain.ask("web.test")) == ["web.test. A 10.0.0.22"]


# --- cache ---------------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def cached(text, last):
    chain = Chain(text, last=last)
    clock = Clock()
    chain.plugins[0]._clock = clock
    return chain, clock


@pytest.mark.parametrize(
    ("text", "upstream_ttl", "first"),
    [
        ("cache", 300, 300),
        ("cache 30", 300, 30),
        ("cache 30", 2, 5),
        ("cache {\n success 10 60 0\n }", 2, 2),
        ("cache", 7200, 3600),
    ],
)
async def test_cache_ttl_limits_and_ageing(text, upstream_ttl, first):
    chain, clock = cached(text, says("@ TTL IN A 192.0.2.1", ttl=upstream_ttl))
    async with chain:
        assert (await chain.ask("x.test")).answers[0].ttl == first
        clock.now += 1.5
        message = await chain.ask("X.test")
        assert (message.answers[0].ttl, message.answers[0].name, message.id) == (first - 1, "X.test.", 7)
        clock.now += first
        await chain.ask("x.test")
        assert len(chain.asked) == 2


@pytest.mark.parametrize(("rcode", "kept_s"), [(m.NXDOMAIN, 60), (m.NOERROR, 60), (m.SERVFAIL, 5), (m.REFUSED, 0)])
async def test_cache_of_denials(rcode, kept_s):
    chain, clock = cached("cache", says(rcode=rcode, soa=rcode in {0, m.NXDOMAIN}))
    async with chain:
        await chain.ask("x.test")
        clock.now += max(kept_s - 0.5, 0)
        again = await chain.ask("x.test")
        assert again.rcode == rcode
        assert len(chain.asked) == (1 if kept_s else 2)
        clock.now += 1
        await chain.ask("x.test")
        assert len(chain.asked) == (2 if kept_s else 3)


async def test_cache_keys():
    chain, _ = cached("cache", UP)
    async with chain:
        await chain.ask("x.test")
        await chain.ask("x.test", "AAAA")
        await chain.ask("x.test", edns=m.Edns(do=True))
        await chain.ask("x.test", checking_disabled=True)
        await chain.ask("x.test", recursion_desired=False)
        assert len(chain.asked) == 4


async def test_cache_does_not_keep_truncated_or_live_answers():
    chain, _ = cached("cache", lambda request: UP(request).with_(truncated=True))
    async with chain:
        await chain.ask("x.test")
        await chain.ask("x.test")
        assert len(chain.asked) == 2
    chain, _ = cached("cache 30", lambda request: Response(UP(request), Reuse()))
    async with chain:
        for _ in range(2):
            assert (await chain.ask("x.test")).answers[0].ttl == 300, "what is true until revoked is not aged"
        assert len(chain.asked) == 2


async def test_cache_zones_and_disable():
    chain, _ = cached("cache 30 a.test", UP)
    async with chain:
        for name in ("x.b.test", "x.b.test", "x.a.test", "x.a.test"):
            await chain.ask(name)
        assert len(chain.asked) == 3
    chain, _ = cached("cache {\n disable success a.test\n }", UP)
    async with chain:
        for name in ("x.b.test", "x.b.test", "x.a.test", "x.a.test"):
            await chain.ask(name)
        assert len(chain.asked) == 3


async def test_cache_capacity():
    chain, _ = cached("cache {\n success 2\n }", UP)
    async with chain:
        first = await chain.respond("a.test")
        again = await chain.respond("a.test")
        assert first.reuse is None
        assert again.reuse.validities[0].valid
        await chain.ask("b.test")
        await chain.ask("c.test")
        assert not again.reuse.validities[0].valid, "what is put out of the cache ends in the fast path, too"
        await chain.ask("a.test")
        assert len(chain.asked) == 4


async def test_cache_prefetch():
    chain, clock = cached("cache {\n prefetch 2 1m 50%\n }", UP)
    async with chain:
        await chain.ask("x.test")
        clock.now += 10
        await chain.ask("x.test")
        clock.now += 145
        assert len(chain.asked) == 1
        response = await chain.respond("x.test")
        assert response.message.answers[0].ttl == 145, "fewer than two hits within a minute"
        await chain.ask("x.test")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(chain.asked) == 2
        assert (await chain.ask("x.test")).answers[0].ttl == 300
        assert response.reuse.expires == pytest.approx(1150)
        assert not response.reuse.validities[0].valid


@pytest.mark.parametrize("mode", ["immediate", "verify"])
async def test_cache_serve_stale(mode):
    broken = False

    def last(request):
        return m.reply(request.message, m.SERVFAIL) if broken else UP(request)

    chain, clock = cached(f"cache {{\n serve_stale 1h {mode}\n }}", last)
    async with chain:
        await chain.ask("x.test")
        broken = True
        clock.now += 400
        message = await chain.ask("x.test")
        assert (records(message), message.answers[0].ttl) == (["x.test. A 192.0.2.1"], 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.now += 4000
        assert (await chain.ask("x.test")).rcode == m.SERVFAIL


async def test_cache_metrics():
    chain, _ = cached("cache", UP)
    async with chain:
        for _ in range(3):
            await chain.ask("x.test")
        text = chain.metrics.expose()
        assert 'coredns_cache_hits_total{server="dns://:53",type="success",zones="",view=""} 2' in text
        assert 'coredns_cache_entries{server="dns://:53",type="success",zones="",view=""} 1' in text


# --- rewrite -------------------------------------------------------------------------------------------------------

REWRITES = {
    "exact": ("name a.test b.test", "a.test", "b.test.", "a.test."),
    "exact word": ("name exact a.test b.test", "A.Test", "b.test.", "A.Test."),
    "no match": ("name exact a.test b.test", "x.test", "x.test.", "x.test."),
    "prefix": ("name prefix old- new-", "old-a.test", "new-a.test.", "new-a.test."),
    "prefix auto": ("name prefix old- new- answer auto", "old-a.test", "new-a.test.", "old-a.test."),
    "suffix": ("name suffix .schmoogle.com. .google.com.", "a.schmoogle.com", "a.google.com.", "a.google.com."),
    "suffix auto": ("name suffix .x.test .y.test answer auto", "a.x.test", "a.y.test.", "a.x.test."),
    "substring": ("name substring foo bar", "a-foo-b.test", "a-bar-b.test.", "a-bar-b.test."),
    "regex": (r"name regex (.*)\.x\.test {1}.svc.test", "web.x.test", "web.svc.test.", "web.svc.test."),
    "regex with answer": (
        r"name regex (.*)\.x\.test {1}.svc.test answer name (.*)\.svc\.test {1}.x.test",
        "web.x.test",
        "web.svc.test.",
        "web.x.test.",
    ),
    "block": (
        "stop {\n name regex (.*)\\.x\\.test {1}.svc.test\n answer name (.*)\\.svc\\.test {1}.x.test\n }",
        "web.x.test",
        "web.svc.test.",
        "web.x.test.",
    ),
}


@pytest.mark.parametrize(("rule", "asked", "below", "owner"), REWRITES.values(), ids=REWRITES.keys())
async def test_rewrite_name(rule, asked, below, owner):
    async with Chain(f"rewrite {rule}", last=UP) as chain:
        message = await chain.ask(asked)
        assert chain.asked == [(below, "A")]
        assert message.question.name == m.fqdn(asked), "the question is the client's again"
        assert message.answers[0].name == owner


async def test_rewrite_order_values_types_ttls_and_rcodes():
    async with Chain("rewrite name a.test b.test\n rewrite name b.test c.test", last=UP) as chain:
        await chain.ask("a.test")
        assert chain.asked == [("b.test.", "A")]
    async with Chain("rewrite continue name a.test b.test\n rewrite name b.test c.test", last=UP) as chain:
        assert (await chain.ask("a.test")).answers[0].name == "a.test."
        assert chain.asked == [("c.test.", "A")]
    async with Chain("rewrite type ANY HINFO", last=UP) as chain:
        await chain.ask("a.test", "ANY")
        assert chain.asked == [("a.test.", "HINFO")]
    async with Chain("rewrite ttl suffix .test 10-20", last=UP) as chain:
        assert (await chain.ask("a.test")).answers[0].ttl == 20
        assert (await chain.ask("a.org")).answers[0].ttl == 300
    async with Chain("rewrite rcode exact a.test SERVFAIL NXDOMAIN", last=says(rcode=2)) as chain:
        assert (await chain.ask("a.test")).rcode == m.NXDOMAIN
        assert (await chain.ask("b.test")).rcode == m.SERVFAIL
    value = r"rewrite name suffix .x.test .y.test answer value (.*)\.y\.test {1}.x.test"
    async with Chain(value, last=says("@ 5 IN CNAME target.y.test.")) as chain:
        assert str((await chain.ask("a.x.test")).answers[0].data) == "target.x.test."


# --- template ------------------------------------------------------------------------------------------------------

TEMPLATE = r"""template IN A example {
  match "^ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)[.]example[.]$"
  answer "{{ .Name }} 60 IN A 10.0.{{ .Group.a }}.{{ index .Match 2 }}"
  authority "example. 60 IN NS ns0.{{ .Zone }}"
  additional "ns0.example. 60 IN A 203.0.113.8"
  %s
}"""


async def test_template():
    async with Chain(TEMPLATE % "", last=UP) as chain:
        message = await chain.ask("ip-3-4.example")
        assert records(message) == ["ip-3-4.example. A 10.0.3.4"]
        assert [str(each.data) for each in (*message.authority, *message.additional)] == ["ns0.example.", "203.0.113.8"]
        assert (await chain.ask("nope.example")).rcode == m.SERVFAIL, "the zone fits, the pattern does not"
        assert (await chain.ask("ip-3-999.example")).rcode == m.SERVFAIL, "no record"
        assert chain.asked == []
        await chain.ask("ip-3-4.example", "AAAA")
        await chain.ask("ip-3-4.test")
        assert len(chain.asked) == 2
    async with Chain(TEMPLATE % "fallthrough", last=UP) as chain:
        await chain.ask("nope.example")
        assert len(chain.asked) == 1
    async with Chain("template ANY ANY {\n rcode NXDOMAIN\n}") as chain:
        assert (await chain.ask("x.org", "MX")).rcode == m.NXDOMAIN
    async with Chain('template IN TXT {\n answer "{{.Name}} 0 IN TXT {{ .Remote }}"\n}') as chain:
        response = await chain.respond("x.org", "TXT")
        assert (str(response.message.answers[0].data), response.reuse) == ('"10.244.1.5"', None)


# --- acl, any, local, loadbalance, whoami, errors, log, bufsize ------------------------------------------------------

ACLS = {
    "nothing fits": ("allow net 192.168.0.0/16", "10.0.0.1", "A", 0, False, True),
    "block": ("block net 10.0.0.0/8", "10.0.0.1", "A", m.REFUSED, False, False),
    "block another": ("block net 10.0.0.0/8", "11.0.0.1", "A", 0, False, True),
    "filter": ("filter type A", "10.0.0.1", "A", 0, False, False),
    "filter another type": ("filter type A AAAA", "10.0.0.1", "MX", 0, False, True),
    "drop": ("drop type A net 10.0.0.0/8", "10.0.0.1", "A", 0, True, False),
    "the first decides": ("allow net 10.1.0.0/16\n block net 10.0.0.0/8", "10.1.0.1", "A", 0, False, True),
    "everybody": ("block type ANY net *", "fd00::1", "ANY", m.REFUSED, False, False),
    "address": ("block net 10.0.0.1", "10.0.0.1", "A", m.REFUSED, False, False),
}


@pytest.mark.parametrize(("lines", "client", "qtype", "rcode", "silent", "passed"), ACLS.values(), ids=ACLS.keys())
async def test_acl(lines, client, qtype, rcode, silent, passed):
    async with Chain(f"acl {{\n {lines}\n}}", last=UP) as chain:
        response = await chain.respond("x.test", qtype, client=client)
        assert (response.message.rcode, response.silent, bool(chain.asked)) == (rcode, silent, passed)
    async with Chain(f"acl other.test {{\n {lines}\n}}", last=UP) as chain:
        await chain.ask("x.test", qtype, client=client)
        assert chain.asked, "another zone"


async def test_any():
    async with Chain("any", last=UP) as chain:
        message = await chain.ask("x.test", "ANY")
        assert message.answers == (m.Record("x.test.", m.HINFO_, 8482, m.Raw(b"\rANY obsoleted\x0cSee RFC 8482")),)
        await chain.ask("x.test")
        assert chain.asked == [("x.test.", "A")]


LOCALS = {
    "A": ("localhost", "A", ["localhost. A 127.0.0.1"]),
    "AAAA": ("localhost", "AAAA", ["localhost. AAAA ::1"]),
    "search list": ("localhost.default.svc.cluster.local", "A", ["localhost.default.svc.cluster.local. A 127.0.0.1"]),
    "PTR": ("1.0.0.127.in-addr.arpa", "PTR", ["1.0.0.127.in-addr.arpa. PTR localhost."]),
    "NS": ("127.in-addr.arpa", "NS", ["127.in-addr.arpa. NS localhost."]),
    "no data": ("localhost", "MX", []),
}


@pytest.mark.parametrize(("name", "qtype", "expected"), LOCALS.values(), ids=LOCALS.keys())
async def test_local(name, qtype, expected):
    async with Chain("local", last=UP) as chain:
        message = await chain.ask(name, qtype)
        assert records(message) == expected
        assert chain.asked == []
        assert bool(message.authority) is (not expected)
        await chain.ask("x.test")
        assert chain.asked


async def test_loadbalance():
    mixed = ["a. 5 IN CNAME b.", "b. 5 IN MX 1 c.", "b. 5 IN MX 2 d.", *[f"b. 5 IN A 10.0.0.{i}" for i in range(8)]]
    async with Chain("loadbalance round_robin", last=says(*mixed)) as chain:
        seen = {tuple(records(await chain.ask("a"))) for _ in range(20)}
        assert len(seen) > 1
        assert all(each[0] == "a. CNAME b." and each[1].startswith("b. A ") and " MX " in each[-1] for each in seen)
        assert {tuple(sorted(each)) for each in seen} == {tuple(sorted(next(iter(seen))))}


async def test_whoami():
    async with Chain("whoami") as chain:
        message = await chain.ask("x.test", client="fd00::7", transport="tcp")
        assert [str(each) for each in message.additional] == [
            "x.test.\t0\tIN\tAAAA\tfd00::7",
            "_tcp.x.test.\t0\tIN\tSRV\t0 0 40000 .",
        ]
        assert (await chain.ask(".")).additional[1].name == "_udp."


async def test_errors_and_log(caplog):
    caplog.set_level(logging.INFO)
    broken = lambda request: Response(m.reply(request.message, m.SERVFAIL), error="i/o timeout")  # noqa: E731
    async with Chain("errors", last=broken) as chain:
        await chain.ask("x.test")
        assert "2 x.test. A: i/o timeout" in caplog.text
    caplog.clear()
    async with Chain("errors {\n consolidate 20ms timeout$ warning\n}", last=broken) as chain:
        for _ in range(3):
            await chain.ask("x.test")
        assert "i/o" not in caplog.text
        async with asyncio.timeout(3):
            while "3 errors like 'timeout$' occurred" not in caplog.text:
                await asyncio.sleep(0.01)
    caplog.clear()
    async with Chain("log", last=UP) as chain:
        await chain.ask("x.test", edns=m.Edns(1232))
    assert '10.244.1.5:40000 - 7 "A IN x.test. udp 0 false 1232" NOERROR qr,rd 40 0.' in caplog.text
    caplog.clear()
    async with Chain('log a.test "{name} {rcode} {nonsense}" {\n class denial error\n}', last=says(rcode=3)) as chain:
        await chain.ask("x.b.test")
        await chain.ask("x.a.test")
    assert [record.getMessage() for record in caplog.records] == ["x.a.test. NXDOMAIN {nonsense}"]


async def test_bufsize():
    async with Chain("bufsize 600", last=UP) as chain:
        response = await chain.respond("x.test", edns=m.Edns(4096))
        assert response.message.edns.payload == 600
        assert (await chain.respond("x.test", edns=m.Edns(550))).message.edns is None
        assert (await chain.respond("x.test")).message.edns is None


# --- autopath ------------------------------------------------------------------------------------------------------


@pytest.fixture
def resolv_conf(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.0.0.1\nsearch default.svc.cluster.local svc.cluster.local cluster.local\n")
    return path


def only(*names, rcode=0):
    """Knows these names and no other."""

    def last(request):
        known = request.name in names
        return UP(request) if known else m.reply(request.message, rcode or m.NXDOMAIN)

    return last


AUTOPATHS = {
    "external": (
        "www.example.com.default.svc.cluster.local",
        "www.example.com.",
        ["www.example.com.default.svc.cluster.local. CNAME www.example.com.", "www.example.com. A 192.0.2.1"],
        4,
    ),
    "first of all": (
        "web.default.svc.cluster.local",
        "web.default.svc.cluster.local.",
        ["web.default.svc.cluster.local. A 192.0.2.1"],
        1,
    ),
    "second": (
        "web.prod.default.svc.cluster.local",
        "web.prod.svc.cluster.local.",
        [
            "web.prod.default.svc.cluster.local. CNAME web.prod.svc.cluster.local.",
            "web.prod.svc.cluster.local. A 192.0.2.1",
        ],
        2,
    ),
    "not the first of the list": ("www.example.com.svc.cluster.local", "www.example.com.", [], 1),
    "absolute": ("www.example.com", "www.example.com.", ["www.example.com. A 192.0.2.1"], 1),
    "nowhere": ("nope.default.svc.cluster.local", "x.", [], 4),
}


@pytest.mark.parametrize(("asked", "known", "expected", "queries"), AUTOPATHS.values(), ids=AUTOPATHS.keys())
async def test_autopath(asked, known, expected, queries, resolv_conf):
    async with Chain(f"autopath {resolv_conf}", last=only(known)) as chain:
        message = await chain.ask(asked)
        assert records(message) == expected
        assert message.rcode == (0 if expected else m.NXDOMAIN)
        assert message.question.name == m.fqdn(asked)
        assert len(chain.asked) == queries


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


# --- loop, health, ready, reload -------------------------------------------------------------------------------------


async def test_loop_ends_the_process():
    def last(request):
        return Response(m.reply(request.message, m.NXDOMAIN))

    async with Chain("loop", last=last) as chain:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        plugin = chain.plugins[0]
        assert (plugin.seen, chain.stopped) == (1, [])
        for _ in range(2):
            await chain.ask(plugin.qname, "HINFO")
        assert len(chain.stopped) == 1
        assert "Loop (10.244.1.5:40000 -> :53) detected for zone" in chain.stopped[0]


async def http(port, path, request=None):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request or f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    data = await asyncio.wait_for(reader.read(), 3)
    writer.close()
    await writer.wait_closed()
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body.decode()


async def test_health_ready_and_metrics():
    text = """. {
        bind 127.0.0.1
        health 127.0.0.1:0 {
            lameduck 200ms
        }
        prometheus 127.0.0.1:0
        ready 127.0.0.1:0
        whoami
    }"""
    async with serving(text) as server:
        port = server.http.port_of("127.0.0.1", 0)
        instance = server._instance
        waiting = instance.plugins[-1]
        waiting.ready = lambda: False
        assert await http(port, "/health") == (200, "OK")
        assert await http(port, "/ready") == (503, "whoami")
        del waiting.ready
        assert await http(port, "/ready") == (200, "OK")
        waiting.ready = lambda: False
        assert await http(port, "/ready") == (200, "OK"), "who was ready is not asked again"
        await ask_udp(server.addresses[0], "x.test")
        status, body = await http(port, "/metrics")
        assert status == 200
        assert "# TYPE coredns_dns_requests_total counter" in body
        assert "coredns_build_info{" in body
        assert (await http(port, "/nope"))[0] == 404
        assert (await http(port, "", b"POST /health HTTP/1.1\r\n\r\n"))[0] == 405
        assert (await http(port, "", b"nonsense\r\n\r\n"))[0] == 400
        assert await http(port, "", b"HEAD /health HTTP/1.1\r\n\r\n") == (200, "")
        server.stop()
        await asyncio.sleep(0.05)
        assert await http(port, "/ready") == (503, "Shutting down")
        assert await http(port, "/health") == (200, "OK")


async def test_reload_watches_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("podnet.dns.plugins.reload.MIN_INTERVAL_S", 0.0)
    path = tmp_path / "Corefile"
    text = ". {\n bind 127.0.0.1\n reload 30ms\n import hosts.conf\n}"
    (tmp_path / "hosts.conf").write_text("hosts {\n 10.0.0.1 web.test\n}")
    path.write_text(text)
    async with serving(corefile=path) as server:
        (address,) = server.addresses
        path.write_text(text + "# a comment is no change\n")
        before = server._instance
        await asyncio.sleep(0.15)
        assert server._instance is before
        (tmp_path / "hosts.conf").write_text("hosts {\n 10.0.0.2 web.test\n}")
        async with asyncio.timeout(5):
            while records(await ask_udp(address, "web.test")) != ["web.test. A 10.0.0.2"]:
                await asyncio.sleep(0.02)
        path.write_text("nonsense {")
        await asyncio.sleep(0.15)
        assert "coredns_reload_failed_total 1" in server.metrics.expose()
        assert (await ask_udp(address, "web.test")).answers

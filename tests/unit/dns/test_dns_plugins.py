"""Plugins without sockets: what they answer, what they pass on; those with sockets, health, ready and reload."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dns_harness import Chain, ask_udp, records, says, serving

from podnet.dns import message as m
from podnet.dns.handler import Response

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
        assert "\nprocess_resident_memory_bytes " in body
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

"""The server on loopback, and the exchange without sockets: what is answered, what is refused, what is dropped."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from dns_harness import Chain, ask_tcp, ask_udp, free_port, records, serving, udp

from podnet.dns import message as m
from podnet.dns.config import ConfigError
from podnet.dns.exchange import Block, Exchange
from podnet.dns.handler import Plugin, Request, Response
from podnet.dns.main import LogFormat
from podnet.dns.server import Server, open_sockets
from podnet.dns.wire import HEADER, decode, encode

WHOAMI = ". {\n bind 127.0.0.1\n whoami\n}\n"
MANY = "\n".join(f"10.0.{i >> 8}.{i & 255} many.test" for i in range(200))
HOSTS = f". {{\n bind 127.0.0.1\n hosts /dev/null {{\n 10.9.8.7 web.test\n{MANY}\n }}\n}}\n"
QUESTION = b"\3web\4test\0\0\1\0\1"


class Says(Plugin):
    """Answers with a name, or breaks."""

    def __init__(self, text="", error=None):
        self.text, self.error = text, error

    async def serve(self, request, next_):
        if self.error:
            raise self.error
        return Response(m.reply(request.message, answers=[m.record(request.qname, 1, m.TXT((self.text.encode(),)))]))


WAY = Request(m.Message(), ip_address("127.0.0.1"), 4000)


async def rcode_of(data, *blocks, way=WAY):
    answer = await Exchange(blocks or [Block.of(".", [Says("x")])]).answer(data, way)
    return None if answer is None else decode(answer.data)


GARBAGE = {
    "nothing": (b"", None),
    "half a header": (b"\0\1\1\0\0\1", None),
    "a response": (encode(m.query("a.", 1).with_(response=True)), None),
    "a response with garbage": (b"\0\1\x81\0\0\1\0\0\0\0\0\0\xff", None),
    "only a header": (HEADER.pack(7, 0x0100, 1, 0, 0, 0), m.FORMERR),
    "no question": (HEADER.pack(7, 0x0100, 0, 0, 0, 0), m.FORMERR),
    "two questions": (HEADER.pack(7, 0x0100, 2, 0, 0, 0) + QUESTION * 2, m.FORMERR),
    "an answer in the query": (encode(m.query("a.", 1).with_(answers=(m.record("a.", 1, m.TXT((b"",))),))), m.FORMERR),
    "a pointer loop": (HEADER.pack(7, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", m.FORMERR),
    "two OPT": (HEADER.pack(7, 0x0100, 1, 0, 0, 2) + QUESTION + b"\0\0\x29\4\xd0\0\0\0\0\0\0" * 2, m.FORMERR),
    "bytes behind": (HEADER.pack(7, 0x0100, 1, 0, 0, 0) + QUESTION + b"x", m.FORMERR),
    "IQUERY": (HEADER.pack(7, 0x0800, 1, 0, 0, 0) + QUESTION, m.NOTIMP),
    "STATUS": (HEADER.pack(7, 0x1000, 0, 0, 0, 0), m.NOTIMP),
    "NOTIFY": (HEADER.pack(7, 0x2000, 1, 0, 0, 0) + QUESTION, m.NOTIMP),
    "UPDATE": (HEADER.pack(7, 0x2800, 1, 0, 0, 0) + QUESTION, m.NOTIMP),
    "unknown opcode with garbage": (HEADER.pack(7, 0x7800, 9, 9, 9, 9) + b"\xff", m.NOTIMP),
    "CHAOS": (encode(m.Message(questions=(m.Question("version.bind.", 16, m.CH),))), m.REFUSED),
    "EDNS version 1": (encode(m.query("a.", 1, edns=m.Edns(version=1))), m.BADVERS),
    "good": (HEADER.pack(7, 0x0100, 1, 0, 0, 0) + QUESTION, m.NOERROR),
}


@pytest.mark.parametrize(("data", "rcode"), GARBAGE.values(), ids=GARBAGE.keys())
async def test_what_is_no_query(data, rcode):
    answer = await rcode_of(data)
    assert (None if answer is None else answer.rcode) == rcode
    if answer is not None:
        assert answer.response
        assert answer.id == int.from_bytes(data[:2], "big")
        assert answer.opcode == data[2] >> 3 & 15


async def test_badvers_names_the_version_it_has():
    answer = await rcode_of(encode(m.query("a.", 1, edns=m.Edns(1232, version=3))))
    assert answer.edns.version == 0


@given(st.binary(max_size=100))
@settings(max_examples=300, deadline=None)
def test_no_bytes_break_an_exchange(data):
    answer = asyncio.run(Exchange([Block.of(".", [Says("x")])]).answer(data, WAY))
    if answer is not None:
        assert decode(answer.data).response


def test_scapy_garbage_does_not_break_an_exchange():
    scapy_dns = pytest.importorskip("scapy.layers.dns")
    from scapy.packet import fuzz

    exchange = Exchange([Block.of(".", [Says("x")])])
    answered = 0
    for _ in range(150):
        data = bytes(fuzz(scapy_dns.DNS(qd=[fuzz(scapy_dns.DNSQR())], an=[], ns=[], ar=[])))
        answer = asyncio.run(exchange.answer(data, WAY))
        if answer is not None:
            answered += 1
            assert decode(answer.data).response
    assert answered > 10


ZONES = {
    "root": ("x.", "root"),
    "zone": ("a.test.", "test"),
    "longest": ("a.sub.test.", "sub"),
    "the zone itself": ("sub.test.", "sub"),
    "no label boundary": ("asub.test.", "test"),
    "case": ("A.SUB.Test.", "sub"),
    "escaped dot": (r"a\.sub.test.", "test"),
}


@pytest.mark.parametrize(("name", "expected"), ZONES.values(), ids=ZONES.keys())
async def test_the_longest_zone_answers(name, expected):
    blocks = [Block.of(".", [Says("root")]), Block.of("test.", [Says("test")]), Block.of("sub.test.", [Says("sub")])]
    answer = await rcode_of(encode(m.query(name, 16)), *blocks)
    assert str(answer.answers[0].data) == f'"{expected}"'
    assert answer.question.name == name


async def test_outside_of_all_zones_is_refused():
    answer = await rcode_of(encode(m.query("a.org", 1)), Block.of("test.", [Says("x")]))
    assert answer.rcode == m.REFUSED
    assert answer.question.name == "a.org."


async def test_a_broken_plugin_is_servfail_and_logged(caplog):
    answer = await rcode_of(encode(m.query("a.org", 1)), Block.of(".", [Says(error=RuntimeError("ouch"))]))
    assert answer.rcode == m.SERVFAIL
    assert "ouch" in caplog.text


TRANSPORT = {
    "no EDNS: 512, TC": ("udp", None, 512, True),
    "EDNS below 512 is 512": ("udp", m.Edns(100), 512, True),
    "EDNS 1232": ("udp", m.Edns(1232), 1232, True),
    "EDNS 4096": ("udp", m.Edns(4096), 4096, False),
    "TCP": ("tcp", None, 65535, False),
    "TCP with EDNS": ("tcp", m.Edns(512), 65535, False),
}


@pytest.mark.parametrize(("transport", "edns", "limit", "cut"), TRANSPORT.values(), ids=TRANSPORT.keys())
async def test_sizes(transport, edns, limit, cut):
    async with Chain(f"hosts /dev/null {{\n{MANY}\n}}") as chain:
        data = await chain.exchange(encode(m.query("many.test", 1, edns=edns)), transport=transport)
    answer = decode(data)
    assert len(data) <= limit
    assert answer.truncated is cut
    assert (len(answer.answers) == 200) is not cut
    assert (answer.edns is None) == (edns is None)


async def test_edns_of_the_answer():
    async with Chain("whoami") as chain:
        options = ((10, b"12345678"), (8, b"\0\1\0\0"), (65001, b"x"))
        asked = m.query("a.test", 1, edns=m.Edns(1400, do=True, options=options))
        answer = decode(await chain.exchange(encode(asked)))
    assert answer.edns == m.Edns(1400, 0, do=True, options=((10, b"12345678"),)), "unknown options are dropped"
    async with Chain("whoami") as chain:
        assert decode(await chain.exchange(encode(m.query("a.test", 1)))).edns is None


async def test_udp_and_tcp():
    async with serving(WHOAMI) as server:
        (address,) = server.addresses
        answer = await ask_udp(address, "Who.Test")
        assert answer.question.name == "Who.Test."
        assert str(answer.additional[0].data) == "127.0.0.1"
        (answer,) = await ask_tcp(address, m.query("who.test", 1))
        assert answer.additional[1].name == "_tcp.who.test."


async def test_truncated_over_udp_whole_over_tcp():
    async with serving(HOSTS) as server:
        (address,) = server.addresses
        for _ in range(3):
            assert (await ask_udp(address, "many.test")).truncated
        (answer,) = await ask_tcp(address, m.query("many.test", 1))
        assert len(answer.answers) == 200


async def test_tcp_pipelining_and_half_close():
    async with serving(HOSTS) as server:
        (address,) = server.addresses
        asked = [m.query("web.test", 1, id_=i) for i in range(300)]
        assert {each.id for each in await ask_tcp(address, *asked)} == set(range(300))
        assert {each.id for each in await ask_tcp(address, *asked[:5], half_close=True)} == set(range(5))


async def test_tcp_clients_take_turns_and_leave_turns_for_others(monkeypatch):
    turn, begun = 0, []
    whole = Exchange.answer

    async def noted(self, data, way):
        begun.append((turn, way.client_port))
        return await whole(self, data, way)

    async def count_turns():
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    async with serving(HOSTS) as server:
        (address,) = server.addresses
        monkeypatch.setattr(Exchange, "answer", noted)
        counting = asyncio.ensure_future(count_turns())
        asked = [m.query("web.test", 1, id_=i) for i in range(40)]
        both = await asyncio.gather(ask_tcp(address, *asked), ask_tcp(address, *asked))
        counting.cancel()
    assert [len(answers) for answers in both] == [40, 40]
    assert len({number for number, _ in begun}) == len(begun) == 80
    ports = [port for _, port in begun]
    one, other = dict.fromkeys(ports)
    assert ports.index(other) < max(place for place, port in enumerate(ports) if port == one)


async def test_tcp_clients_that_left_cost_no_answers_and_no_lines_of_the_log(monkeypatch, caplog):
    begun = []
    whole = Exchange.answer

    async def noted(self, data, way):
        begun.append(data)
        return await whole(self, data, way)

    async with serving(HOSTS) as server:
        (address,) = server.addresses
        (listener,) = (each.tcp for each in server._listeners.values())
        monkeypatch.setattr(Exchange, "answer", noted)
        _, writer = await asyncio.open_connection(*address)
        question = encode(m.query("many.test", 1))
        writer.write((len(question).to_bytes(2, "big") + question) * 100)
        async with asyncio.timeout(5):
            while not begun:
                await asyncio.sleep(0)
            writer.transport.abort()
            while listener.pending:
                await asyncio.sleep(0)
        (answer,) = await ask_tcp(address, m.query("web.test", 1))
        assert answer.rcode == 0
    assert len(begun) < 100
    assert not [record for record in caplog.records if "raised exception" in record.getMessage()]


async def test_tcp_idle_and_garbage_connections_are_closed():
    async with serving(HOSTS) as server:
        (address,) = server.addresses
        for listener in server._listeners.values():
            listener.tcp.idle_timeout_s = 0.1
        for first in (b"", b"\0", b"\0\4abcd", b"\0\x14" + b"\0\1\x80" + b"x" * 17, b"\xff\xff" + b"x" * 10):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(first)
            assert await asyncio.wait_for(reader.read(), 3) == b""
            writer.close()
            await writer.wait_closed()
        (answer,) = await ask_tcp(address, m.query("web.test", 1))
        assert answer.rcode == 0


@pytest.fixture(scope="module")
def garbage():
    return [bytes([i % 256]) * (i % 70) for i in range(200)]


async def test_garbage_over_udp_leaves_the_server_alive(garbage):
    async with serving(HOSTS) as server:
        (address,) = server.addresses
        for data in garbage:
            await udp(address, data, timeout=0.001)
        for _ in range(3):
            assert records(await ask_udp(address, "web.test")) == ["web.test. A 10.9.8.7"]
        assert await udp(address, encode(m.query("web.test", 1).with_(response=True)), timeout=0.05) is None


async def test_the_fast_path_is_used_and_counted():
    async with serving(HOSTS.replace("hosts", "prometheus 127.0.0.1:0\n hosts", 1)) as server:
        (address,) = server.addresses
        for _ in range(5):
            assert records(await ask_udp(address, "web.test")) == ["web.test. A 10.9.8.7"]
        (listener,) = server._listeners.values()
        assert len(listener.udp.fast) == 1
        await ask_udp(address, "nope.test")
        text = server.metrics.expose()
        zone = 'zone=".",view=""'
        assert f'coredns_dns_requests_total{{server="dns://:0",{zone},proto="udp",family="1",type="A"}} 6' in text
        assert f'coredns_dns_responses_total{{server="dns://:0",{zone},rcode="SERVFAIL",plugin=""}} 1' in text
        assert f'coredns_dns_request_duration_seconds_count{{server="dns://:0",{zone}}} 6' in text


async def test_an_answer_comes_from_the_address_that_was_asked():
    async with serving(HOSTS.replace("bind 127.0.0.1", "errors")) as server:
        port = server.addresses[0][1]
        for host in ("127.0.0.1", "127.0.0.2", "127.1.2.3"):
            for _ in range(2):
                assert records(await ask_udp((host, port), "web.test")) == ["web.test. A 10.9.8.7"]


async def test_several_addresses_and_ports(tmp_path):
    ports = [free_port() for _ in range(2)]
    text = f"a.test:{ports[0]} b.test:{ports[1]} {{\n bind 127.0.0.1 127.0.0.2\n whoami\n}}"
    async with serving(text) as server:
        assert sorted(server.addresses) == sorted((host, port) for host in ("127.0.0.1", "127.0.0.2") for port in ports)
        assert (await ask_udp(("127.0.0.2", ports[0]), "x.a.test")).rcode == 0
        assert (await ask_udp(("127.0.0.2", ports[0]), "x.b.test")).rcode == m.REFUSED
        assert (await ask_udp(("127.0.0.1", ports[1]), "x.b.test")).rcode == 0


def corefile(tmp_path, address, extra=""):
    path = tmp_path / "Corefile"
    path.write_text(f". {{\n bind 127.0.0.1\n{extra}\n hosts {{\n {address} web.test\n fallthrough\n }}\n whoami\n}}\n")
    return path


async def test_reload_swaps_without_losing_a_query(tmp_path):
    path = corefile(tmp_path, "10.0.0.1")
    async with serving(corefile=path) as server:
        (address,) = server.addresses
        lost, seen, done = [], [], asyncio.Event()

        async def load():
            while not done.is_set():
                answer = await ask_udp(address, "web.test")
                (lost if answer is None else seen).append(answer)

        loads = [asyncio.ensure_future(load()) for _ in range(4)]
        for i in range(2, 12):
            corefile(tmp_path, f"10.0.0.{i}")
            assert await server.reload()
            answer = await ask_udp(address, "web.test")
            assert records(answer) == [f"web.test. A 10.0.0.{i}"]
        done.set()
        await asyncio.gather(*loads)
        assert lost == []
        assert all(each.rcode == 0 for each in seen)
        assert server.addresses == [address]


async def test_a_bad_corefile_changes_nothing(tmp_path, caplog):
    path = corefile(tmp_path, "10.0.0.1")
    async with serving(corefile=path) as server:
        (address,) = server.addresses
        path.write_text(". {\n nonsense\n}")
        assert not await server.reload()
        assert "Corefile:2 - Error during parsing: Unknown directive 'nonsense'" in caplog.text
        path.write_text(". {\n bind 127.0.0.1 203.0.113.7\n whoami\n}")
        assert not await server.reload()
        path.unlink()
        assert not await server.reload()
        assert records(await ask_udp(address, "web.test")) == ["web.test. A 10.0.0.1"]


async def test_reload_opens_and_closes_addresses(tmp_path):
    path = tmp_path / "Corefile"
    one, two = free_port(), free_port()
    path.write_text(f".:{one} {{\n bind 127.0.0.1\n whoami\n}}")
    async with serving(corefile=path) as server:
        path.write_text(f".:{two} {{\n bind 127.0.0.1\n whoami\n}}")
        assert await server.reload()
        assert server.addresses == [("127.0.0.1", two)]
        assert (await ask_udp(("127.0.0.1", two), "x.test")).rcode == 0
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", one)


async def test_lameduck_answers_until_the_end():
    async with serving(WHOAMI.replace("whoami", "health 127.0.0.1:0 {\n lameduck 300ms\n }\n whoami")) as server:
        (address,) = server.addresses
        server.stop()
        for _ in range(3):
            assert (await ask_udp(address, "x.test")).rcode == 0
            await asyncio.sleep(0.02)


async def test_queries_under_way_are_answered_before_the_end(monkeypatch):
    async with serving(WHOAMI) as server:
        (address,) = server.addresses
        (listener,) = server._listeners.values()
        inner = listener.udp.exchange.answer

        async def slow(data, way):
            await asyncio.sleep(0.15)
            return await inner(data, way)

        monkeypatch.setattr(listener.udp.exchange, "answer", slow)
        asked = asyncio.ensure_future(ask_udp(address, "x.test"))
        await asyncio.sleep(0.05)
        server.stop()
        assert (await asked).rcode == 0


async def test_what_cannot_start_says_why(tmp_path):
    with pytest.raises(ConfigError, match="Unknown directive"):
        await Server(text=". {\n nope\n}", port=0).run()
    with pytest.raises(ConfigError, match="loading Corefile"):
        await Server(tmp_path / "none", port=0).run()
    port = free_port()
    taken = open_sockets("127.0.0.1", port)
    try:
        with pytest.raises(BaseExceptionGroup) as caught:
            await Server(text=f".:{port} {{\n bind 127.0.0.1\n whoami\n}}").run()
        assert f"listen 127.0.0.1:{port}" in str(caught.value.exceptions[0])
    finally:
        for sock in taken:
            sock.close()


async def test_silence_is_silence():
    async with serving(WHOAMI.replace("whoami", "acl {\n drop net 127.0.0.0/8\n }\n whoami")) as server:
        (address,) = server.addresses
        assert await udp(address, encode(m.query("x.test", 1)), timeout=0.1) is None


async def test_a_request_is_the_same_client_asking_something_else():
    request = replace(WAY, message=m.query("A.b", 1))
    other = request.asking("c.", qtype=28)
    assert (request.name, other.name, other.qtype, other.client) == ("a.b.", "c.", 28, request.client)


@pytest.mark.parametrize(
    ("name", "message", "extra", "line"),
    [
        ("plugin/errors", "2 a. A: timeout", {}, "[ERROR] plugin/errors: 2 a. A: timeout"),
        ("plugin/log", '10.0.0.1:1 - 7 "A"', {}, '[ERROR] 10.0.0.1:1 - 7 "A"'),
        ("plugin/loop", "plugin/loop: Loop", {}, "[ERROR] plugin/loop: Loop"),
        ("podnet.dns.server", "Reloading complete", {}, "[ERROR] Reloading complete"),
        ("podnet.dns.server", ".:53", {"plain": True}, ".:53"),
    ],
)
def test_log_lines_look_like_coredns(name, message, extra, line):
    record = logging.getLogger(name).makeRecord(name, logging.ERROR, "", 0, message, (), None, extra=extra)
    assert LogFormat().format(record) == line

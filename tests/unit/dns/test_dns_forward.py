"""forward against upstreams on loopback: transports, failures, health, limits, loops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dns_harness import Chain, ask_udp, free_port, records, serving

from podnet.dns import message as m
from podnet.dns.plugins.forward import Forward
from podnet.dns.wire import decode, encode

UPSTREAM = ". {\n bind 127.0.0.1\n hosts /dev/null {\n 192.0.2.1 www.example.com\n}\n}"
MANY = "\n".join(f"10.0.0.{i} many.test" for i in range(200))


@contextlib.asynccontextmanager
async def upstream(text=UPSTREAM):
    async with serving(text) as server:
        host, port = server.addresses[0]
        yield f"{host}:{port}"


@contextlib.asynccontextmanager
async def answering(handle):
    """A UDP socket that answers with what `handle` makes of each query, maybe several datagrams."""
    loop = asyncio.get_running_loop()

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            for out in handle(data):
                self.transport.sendto(out, address)

    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


async def test_it_hands_on_what_the_upstream_says():
    async with upstream() as to, Chain(f"forward . {to}") as chain:
        message = await chain.ask("WWW.example.com", edns=m.Edns(1232))
        assert (records(message), message.question.name, message.id) == (
            ["WWW.example.com. A 192.0.2.1"],
            "WWW.example.com.",
            7,
        )
        assert message.edns is None, "EDNS is between neighbours"
        assert (await chain.ask("nope.example.com")).rcode == m.SERVFAIL
        text = chain.metrics.expose()
        assert (
            f'coredns_proxy_request_duration_seconds_count{{proxy_name="forward",to="{to}",rcode="NOERROR"}} 1' in text
        )


async def test_zones_and_exceptions():
    async with (
        upstream() as to,
        Chain(
            f"forward example.com {to} {{\n except www.example.com\n}}", last=lambda r: m.reply(r.message, 3)
        ) as chain,
    ):
        await chain.ask("a.www.example.com")
        await chain.ask("x.org")
        assert len(chain.asked) == 2
        await chain.ask("x.example.com")
        assert len(chain.asked) == 2


@pytest.mark.parametrize(
    ("option", "transport", "whole"),
    [("", "udp", False), ("", "tcp", True), ("force_tcp", "udp", True), ("prefer_udp", "udp", True)],
)
async def test_truncation_and_tcp(option, transport, whole):
    text = f". {{\n bind 127.0.0.1\n hosts /dev/null {{\n{MANY}\n}}\n}}"
    async with upstream(text) as to, Chain(f"forward . {to} {{\n {option}\n}}") as chain:
        message = await chain.ask("many.test", transport=transport)
        assert message.truncated is not whole
        assert (len(message.answers) == 200) is whole


def closed_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def test_a_dead_upstream_is_passed_over_and_probed():
    dead = f"127.0.0.1:{closed_port()}"
    async with (
        upstream() as to,
        Chain(f"forward . {dead} {to} {{\n policy sequential\n health_check 10ms\n max_fails 1\n}}") as chain,
    ):
        for _ in range(3):
            assert records(await chain.ask("www.example.com"))
        plugin = chain.plugins[0]
        async with asyncio.timeout(3):
            while not plugin.upstreams[0].down(1):
                await asyncio.sleep(0.01)
        assert not plugin.upstreams[1].down(1)
        assert records(await chain.ask("www.example.com"))


async def test_all_dead_is_servfail_with_a_reason():
    async with Chain(f"forward . 127.0.0.1:{closed_port()} {{\n max_fails 0\n}}") as chain:
        response = await chain.respond("x.test")
        assert response.message.rcode == m.SERVFAIL
        assert "udp 127.0.0.1" in response.error


async def test_an_upstream_that_comes_back_is_used_again():
    alive = False

    def handle(data):
        return [encode(m.reply(decode(data)))] if alive else [b"garbage"]

    async with answering(handle) as to, Chain(f"forward . {to} {{\n health_check 10ms\n}}") as chain:
        upstream_ = chain.plugins[0].upstreams[0]
        upstream_.fails = 3
        upstream_.probe(lambda work: chain.tasks.append(asyncio.ensure_future(work)), 0.01, m.query(".", m.NS_))
        alive = True
        assert (await chain.ask("x.test")).rcode == 0
        assert upstream_.fails == 0


async def test_forged_answers_are_not_taken():
    def handle(data):
        asked = decode(data)
        evil = m.reply(asked, answers=[m.record(asked.question.name, 5, m.TXT((b"evil",)))])
        good = m.reply(asked, answers=[m.record(asked.question.name, 5, m.TXT((b"good",)))])
        return [
            encode(evil.with_(id=asked.id ^ 1)),
            encode(evil.with_(questions=(m.Question("other.test.", 16),))),
            encode(evil.with_(response=False)),
            b"\0",
            encode(good),
        ]

    async with answering(handle) as to, Chain(f"forward . {to}") as chain:
        assert records(await chain.ask("x.test", "TXT")) == ['x.test. TXT "good"']


async def test_max_concurrent_is_refused():
    seen = asyncio.Event()

    def handle(_data):
        seen.set()
        return []

    async with answering(handle) as to, Chain(f"forward . {to} {{\n max_concurrent 1\n}}") as chain:
        first = asyncio.ensure_future(chain.ask("a.test"))
        await seen.wait()
        response = await chain.respond("b.test")
        assert response.message.rcode == m.REFUSED
        assert "maximum 1" in response.error
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert chain.plugins[0]._concurrent == 0


async def test_next_on_rcodes():
    text = "forward . %s {\n next SERVFAIL NXDOMAIN\n}"
    async with upstream() as to, Chain(text % to, last=lambda r: m.reply(r.message, m.REFUSED)) as chain:
        assert (await chain.ask("nope.test")).rcode == m.REFUSED
        assert (await chain.ask("www.example.com")).rcode == 0


async def test_name_servers_of_a_file(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nnameserver 10.0.0.1\nnameserver fd00::1\nsearch a b\n")
    async with Chain(f"forward . {path} 10.0.0.3:5353 [fd00::2]:54 dns://10.0.0.4") as chain:
        plugin = chain.plugins[0]
        assert isinstance(plugin, Forward)
        expected = ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.3:5353", "[fd00::2]:54", "10.0.0.4:53"]
        assert [str(each) for each in plugin.upstreams] == expected


@pytest.mark.parametrize("policy", ["random", "round_robin", "sequential"])
async def test_policies(policy):
    async with Chain(f"forward . 10.0.0.1 10.0.0.2 10.0.0.3 {{\n policy {policy}\n}}") as chain:
        plugin = chain.plugins[0]
        firsts = [plugin.order()[0].host for _ in range(60)]
        assert len(set(firsts)) == (1 if policy == "sequential" else 3)
        if policy == "round_robin":
            assert firsts[:3] != firsts[1:4]


async def test_a_circle_of_forwards_ends_the_server():
    port = free_port()
    text = f".:{port} {{\n bind 127.0.0.1\n loop\n forward . 127.0.0.1:{port}\n}}"
    async with serving(text) as server:
        async with asyncio.timeout(5):
            await server._stop.wait()
        assert "Loop (127.0.0.1:" in server.failed
        assert "troubleshooting" in server.failed


async def test_a_reload_keeps_forwarded_queries(tmp_path):
    waiting = []

    def handle(data):
        waiting.append(data)
        return []

    async with answering(handle) as to:
        path = tmp_path / "Corefile"
        path.write_text(f". {{\n bind 127.0.0.1\n forward . {to}\n}}")
        async with serving(corefile=path) as server:
            asked = asyncio.ensure_future(ask_udp(server.addresses[0], "x.test"))
            async with asyncio.timeout(3):
                while not waiting:
                    await asyncio.sleep(0.01)
            old = server._instance
            path.write_text(". {\n bind 127.0.0.1\n whoami\n}")
            assert await server.reload()
            plugin = old.plugins[-1]
            used = plugin.upstreams[0]._current
            plugin.upstreams[0]._received(used, encode(m.reply(decode(waiting[0]))))
            assert (await asked).rcode == 0, "the old instance answers what it was asked"

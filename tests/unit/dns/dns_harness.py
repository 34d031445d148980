"""What the tests of plugins share: chains without sockets, servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import ip_address

from podnet.dns import message as m
from podnet.dns.config import parse_config
from podnet.dns.exchange import Block, Exchange
from podnet.dns.handler import Request, Response, Runtime
from podnet.dns.http import HttpListeners
from podnet.dns.metrics import Registry
from podnet.dns.registry import build_plugins
from podnet.dns.server import Server, open_sockets
from podnet.dns.wire import decode, encode


class Chain:
    """The plugins of one server block, started, with `last` at the end of the chain."""

    def __init__(self, text, *, last=None, root=None):
        (config,) = parse_config(f". {{\n{text}\n}}")
        self.metrics = Registry()
        self.plugins = build_plugins(config, self.metrics, corefile=root / "Corefile" if root else None)
        self.tasks = []
        self.stopped = []
        self.asked = []
        self._last = last
        self.block = Block.of(".", self.plugins)
        if last is not None:
            from podnet.dns.handler import link

            self.block = Block(".", self.plugins, link(self.plugins, self._counted))

    async def _counted(self, request):
        self.asked.append((request.qname, m.type_name(request.qtype)))
        response = self._last(request)
        return response if isinstance(response, Response) else Response(response)

    async def __aenter__(self):
        runtime = Runtime(
            spawn=lambda work: self.tasks.append(asyncio.ensure_future(work)),
            metrics=self.metrics,
            siblings={plugin.name: plugin for plugin in self.plugins},
            all_plugins=self.plugins,
            resolve=self.block.chain,
            http=HttpListeners(),
            listening=[("127.0.0.1", 53)],
            zones=["."],
            stop=self.stopped.append,
        )
        for plugin in self.plugins:
            await plugin.start(runtime)
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for plugin in self.plugins:
            await plugin.stop()

    async def respond(self, name, qtype="A", *, client="10.244.1.5", transport="udp", edns=None, **changes):
        message = m.query(name, m.type_number(qtype), id_=7, edns=edns).with_(**changes)
        return await self.block.chain(Request(message, ip_address(client), 40000, transport))

    async def ask(self, name, qtype="A", **kwargs):
        return (await self.respond(name, qtype, **kwargs)).message

    async def exchange(self, data, *, transport="udp", client="10.244.1.5"):
        """From bytes to bytes, as a listener does it."""
        way = Request(m.Message(), ip_address(client), 40000, transport)
        answer = await Exchange([self.block]).answer(data, way)
        return None if answer is None else answer.data


def records(message):
    """Answers as text, without the TTL."""
    return [f"{each.name} {m.type_name(each.type)} {each.data}" for each in message.answers]


def says(*texts, rcode=0, ttl=300, soa=False):
    """The end of a chain that always says this."""

    def last(request):
        from podnet.dns.zonefile import parse_record

        authority = (
            [parse_record(f"example.com. {ttl} IN SOA ns.example.com. h.example.com. 1 2 3 4 60")] if soa else []
        )
        answers = [parse_record(text.replace("@", request.qname).replace("TTL", str(ttl))) for text in texts]
        return m.reply(request.message, rcode, answers=answers, authority=authority, authoritative=False)

    return last


@contextlib.asynccontextmanager
async def serving(text=None, corefile=None, environ=None):
    """A server on loopback; text is a Corefile whose blocks `bind 127.0.0.1` and say no port (any port)."""
    server = Server(corefile, text=text, environ=environ or {}, port=0)
    task = asyncio.ensure_future(server.run())
    waiting = asyncio.ensure_future(server.started.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED, timeout=5)
        if task.done():
            task.result()
        yield server
    finally:
        waiting.cancel()
        server.stop()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 10)


async def udp(address, data, *, timeout=2.0):  # noqa: ASYNC109 - a test's own patience
    """One datagram there, one back; None when nothing comes."""
    loop = asyncio.get_running_loop()
    received = loop.create_future()

    class Once(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            transport.sendto(data)

        def datagram_received(self, data, _address):
            if not received.done():
                received.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Once, remote_addr=address)
    try:
        return await asyncio.wait_for(received, timeout)
    except TimeoutError:
        return None
    finally:
        transport.close()


async def ask_udp(address, name, qtype="A", **kwargs):
    """Ask, decoded."""
    data = await udp(address, encode(m.query(name, m.type_number(qtype), id_=99, **kwargs)))
    return None if data is None else decode(data)


async def ask_tcp(address, *messages, half_close=False):
    """Ask all at once on one connection; the answers in the order they come."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        for message in messages:
            data = encode(message)
            writer.write(len(data).to_bytes(2, "big") + data)
        if half_close:
            writer.write_eof()
        found = []
        for _ in messages:
            size = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), 3), "big")
            found.append(decode(await reader.readexactly(size)))
        return found
    finally:
        writer.close()
        await writer.wait_closed()


def free_port():
    """One that is free for UDP and TCP."""
    pair = open_sockets("127.0.0.1", 0)
    port = pair[0].getsockname()[1]
    for sock in pair:
        sock.close()
    return port

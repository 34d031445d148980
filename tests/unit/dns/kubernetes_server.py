"""The kubernetes plugin with a zone from memory, as the tests of its answers use it."""

from __future__ import annotations

from ipaddress import ip_address

from podnet.dns.config import Setup, parse_config
from podnet.dns.handler import Request, Response, Runtime, refuse
from podnet.dns.kubernetes.options import parse_options
from podnet.dns.message import A_, Message, query, reply, type_number
from podnet.dns.metrics import Registry
from podnet.dns.plugins.kubernetes import Kubernetes
from podnet.dns.records.edit import build_zone
from podnet.dns.records.rendering import render_address

SERIAL = 1499347823
CLIENT = ip_address("172.0.0.53")


class MemoryFeed:
    """A feed that publishes one zone at once, or never."""

    def __init__(self, options, changes):
        self.options, self.changes = options, changes

    async def start(self, spawn, publish, timeout_s):
        if self.changes is None:
            return
        imports = None
        if self.options.multicluster:
            imports = build_zone(self.options.records, self.changes, SERIAL, multicluster=True)
        publish(build_zone(self.options.records, self.changes, SERIAL), imports)

    async def stop(self):
        pass


def options_of(corefile: str):
    """The options of a `kubernetes` line with its block."""
    (config,) = parse_config(".:53 {\n" + corefile + "\n}\n")
    return parse_options(Setup(config.named("kubernetes"), tuple(zone.name for zone in config.zones)))


async def upstream(request: Request) -> Response:
    """The rest of the world: one name, whose answer was cut off on the way."""
    message = reply(request.message, authoritative=False)
    if request.name == "ext.interwebs.test." and request.qtype == A_:
        message = message.with_(answers=(render_address("ext.interwebs.test.", "1.2.3.4", 5),), truncated=True)
    return Response(message)


async def start_plugin(corefile: str, changes, *, own=("127.0.0.1",), resolve=upstream) -> Kubernetes:
    """The plugin, serving."""
    options = options_of(corefile)
    plugin = Kubernetes(options, MemoryFeed(options, changes))
    await plugin.start(
        Runtime(
            spawn=lambda _: None,
            metrics=Registry(),
            siblings={},
            all_plugins=(),
            resolve=resolve,
            http=None,
            listening=[(address, 53) for address in own],
        )
    )
    return plugin


def request_of(name: str, qtype: str | int) -> Request:
    number = qtype if isinstance(qtype, int) else type_number(qtype)
    return Request(query(name, number, id_=7), CLIENT)


async def ask(plugin: Kubernetes, name: str, qtype: str | int, next_=refuse) -> Message:
    return (await plugin.serve(request_of(name, qtype), next_)).message

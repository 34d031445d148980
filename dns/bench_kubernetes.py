"""How fast a coredns pod answers: the default cluster Corefile over a zone from memory, one core, asked by dnsperf.

Nothing is faked but the API server and the world outside: plugins, chain, sockets and fast path are those of a coredns pod.
What it forwards goes to a server block of its own, which answers each name with one address.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from podnet.dns.addon import default_corefile
from podnet.dns.bench_load import Asked, Mix
from podnet.dns.message import A_, NXDOMAIN
from podnet.dns.plugins import kubernetes as plugin
from podnet.dns.records.edit import apply_changes, build_zone
from podnet.dns.records.types import Change, Options
from podnet.dns.records.zone import Zone

NAMESPACES = 100
ENDPOINTS = 100
ABSENT_NAMES = 1000
EXTERNAL_NAMES = 1000
OUTSIDE = "192.0.2.1"
CLUSTER_NAMES = "cluster names"


def cluster_changes(services: int) -> Iterator[Change]:
    """That many Services in a hundred namespaces, and a headless one with a hundred endpoints."""
    for number in range(NAMESPACES):
        name = f"ns{number}"
        yield Change("Namespace", "", name, {"metadata": {"name": name}})
    for number in range(services):
        yield service_change(number, _address(number))
    metadata = {"name": "many", "namespace": "ns0"}
    yield Change(
        "Service", "ns0", "many", {"metadata": metadata, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}
    )
    endpoints = [{"addresses": [f"10.244.1.{number + 1}"]} for number in range(ENDPOINTS)]
    labels = {"kubernetes.io/service-name": "many"}
    body = {"metadata": {**metadata, "labels": labels}, "endpoints": endpoints, "ports": [{"name": "http", "port": 80}]}
    yield Change("EndpointSlice", "ns0", "many", body)


def _address(number: int) -> str:
    return f"10.{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def service_change(number: int, address: str) -> Change:
    """One Service."""
    namespace, name = f"ns{number % NAMESPACES}", f"svc-{number}"
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": [{"name": "http", "port": 80}]}
    return Change("Service", namespace, name, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})


def mixes(services: int) -> tuple[Mix, ...]:
    """What is asked of a server with that many Services, and what it must answer. The headless name is asked with EDNS:
    without it, a hundred addresses would be cut to what 512 bytes hold."""
    names = tuple(
        Asked(f"svc-{number}.ns{number % NAMESPACES}.svc.cluster.local", frozenset((_address(number),)))
        for number in range(services)
    )
    many = frozenset(f"10.244.1.{number + 1}" for number in range(ENDPOINTS))
    absent = tuple(
        Asked(f"www.example{number}.com.ns0.svc.cluster.local", rcode=NXDOMAIN) for number in range(ABSENT_NAMES)
    )
    outside = tuple(Asked(f"www{number}.example.com", frozenset((OUTSIDE,))) for number in range(EXTERNAL_NAMES))
    return (
        Mix(CLUSTER_NAMES, names),
        Mix(f"headless, {ENDPOINTS} endpoints", (Asked("many.ns0.svc.cluster.local", many),), edns=True),
        Mix("NXDOMAIN", absent),
        Mix(f"{EXTERNAL_NAMES} cached external names", outside),
    )


class _MemoryFeed:
    """A feed that has its zone already."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    async def start(self, _spawn: object, publish: Callable[[Zone, Zone | None], None], _timeout_s: float) -> None:
        publish(self._zone, None)

    async def stop(self) -> None:
        """Nothing to close."""


def serve_cluster(connection: Connection, services: int) -> None:
    """A server with that many Services; its port goes through `connection`."""
    from podnet.dns.server import open_sockets

    zone = build_zone(Options(pods="insecure", ttl_s=30), cluster_changes(services), 1)
    # The API server is the one thing that is not there.
    setattr(plugin, "ApiFeed", lambda _options, _environ: _MemoryFeed(zone))  # noqa: B010 - mypy forbids the other way
    ports = []
    for _ in range(2):
        pair = open_sockets("127.0.0.1", 0)
        assert pair is not None
        ports.append(int(pair[0].getsockname()[1]))
        for sock in pair:
            sock.close()
    asyncio.run(_serve(bench_corefile(*ports), connection, ports[0]))


def bench_corefile(port: int, outside_port: int) -> str:
    """The default Corefile on a port of loopback, and what it forwards to. Ports that a second server on this machine may
    have are left out; so is `loop`, which asks for itself, and `reload`: there is no file."""
    lines = default_corefile().replace(".:53 ", f".:{port} ").splitlines()
    left_out = ("health", "ready", "prometheus", "loop", "reload")
    kept = [line.replace("/etc/resolv.conf", f"127.0.0.1:{outside_port}") for line in _without(lines[1:], left_out)]
    outside = [
        f".:{outside_port} {{",
        "    bind 127.0.0.1",
        "    template IN A {",
        f'        answer "{{{{ .Name }}}} 300 IN A {OUTSIDE}"',
        "    }",
        "}",
    ]
    return "\n".join([lines[0], "    bind 127.0.0.1", *kept, *outside])


async def _serve(text: str, connection: Connection, port: int) -> None:
    from podnet.dns.server import Server

    server = Server(text=text, environ={})
    task = asyncio.ensure_future(server.run())
    waiting = asyncio.ensure_future(server.started.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    connection.send(port)
    await task


def _without(lines: list[str], names: tuple[str, ...]) -> list[str]:
    """The lines of a block without some directives and their own blocks."""
    kept, inside = [], False
    for line in lines:
        word = line.split()[0] if line.split() else ""
        if inside:
            inside = word != "}"
        elif word in names:
            inside = line.rstrip().endswith("{")
        else:
            kept.append(line)
    return kept


def bench_change(services: int, *, rounds: int = 200) -> float:
    """Milliseconds from a changed Service to the zone that answers with it (the median)."""
    zone = build_zone(Options(), cluster_changes(services), 1)
    taken = []
    for number in range(rounds):
        address = f"10.200.{number >> 8}.{number & 255}"
        change = service_change(number % services, address)
        began = time.perf_counter()
        zone = apply_changes(zone, [change], number)
        answer = zone.lookup((change.name, change.namespace, "svc"), A_)
        taken.append((time.perf_counter() - began) * 1000)
        assert [record.value for record in answer.records] == [address]
    return sorted(taken)[len(taken) // 2]

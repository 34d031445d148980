"""prometheus: `GET /metrics`, with CoreDNS's metric names.

Syntax: `prometheus [ADDRESS]`, by default localhost:9153. Answers of the fast path are counted when somebody scrapes;
their duration is the mean over the fast path's own time.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence

from podnet.controlplane.process_metrics import add_process_metrics
from podnet.dns.config import Setup
from podnet.dns.handler import Plugin, Runtime, Served
from podnet.dns.http import Page
from podnet.dns.message import rcode_name, type_name
from podnet.dns.metrics import CONTENT_TYPE, LATENCY_BUCKETS, SIZE_BUCKETS
from podnet.dns.plugins.health import parse_http_address

DEFAULT_ADDRESS = ("localhost", 9153)
VERSION = "1.12.0"
"""Of the CoreDNS whose behaviour this follows."""
_KNOWN_TYPES = frozenset({"AAAA", "A", "CNAME", "DNSKEY", "DS", "HTTPS", "MX", "NSEC3", "NSEC", "NS", "PTR", "RRSIG",
                          "SOA", "SRV", "SVCB", "TXT", "ANY"})  # fmt: skip


class Prometheus(Plugin):
    """Counts what was sent."""

    name = "prometheus"

    def __init__(self, address: tuple[str, int], zones: Sequence[str], port: int) -> None:
        self.address = address
        self._zones = frozenset(zones)
        self._server = f"dns://:{port}"
        self._ends: list[Callable[[], None]] = []

    async def start(self, runtime: Runtime) -> None:
        """Serve the page."""
        metrics = runtime.metrics
        common = ("server", "zone", "view", "proto")
        self._requests = metrics.counter(
            "coredns_dns_requests_total",
            "Counter of DNS requests made per zone, protocol and family.",
            (*common, "family", "type"),
        )
        self._responses = metrics.counter(
            "coredns_dns_responses_total",
            "Counter of response status codes.",
            ("server", "zone", "view", "rcode", "plugin"),
        )
        self._duration = metrics.histogram(
            "coredns_dns_request_duration_seconds",
            "Histogram of the time (in seconds) each request took per zone.",
            ("server", "zone", "view"),
            LATENCY_BUCKETS,
        )
        self._request_size = metrics.histogram(
            "coredns_dns_request_size_bytes",
            "Size of the EDNS0 UDP buffer in bytes (64K for TCP) per zone and protocol.",
            common,
            SIZE_BUCKETS,
        )
        self._response_size = metrics.histogram(
            "coredns_dns_response_size_bytes", "Size of the returned response in bytes.", common, SIZE_BUCKETS
        )
        self._do = metrics.counter(
            "coredns_dns_do_requests_total",
            "Counter of DNS requests with DO bit set per zone.",
            ("server", "zone", "view"),
        )
        build = metrics.gauge(
            "coredns_build_info", "A metric with a constant '1' value.", ("version", "revision", "goversion")
        )
        build.set(1, VERSION, "podnet", f"python{platform.python_version()}")
        enabled = metrics.gauge(
            "coredns_plugin_enabled",
            "A metric that indicates whether a plugin is enabled.",
            ("server", "zone", "view", "name"),
        )
        for zone in self._zones:
            for name in runtime.siblings:
                enabled.set(1, self._server, zone, "", name)
        self._ends = [
            await runtime.http.serve(*self.address, "/metrics", lambda: Page(200, metrics.expose(), CONTENT_TYPE)),
            add_process_metrics(metrics),
        ]

    async def stop(self) -> None:
        """No page any more."""
        while self._ends:
            self._ends.pop()()

    def served(self, what: Served) -> None:
        """Count answers."""
        zone = what.zone or "dropped"
        qtype = type_name(what.qtype)
        # An unusual type or zone is one series, or clients could make as many as they like.
        qtype = qtype if qtype in _KNOWN_TYPES else "other"
        family = str(what.family)
        place = (self._server, zone, "")
        self._requests.add(*place, what.transport, family, qtype, amount=what.times)
        self._responses.add(*place, rcode_name(what.rcode), "", amount=what.times)
        self._duration.observe(what.seconds, *place, times=what.times)
        self._request_size.observe(what.request_size, *place, what.transport, times=what.times)
        self._response_size.observe(what.response_size, *place, what.transport, times=what.times)
        if what.do:
            self._do.add(*place, amount=what.times)


def setup(setup: Setup) -> Sequence[Plugin]:
    """Read the address."""
    directive = setup.once()
    if len(directive.args) > 1:
        raise directive.error("prometheus takes one address")
    address = parse_http_address(directive.args[0]) if directive.args else DEFAULT_ADDRESS
    return [Prometheus(address, setup.zones, setup.port)]

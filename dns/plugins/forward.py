"""forward: asks upstream resolvers and hands on what they say.

Syntax: `forward FROM TO... { except NAMES...; force_tcp; prefer_udp; expire D; max_fails N; policy
random|round_robin|sequential; health_check D [no_rec] [domain FQDN]; max_concurrent N; next RCODE...;
next_on_nodata; failover RCODE...; max_connect_attempts N; max_idle_conns N;
failfast_all_unhealthy_upstreams }`. TO is an address with an optional port, or a file like /etc/resolv.conf.

Behaviour of CoreDNS: the client's transport is used upstream, a failed upstream is probed every half second until it
answers, one that failed more probes than `max_fails` is left out, when all are out one is tried at random, and above
`max_concurrent` the answer is REFUSED. This is the only plugin that sends a query anywhere, and only where the Corefile
says.
"""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from podnet.dns.config import Directive, Setup, Token, longest_match, parse_duration, parse_number
from podnet.dns.handler import Handler, Plugin, Request, Response, Runtime, failure
from podnet.dns.message import (
    FORMERR,
    NOERROR,
    RCODE_NUMBERS,
    REFUSED,
    Message,
    fqdn,
    rcode_name,
    reply,
)
from podnet.dns.metrics import LATENCY_BUCKETS
from podnet.dns.upstream import EXPIRE_S, READ_TIMEOUT_S, Upstream, UpstreamError, probe_question

DEADLINE_S = 5.0
"""For one query over all upstreams."""
MAX_UPSTREAMS = 15
HEALTH_INTERVAL_S = 0.5
_POLICIES = ("random", "round_robin", "sequential")


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """The directive, understood."""

    zone: str
    upstreams: tuple[tuple[str, int], ...]
    ignored: tuple[str, ...] = ()
    force_tcp: bool = False
    prefer_udp: bool = False
    expire_s: float = EXPIRE_S
    max_fails: int = 2
    policy: str = "random"
    health_interval_s: float = HEALTH_INTERVAL_S
    health_recursion: bool = True
    health_domain: str = "."
    max_concurrent: int = 0
    next_rcodes: frozenset[int] = frozenset()
    next_on_nodata: bool = False
    failover: frozenset[int] = frozenset()
    max_attempts: int = 0
    failfast: bool = False


class Forward(Plugin):
    """Upstreams and the choice between them."""

    name = "forward"

    def __init__(self, options: ForwardOptions) -> None:
        self.options = options
        self.upstreams = [Upstream(host, port, expire_s=options.expire_s) for host, port in options.upstreams]
        self._concurrent = 0
        self._turn = 0
        self._runtime: Runtime | None = None
        self._probe = probe_question(options.health_domain, recursion=options.health_recursion)

    async def start(self, runtime: Runtime) -> None:
        """Metrics, and tasks to probe with."""
        self._runtime = runtime
        metrics = runtime.metrics
        self._duration = metrics.histogram(
            "coredns_proxy_request_duration_seconds",
            "Histogram of the time each request took.",
            ("proxy_name", "to", "rcode"),
            LATENCY_BUCKETS,
        )
        self._rejects = metrics.counter(
            "coredns_forward_max_concurrent_rejects_total",
            "Counter of the number of queries rejected because the concurrent queries were at maximum.",
        )
        self._broken = metrics.counter(
            "coredns_forward_healthcheck_broken_total",
            "Counter of the number of complete failures of the healthchecks.",
        )
        self._failures = metrics.counter(
            "coredns_proxy_healthcheck_failures_total",
            "Counter of the number of failed healthchecks.",
            ("proxy_name", "to"),
        )

    async def stop(self) -> None:
        """Close the sockets."""
        for upstream in self.upstreams:
            upstream.close()

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Ask, unless the name is none of ours or there is too much under way."""
        options = self.options
        name = request.name
        if longest_match(name, (options.zone,)) is None or longest_match(name, options.ignored) is not None:
            return await next_(request)
        if options.max_concurrent and self._concurrent >= options.max_concurrent:
            self._rejects.add()
            refused = reply(request.message, REFUSED, authoritative=False)
            return Response(refused, error=f"concurrent queries exceeded maximum {options.max_concurrent}")
        self._concurrent += 1
        try:
            response = await self._forward(request)
        finally:
            self._concurrent -= 1
        message = response.message
        if message.rcode in options.next_rcodes:
            return await next_(request)
        if options.next_on_nodata and message.rcode == NOERROR and not message.answers:
            return await next_(request)
        return response

    def order(self) -> list[Upstream]:
        """The upstreams in the order of the policy."""
        if self.options.policy == "sequential" or len(self.upstreams) == 1:
            return list(self.upstreams)
        if self.options.policy == "random":
            return random.sample(self.upstreams, len(self.upstreams))
        self._turn = (self._turn + 1) % len(self.upstreams)
        return self.upstreams[self._turn :] + self.upstreams[: self._turn]

    async def _forward(self, request: Request) -> Response:
        options = self.options
        if not self.upstreams:
            return failure(request, "no name server to forward to")
        order = self.order()
        up = [each for each in order if not each.down(options.max_fails)]
        if not up:
            self._broken.add()
            if options.failfast:
                return failure(request, "no healthy upstreams")
            # Probes may be what is broken: assume so, and try one.
            up = [random.choice(order)]
        deadline = time.monotonic() + DEADLINE_S
        error = "no upstream"
        # While there is time, once through all that are up and then again, as CoreDNS does.
        last: Response | None = None
        for turn in range(min(2 * len(up), options.max_attempts or 2 * len(up))):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            upstream = up[turn % len(up)]
            try:
                answer = await self._ask(upstream, request, min(left, READ_TIMEOUT_S))
            except UpstreamError as failed:
                error = str(failed)
                self._failed(upstream)
                continue
            upstream.fails = 0
            last = Response(self._checked(request, answer))
            # An rcode to fail over from is asked of each upstream once; the last of them has the last word.
            if answer.rcode not in options.failover or turn + 1 >= len(up):
                return last
        return last or failure(request, error)

    async def _ask(self, upstream: Upstream, request: Request, timeout_s: float) -> Message:
        options = self.options
        tcp = options.force_tcp or (request.transport == "tcp" and not options.prefer_udp)
        began = time.monotonic()
        answer = await upstream.ask(request.message, tcp=tcp, timeout_s=timeout_s)
        # Whoever can take a long answer gets it; a client on UDP learns from TC to come back over TCP.
        if answer.truncated and not tcp and (options.prefer_udp or request.transport == "tcp"):
            answer = await upstream.ask(request.message, tcp=True, timeout_s=timeout_s)
        self._duration.observe(time.monotonic() - began, "forward", str(upstream), rcode_name(answer.rcode))
        return answer

    def _failed(self, upstream: Upstream) -> None:
        self._failures.add("forward", str(upstream))
        if self._runtime is not None and self.options.max_fails > 0:
            upstream.probe(self._runtime.spawn, self.options.health_interval_s, self._probe)

    def _checked(self, request: Request, answer: Message) -> Message:
        """The upstream's answer under the client's question."""
        if answer.questions and answer.questions[0].name.lower() != request.name:
            return reply(request.message, FORMERR, authoritative=False)
        return replace(
            answer,
            id=request.message.id,
            questions=request.message.questions,
            recursion_desired=request.message.recursion_desired,
            edns=None,
        )


def setup(setup: Setup) -> Sequence[Plugin]:
    """One forward for each line: a server block may forward several zones to several places."""
    return [Forward(_options(directive, setup)) for directive in setup.directives]


def _options(directive: Directive, setup: Setup) -> ForwardOptions:
    if len(directive.args) < 2:
        raise directive.error("forward needs FROM and TO")
    froms = setup.zones_of(directive.args[:1])
    if len(froms) != 1:
        raise directive.error("this network is more than one zone", directive.args[0])
    upstreams = tuple(address for arg in directive.args[1:] for address in _addresses(arg, setup))
    if len(upstreams) > MAX_UPSTREAMS:
        raise directive.error(f"more than {MAX_UPSTREAMS} TOs configured: {len(upstreams)}")
    options = ForwardOptions(froms[0], upstreams)
    for line in directive.block:
        reader = _READERS.get(line.name)
        if reader is None:
            raise line.error(f"unknown property '{line.name}'")
        options = reader(line, options, setup)
    return options


def _addresses(arg: Token, setup: Setup) -> list[tuple[str, int]]:
    """An address, or the name servers of a file."""
    text = arg.text
    scheme, separator, rest = text.partition("://")
    if separator:
        if scheme != "dns":
            raise Directive(arg).error(f"upstream scheme '{scheme}' is not spoken here, only dns")
        text = rest
    address = _address(text)
    if address is not None:
        return [address]
    path = setup.path(arg)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise Directive(arg).error(f"not an IP address or file: '{arg.text}'") from error
    words = [line.split("#")[0].split(";")[0].split() for line in lines]
    servers = [each[1] for each in words if len(each) >= 2 and each[0] == "nameserver"]
    # None at all is right for a closed room, where CoreDNS would not start: names outside are then SERVFAIL at once.
    return [address for each in servers if (address := _address(each.partition("%")[0])) is not None]


def _address(text: str) -> tuple[str, int] | None:
    """`10.0.0.1`, `10.0.0.1:53`, `2001:db8::1`, `[2001:db8::1]:53`."""
    host, port = text, ""
    if text.startswith("[") and "]" in text:
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return None
    try:
        return str(ipaddress.ip_address(host)), int(port or 53)
    except ValueError:
        return None


_Reader = Callable[[Directive, ForwardOptions, Setup], ForwardOptions]


def _flag(line: Directive, options: ForwardOptions, _setup: Setup) -> ForwardOptions:
    if line.args:
        raise line.error(f"{line.name} takes no arguments")
    name = {"failfast_all_unhealthy_upstreams": "failfast"}.get(line.name, line.name)
    value: dict[str, Any] = {name: True}
    return replace(options, **value)


def _except(line: Directive, options: ForwardOptions, setup: Setup) -> ForwardOptions:
    if not line.args:
        raise line.error("except needs names")
    return replace(options, ignored=(*options.ignored, *setup.zones_of(line.args)))


def _value(line: Directive, options: ForwardOptions, _setup: Setup) -> ForwardOptions:
    if len(line.args) != 1:
        raise line.error(f"{line.name} needs one value")
    value = line.args[0]
    if line.name == "expire":
        return replace(options, expire_s=parse_duration(value))
    if line.name == "max_fails":
        return replace(options, max_fails=parse_number(value, 0, 2**31))
    if line.name == "max_concurrent":
        return replace(options, max_concurrent=parse_number(value, 0, 2**31))
    if line.name == "max_connect_attempts":
        return replace(options, max_attempts=parse_number(value, 0, 2**31))
    if line.name == "max_idle_conns":  # TCP connections are not kept, so there are never more idle than that
        parse_number(value, 0, 2**31)
        return options
    if value.text not in _POLICIES:
        raise line.error(f"unknown policy '{value.text}'", value)
    return replace(options, policy=value.text)


def _health_check(line: Directive, options: ForwardOptions, _setup: Setup) -> ForwardOptions:
    if not line.args:
        raise line.error("health_check needs a DURATION")
    options = replace(options, health_interval_s=parse_duration(line.args[0]))
    rest = list(line.args[1:])
    while rest:
        word = rest.pop(0)
        if word.text == "no_rec":
            options = replace(options, health_recursion=False)
        elif word.text == "domain" and rest:
            options = replace(options, health_domain=fqdn(rest.pop(0).text))
        else:
            raise line.error(f"health_check: unknown option '{word.text}'", word)
    return options


def _next(line: Directive, options: ForwardOptions, _setup: Setup) -> ForwardOptions:
    unknown = [arg for arg in line.args if arg.text.upper() not in RCODE_NUMBERS]
    if unknown or not line.args:
        raise line.error(f"{line.name} needs names of rcodes", unknown[0] if unknown else None)
    codes = frozenset(RCODE_NUMBERS[word.upper()] for word in line.words)
    if line.name == "failover":
        if NOERROR in codes:
            raise line.error("NOERROR cannot be used in failover")
        return replace(options, failover=options.failover | codes)
    return replace(options, next_rcodes=options.next_rcodes | codes)


def _refused(line: Directive, _options: ForwardOptions, _setup: Setup) -> ForwardOptions:
    """Known to CoreDNS, and nothing that could work here."""
    raise line.error(f"'{line.name}' is not supported: upstreams are asked over UDP and TCP, by address")


_READERS: dict[str, _Reader] = {
    "except": _except,
    "force_tcp": _flag,
    "prefer_udp": _flag,
    "failfast_all_unhealthy_upstreams": _flag,
    "expire": _value,
    "max_fails": _value,
    "max_concurrent": _value,
    "policy": _value,
    "health_check": _health_check,
    "next": _next,
    "failover": _next,
    "next_on_nodata": _flag,
    "max_connect_attempts": _value,
    "max_idle_conns": _value,
    "tls": _refused,
    "tls_servername": _refused,
    "doh_method": _refused,
    "resolver": _refused,
}

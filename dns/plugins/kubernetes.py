"""kubernetes: the names of Services, endpoints and pods, from the API server's objects.

The rule: the plugin holds one immutable zone at a time and swaps it; an answer says on which part of it it rests (`Reuse`),
and a swap ends exactly the answers whose part changed. Until the first sync there is no zone: SERVFAIL.

    informers ──▶ changes ──▶ apply_changes ──▶ swap ──▶ revoke what changed ──▶ the next query meets the new zone

Source: the CoreDNS kubernetes plugin (README); Kubernetes DNS specification 1.1.0; RFC 2308.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from ipaddress import ip_address

from podnet.dns.config import Setup, longest_match
from podnet.dns.handler import (
    Address,
    Handler,
    Plugin,
    Request,
    Response,
    Reuse,
    Runtime,
    Validity,
    WireAnswer,
)
from podnet.dns.kubernetes.feed import ApiFeed, Feed
from podnet.dns.kubernetes.grants import Grants
from podnet.dns.kubernetes.options import KubernetesOptions, parse_options
from podnet.dns.kubernetes.surroundings import observe_own_addresses, observe_searches
from podnet.dns.message import (
    A_,
    AAAA_,
    AXFR_,
    CNAME_,
    IN,
    IXFR_,
    NOERROR,
    NS,
    NS_,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    SOA_,
    Record,
    is_subdomain,
    record,
    reply,
)
from podnet.dns.records import types
from podnet.dns.records.names import is_reverse, reverse_address, split_name
from podnet.dns.records.prepared import encode_addresses, encode_soa, is_addresses, parse_question
from podnet.dns.records.rendering import Asked, join, render, render_address, render_reverse, render_soa
from podnet.dns.records.types import Answer
from podnet.dns.records.zone import Zone
from podnet.dns.wire import encode_name

CHAIN_MAX = 8
"""How many aliases of aliases are followed."""

_NOT_PREPARED = ((), ("ns", "dns"))
"""Names whose answers are the plugin's own, not the zone index's."""

_depth: ContextVar[int] = ContextVar("kubernetes_alias_depth", default=0)
"""How often this server asked itself on the way: two plugins may point their aliases at each other."""


def setup(setup: Setup) -> Sequence[Plugin]:
    """`kubernetes [ZONES...] { … }`."""
    options = parse_options(setup)
    return [Kubernetes(options, ApiFeed(options, setup.environ))]


class Kubernetes(Plugin):
    """See the module. `feed` brings the zones; tests bring their own."""

    name = "kubernetes"

    def __init__(self, options: KubernetesOptions, feed: Feed) -> None:
        self._options = options
        self._feed = feed
        self._zone: Zone | None = None
        self._imports: Zone | None = None  # the zone of `multicluster`, from ServiceImports
        self._grants = Grants()
        self._addresses: tuple[str, ...] = ()
        self._host_searches: tuple[str, ...] = ()
        self._runtime: Runtime | None = None
        # The longest first. Reverse zones, imported names and the root take the slow path.
        zones = sorted(options.zones, key=len, reverse=True)
        slow = {zone for zone in zones if zone == "." or is_reverse(split_name(zone))} | set(options.multicluster)
        self._wire_zones = [(zone, encode_name(zone), zone in slow) for zone in zones]

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self, runtime: Runtime) -> None:
        self._runtime = runtime
        listening = [host for host, _ in runtime.listening if not _is_wildcard(host)]
        self._addresses = tuple(listening) or observe_own_addresses()
        # A ClusterFirst pod has the node's search domains behind the cluster's; this pod (Default) has just those.
        self._host_searches = observe_searches()
        await self._feed.start(runtime.spawn, self.swap, self._options.startup_timeout_s)

    async def stop(self) -> None:
        await self._feed.stop()

    def ready(self) -> bool:
        return self._zone is not None

    def swap(self, zone: Zone, imports: Zone | None = None) -> None:
        """Serve this zone from now on."""
        self._grants.move(self._zone, zone)
        if imports is not self._imports:
            self._grants.revoke_all()
        self._zone, self._imports = zone, imports

    def search_path(self, client: Address) -> list[str] | None:
        """What a pod's resolver appends to a name, at last nothing; None for a client that is no pod we know (which
        needs `pods verified`)."""
        zone = self._zone
        namespace = zone.namespace_of(str(client)) if zone is not None else ""
        if not namespace:
            return None
        primary = self._options.primary
        return [join(f"{namespace}.svc", primary), join("svc", primary), primary, *self._host_searches, ""]

    # --- answering --------------------------------------------------------------------------------------------------

    async def serve(self, request: Request, next_: Handler) -> Response:
        zone_name = longest_match(request.name, self._options.zones)
        if zone_name is None or request.qclass != IN:
            return await next_(request)
        if request.qtype in (AXFR_, IXFR_):
            return Response(reply(request.message, REFUSED, authoritative=False))
        spelled = request.qname[-len(zone_name) :]
        asked = Asked(request.qname, spelled, self._options.primary)
        zone = self._imports if zone_name in self._options.multicluster else self._zone
        if zone is None:
            soa = render_soa(spelled, 0, self._options.records.ttl_s)
            return Response(reply(request.message, SERVFAIL, authority=(soa,)))
        labels = split_name(request.name[: len(request.name) - len(zone_name)])
        answer, records, additional = self._answer(zone, labels, request, asked)
        if not answer.exists and self._falls_through(request.name):
            return await next_(request)
        if not records:
            soa = render_soa(spelled, zone.serial, self._options.records.ttl_s)
            rcode = NOERROR if answer.exists else NXDOMAIN
            return Response(reply(request.message, rcode, authority=(soa,)), Reuse((self._grants.whole,)))
        response = Response(
            reply(request.message, answers=records, additional=additional), Reuse((self._validity(zone, labels),))
        )
        if answer.alias and request.qtype != CNAME_:
            return await self._follow(request, zone, zone_name, response)
        return response

    def _answer(
        self, zone: Zone, labels: types.Labels, request: Request, asked: Asked
    ) -> tuple[Answer, tuple[Record, ...], tuple[Record, ...]]:
        ttl_s = self._options.records.ttl_s
        if not labels and request.qtype == SOA_:
            return types.NODATA, (render_soa(asked.zone, zone.serial, ttl_s),), ()
        if not labels and request.qtype == NS_:
            servers = [(join(name, asked.zone), ip) for name, ip in zone.name_servers(self._addresses)]
            names = tuple(record(asked.qname, ttl_s, NS(name)) for name in dict.fromkeys(name for name, _ in servers))
            return types.NODATA, names, tuple(render_address(name, ip, ttl_s) for name, ip in servers)
        if labels == ("ns", "dns") and request.qtype in (A_, AAAA_):
            own = dict.fromkeys(ip for _, ip in zone.name_servers(self._addresses))
            wanted = [ip for ip in own if (":" in ip) == (request.qtype == AAAA_)]
            return types.NODATA, tuple(render_address(asked.qname, ip, ttl_s) for ip in wanted), ()
        whole = split_name(request.name)
        if labels and is_reverse(whole) and labels != ("ns", "dns"):
            answer = zone.lookup_reverse(reverse_address(whole), asked.qname, request.qtype)
            return answer, render_reverse(answer.records, asked), ()
        answer = zone.lookup(labels, request.qtype)
        return answer, render(answer.records, asked), render(answer.additional, asked)

    def _falls_through(self, name: str) -> bool:
        return longest_match(name, self._options.fallthrough) is not None

    def _validity(self, zone: Zone, labels: types.Labels) -> Validity:
        """What a positive answer rests on: one Service where it can, else the whole zone."""
        if zone is self._zone and len(labels) > 2 and labels[-1] == "svc":
            return self._grants.of(zone, labels[-2], labels[-3])
        return self._grants.whole

    async def _follow(self, request: Request, zone: Zone, zone_name: str, response: Response) -> Response:
        """Add what an alias stands for: from this zone itself, then as this very server would answer anybody."""
        records = [*response.message.answers]
        reuse = response.reuse
        seen = {request.name}
        target = str(records[-1].data)
        while is_subdomain(target.lower(), zone_name) and len(records) < CHAIN_MAX:
            name = target.lower()
            if name in seen:
                return response  # aliases in a circle: the first one is all there is to say
            seen.add(name)
            labels = split_name(name[: len(name) - len(zone_name)])
            asked = Asked(target, target[-len(zone_name) :], self._options.primary)
            answer = zone.lookup(labels, request.qtype)
            records += render(answer.records, asked)
            validity = self._validity(zone, labels) if answer.records else self._grants.whole
            reuse = reuse.and_(Reuse((validity,))) if reuse is not None else None
            if not answer.alias:
                return Response(replace(response.message, answers=tuple(records)), reuse)
            target = answer.alias
        depth = _depth.get()
        if self._runtime is None or depth >= CHAIN_MAX or len(records) >= CHAIN_MAX:
            return Response(replace(response.message, answers=tuple(records))).once()
        token = _depth.set(depth + 1)
        try:
            found = await self._runtime.resolve(request.asking(target))
        finally:
            _depth.reset(token)
        message = replace(
            response.message,
            answers=(*records, *found.message.answers),
            truncated=found.message.truncated,
        )
        return Response(message, reuse.and_(found.reuse) if reuse is not None and found.reuse is not None else None)

    # --- the fast path ----------------------------------------------------------------------------------------------

    def prepare(self, question: bytes) -> WireAnswer | None:
        zone = self._zone
        if zone is None:
            return None
        found = next((each for each in self._wire_zones if question[-len(each[1]) - 4 : -4] == each[1]), None)
        if found is None or found[2]:
            return None
        name = parse_question(question, found[1])
        if name is None or name.labels in _NOT_PREPARED or name.qtype in (AXFR_, IXFR_):
            return None
        answer = zone.lookup(name.labels, name.qtype)
        if answer.records:
            if not is_addresses(name, answer):
                return None
            body = encode_addresses(answer)
            reuse = Reuse((self._validity(zone, name.labels),))
            count = len(answer.records)
            return WireAnswer(NOERROR, True, count, 0, 0, body, reuse, case_safe=True, stride=len(body) // count)
        if not answer.exists and self._falls_through(join(".".join(name.labels), found[0])):
            return None
        body = encode_soa(name.zone_at, zone.serial, self._options.records.ttl_s)
        rcode = NOERROR if answer.exists else NXDOMAIN
        return WireAnswer(rcode, True, 0, 1, 0, body, Reuse((self._grants.whole,)), case_safe=True)


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return True

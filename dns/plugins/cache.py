"""cache: keeps answers of the plugins below it for as long as they are good, negative ones too (RFC 2308).

Syntax: `cache [TTL] [ZONES...] { success CAP [TTL [MINTTL]]; denial CAP [TTL [MINTTL]]; prefetch AMOUNT [DURATION [N%]];
serve_stale [DURATION [immediate|verify]]; servfail DURATION; disable success|denial [ZONES...]; keepttl }`.

The rule kept here: what the plugin below knows to be true until further notice (a `Reuse` without end: cluster names,
hosts, zone files) is not kept: it cannot be fresher than at its source, and a copy could be stale.
All records of a kept answer have one TTL, the lowest of them within the limits, and it counts down, as in CoreDNS.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from podnet.dns.config import Setup, longest_match
from podnet.dns.handler import Handler, Plugin, Request, Response, Reuse, Runtime, Validity
from podnet.dns.message import NOERROR, NXDOMAIN, SERVFAIL, SOA, Message, Record
from podnet.dns.plugins.cache_setup import CacheOptions, parse_cache
from podnet.dns.zones import respelled

Key: TypeAlias = tuple[str, int, bool, bool]
DEFAULT_MIN_TTL_S = 5
"""Of an answer without any record."""


@dataclass(slots=True)
class Entry:
    """A kept answer. Times are of the monotonic clock."""

    message: Message
    stored: float
    ttl: int
    denial: bool
    validity: Validity = field(default_factory=Validity)
    hits: int = 0
    last_hit: float = -math.inf
    refreshing: bool = False

    def remaining(self, now: float) -> int:
        """Seconds it is still good for; negative when stale."""
        return self.ttl - int(now - self.stored)

    def hit(self, now: float, window_s: float, times: int = 1) -> int:
        """Count; a pause longer than the window begins anew."""
        self.hits = self.hits + times if now - self.last_hit <= window_s else times
        self.last_hit = now
        return self.hits


class Cache(Plugin):
    """Two stores of limited size, one for answers, one for denials."""

    name = "cache"

    def __init__(self, options: CacheOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self.options = options
        self._clock = clock
        self._success: OrderedDict[Key, Entry] = OrderedDict()
        self._denial: OrderedDict[Key, Entry] = OrderedDict()
        self._runtime: Runtime | None = None
        self._refreshing: set[Key] = set()
        self._end_collecting: Callable[[], None] | None = None

    transparent = True  # to what has a Reuse without end, which is all that `prepare` is for

    async def start(self, runtime: Runtime) -> None:
        """Metrics, and tasks to refresh with."""
        self._runtime = runtime
        metrics = runtime.metrics
        server = f"dns://:{runtime.listening[0][1]}" if runtime.listening else "dns://"
        self._server = server
        labels = ("server", "type", "zones", "view")
        self._hits = metrics.counter("coredns_cache_hits_total", "The count of cache hits.", labels)
        self._misses = metrics.counter(
            "coredns_cache_misses_total", "The count of cache misses.", ("server", "zones", "view")
        )
        self._requests = metrics.counter(
            "coredns_cache_requests_total", "The count of cache requests.", ("server", "zones", "view")
        )
        self._prefetches = metrics.counter(
            "coredns_cache_prefetch_total",
            "The number of times the cache has prefetched a cached item.",
            ("server", "zones", "view"),
        )
        self._stale = metrics.counter(
            "coredns_cache_served_stale_total",
            "The number of requests served from stale cache entries.",
            ("server", "zones", "view"),
        )
        entries = metrics.gauge("coredns_cache_entries", "The number of elements in the cache.", labels)

        def collect() -> None:
            entries.set(len(self._success), server, "success", "", "")
            entries.set(len(self._denial), server, "denial", "", "")

        self._end_collecting = metrics.collect(collect)

    async def stop(self) -> None:
        """Leave the metrics."""
        if self._end_collecting:
            self._end_collecting()

    async def serve(self, request: Request, next_: Handler) -> Response:
        """From the store, or from below and into it."""
        if longest_match(request.name, self.options.zones) is None:
            return await next_(request)
        now = self._clock()
        key = (request.name, request.qtype, request.do, request.message.checking_disabled)
        entry = self._success.get(key) or self._denial.get(key)
        if entry is None or entry.remaining(now) <= 0:
            return await self._missed(request, next_, key, entry, now)
        store = self._denial if entry.denial else self._success
        store.move_to_end(key)
        remaining = entry.remaining(now)
        hits = entry.hit(now, self.options.prefetch_window_s)
        self._count_hit(entry, 1)
        if self._wants_prefetch(entry, hits, remaining):
            self._refresh(request, next_, key, prefetch=True)
        return self._from_entry(request, entry, remaining)

    async def _missed(self, request: Request, next_: Handler, key: Key, entry: Entry | None, now: float) -> Response:
        options = self.options
        if self._runtime:
            self._requests.add(self._server, "", "")
        usable = entry is not None and now - entry.stored - entry.ttl < options.stale_s
        if entry is None or not usable:
            if self._runtime:
                self._misses.add(self._server, "", "")
            return self._keep(request, key, await next_(request))
        if options.verify_stale:
            response = await next_(request)
            if response.message.rcode != SERVFAIL:
                return self._keep(request, key, response)
        else:
            self._refresh(request, next_, key, prefetch=False)
        if self._runtime:
            self._stale.add(self._server, "", "")
        return self._from_entry(request, entry, 0).once()

    def _wants_prefetch(self, entry: Entry, hits: int, remaining: int) -> bool:
        options = self.options
        return options.prefetch > 0 and hits >= options.prefetch and remaining <= entry.ttl * options.prefetch_share

    def _refresh(self, request: Request, next_: Handler, key: Key, *, prefetch: bool) -> None:
        """Ask below in the background; the same name is asked for once at a time."""
        if key in self._refreshing or self._runtime is None:
            return
        self._refreshing.add(key)
        if prefetch:
            self._prefetches.add(self._server, "", "")

        async def refresh() -> None:
            try:
                self._keep(request, key, await next_(request), refresh=True)
            finally:
                self._refreshing.discard(key)

        self._runtime.spawn(refresh())

    def _count_hit(self, entry: Entry, times: int) -> None:
        if self._runtime:
            kind = "denial" if entry.denial else "success"
            self._hits.add(self._server, kind, "", "", amount=times)
            self._requests.add(self._server, "", "", amount=times)

    def _from_entry(self, request: Request, entry: Entry, ttl: int) -> Response:
        """A kept answer in the words of this question; AA is set as CoreDNS sets it, for clients that insist."""
        kept = entry.message
        wants_ad = request.do or request.message.authentic_data

        def aged(records: Sequence[Record]) -> tuple[Record, ...]:
            if self.options.keep_ttl:
                return respelled(records, request.qname)
            return respelled([replace(each, ttl=ttl) for each in records], request.qname)

        message = replace(
            kept,
            id=request.message.id,
            authoritative=True,
            recursion_desired=request.message.recursion_desired,
            checking_disabled=request.message.checking_disabled,
            authentic_data=kept.authentic_data and wants_ad,
            questions=request.message.questions,
            answers=aged(kept.answers),
            authority=aged(kept.authority),
            additional=aged(kept.additional),
        )
        return Response(message, self._reuse(entry))

    def _reuse(self, entry: Entry) -> Reuse:
        """For the fast path: until it is time to think about a prefetch, and counted as hits."""
        end = entry.stored + entry.ttl
        if self.options.prefetch > 0:
            end -= entry.ttl * self.options.prefetch_share

        def counted(times: int) -> None:
            entry.hit(self._clock(), self.options.prefetch_window_s, times)
            self._count_hit(entry, times)

        ages_from = None if self.options.keep_ttl else entry.stored
        return Reuse((entry.validity,), end, ages_from, counted=counted)

    def _keep(self, request: Request, key: Key, response: Response, *, refresh: bool = False) -> Response:
        """Store what may be stored; the asker gets it with the TTL it is stored with."""
        if response.silent or (response.reuse is not None and response.reuse.expires == math.inf):
            return response
        message = response.message
        denial = _is_denial(message)
        ttl = self._ttl(request, message, denial=denial)
        if ttl is None:
            return response
        if not self.options.keep_ttl:
            message = with_ttl(message, ttl)
        if refresh and message.rcode == SERVFAIL and key in self._success:
            return response  # what is there is better than nothing
        store, other = (self._denial, self._success) if denial else (self._success, self._denial)
        entry = Entry(replace(message, edns=None), self._clock(), ttl, denial)
        for each in (store, other):
            old = each.pop(key, None)
            if old is not None:
                old.validity.revoke()
                entry.hits, entry.last_hit = old.hits, old.last_hit
        capacity = self.options.denial_capacity if denial else self.options.success_capacity
        while len(store) >= capacity:
            store.popitem(last=False)[1].validity.revoke()
        store[key] = entry
        return replace(response, message=message, reuse=None)

    def _ttl(self, request: Request, message: Message, *, denial: bool) -> int | None:
        """How long to keep it; None for not at all."""
        options = self.options
        if message.truncated or not message.response:
            return None
        if message.rcode == SERVFAIL:
            return int(options.servfail_s) or None
        if message.rcode not in {NOERROR, NXDOMAIN} or (message.rcode == NXDOMAIN and not denial):
            return None
        disabled = options.denial_disabled if denial else options.success_disabled
        if longest_match(request.name, disabled) is not None:
            return None
        if denial:
            return max(options.denial_min_ttl, min(minimal_ttl(message), options.denial_ttl)) or None
        return max(options.success_min_ttl, min(minimal_ttl(message), options.success_ttl)) or None


def _is_denial(message: Message) -> bool:
    if message.rcode == SERVFAIL:
        return True
    has_soa = any(isinstance(each.data, SOA) for each in message.authority)
    return has_soa and (message.rcode == NXDOMAIN or (message.rcode == NOERROR and not message.answers))


def minimal_ttl(message: Message) -> int:
    """The lowest TTL of all records; of a SOA in a denial also its minimum."""
    records = (*message.answers, *message.authority, *message.additional)
    ttls = [each.ttl for each in records]
    if not message.answers:
        ttls += [each.data.minimum for each in message.authority if isinstance(each.data, SOA)]
    return min(ttls, default=DEFAULT_MIN_TTL_S)


def with_ttl(message: Message, ttl: int) -> Message:
    """The message with one TTL for all records."""

    def set_ttl(records: Sequence[Record]) -> tuple[Record, ...]:
        return tuple(replace(each, ttl=ttl) for each in records)

    return replace(
        message,
        answers=set_ttl(message.answers),
        authority=set_ttl(message.authority),
        additional=set_ttl(message.additional),
    )


def setup(setup: Setup) -> Sequence[Plugin]:
    """One cache a server block."""
    return [Cache(parse_cache(setup))]

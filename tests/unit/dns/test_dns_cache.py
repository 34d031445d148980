"""The cache: what it keeps, how long, and what it answers while nobody above does."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dns_harness import Chain, records, says

from podnet.dns import message as m
from podnet.dns.handler import Response, Reuse

UP = says("@ 300 IN A 192.0.2.1")


# --- cache ---------------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def cached(text, last):
    chain = Chain(text, last=last)
    clock = Clock()
    chain.plugins[0]._clock = clock
    return chain, clock


@pytest.mark.parametrize(
    ("text", "upstream_ttl", "first"),
    [
        ("cache", 300, 300),
        ("cache 30", 300, 30),
        ("cache 30", 2, 5),
        ("cache {\n success 10 60 0\n }", 2, 2),
        ("cache", 7200, 3600),
    ],
)
async def test_cache_ttl_limits_and_ageing(text, upstream_ttl, first):
    chain, clock = cached(text, says("@ TTL IN A 192.0.2.1", ttl=upstream_ttl))
    async with chain:
        assert (await chain.ask("x.test")).answers[0].ttl == first
        clock.now += 1.5
        message = await chain.ask("X.test")
        assert (message.answers[0].ttl, message.answers[0].name, message.id) == (first - 1, "X.test.", 7)
        clock.now += first
        await chain.ask("x.test")
        assert len(chain.asked) == 2


@pytest.mark.parametrize(("rcode", "kept_s"), [(m.NXDOMAIN, 60), (m.NOERROR, 60), (m.SERVFAIL, 5), (m.REFUSED, 0)])
async def test_cache_of_denials(rcode, kept_s):
    chain, clock = cached("cache", says(rcode=rcode, soa=rcode in {0, m.NXDOMAIN}))
    async with chain:
        await chain.ask("x.test")
        clock.now += max(kept_s - 0.5, 0)
        again = await chain.ask("x.test")
        assert again.rcode == rcode
        assert len(chain.asked) == (1 if kept_s else 2)
        clock.now += 1
        await chain.ask("x.test")
        assert len(chain.asked) == (2 if kept_s else 3)


async def test_cache_keys():
    chain, _ = cached("cache", UP)
    async with chain:
        await chain.ask("x.test")
        await chain.ask("x.test", "AAAA")
        await chain.ask("x.test", edns=m.Edns(do=True))
        await chain.ask("x.test", checking_disabled=True)
        await chain.ask("x.test", recursion_desired=False)
        assert len(chain.asked) == 4


async def test_cache_does_not_keep_truncated_or_live_answers():
    chain, _ = cached("cache", lambda request: UP(request).with_(truncated=True))
    async with chain:
        await chain.ask("x.test")
        await chain.ask("x.test")
        assert len(chain.asked) == 2
    chain, _ = cached("cache 30", lambda request: Response(UP(request), Reuse()))
    async with chain:
        for _ in range(2):
            assert (await chain.ask("x.test")).answers[0].ttl == 300, "what is true until revoked is not aged"
        assert len(chain.asked) == 2


async def test_cache_zones_and_disable():
    chain, _ = cached("cache 30 a.test", UP)
    async with chain:
        for name in ("x.b.test", "x.b.test", "x.a.test", "x.a.test"):
            await chain.ask(name)
        assert len(chain.asked) == 3
    chain, _ = cached("cache {\n disable success a.test\n }", UP)
    async with chain:
        for name in ("x.b.test", "x.b.test", "x.a.test", "x.a.test"):
            await chain.ask(name)
        assert len(chain.asked) == 3


async def test_cache_capacity():
    chain, _ = cached("cache {\n success 2\n }", UP)
    async with chain:
        first = await chain.respond("a.test")
        again = await chain.respond("a.test")
        assert first.reuse is None
        assert again.reuse.validities[0].valid
        await chain.ask("b.test")
        await chain.ask("c.test")
        assert not again.reuse.validities[0].valid, "what is put out of the cache ends in the fast path, too"
        await chain.ask("a.test")
        assert len(chain.asked) == 4


async def test_cache_prefetch():
    chain, clock = cached("cache {\n prefetch 2 1m 50%\n }", UP)
    async with chain:
        await chain.ask("x.test")
        clock.now += 10
        await chain.ask("x.test")
        clock.now += 145
        assert len(chain.asked) == 1
        response = await chain.respond("x.test")
        assert response.message.answers[0].ttl == 145, "fewer than two hits within a minute"
        await chain.ask("x.test")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(chain.asked) == 2
        assert (await chain.ask("x.test")).answers[0].ttl == 300
        assert response.reuse.expires == pytest.approx(1150)
        assert not response.reuse.validities[0].valid


@pytest.mark.parametrize("mode", ["immediate", "verify"])
async def test_cache_serve_stale(mode):
    broken = False

    def last(request):
        return m.reply(request.message, m.SERVFAIL) if broken else UP(request)

    chain, clock = cached(f"cache {{\n serve_stale 1h {mode}\n }}", last)
    async with chain:
        await chain.ask("x.test")
        broken = True
        clock.now += 400
        message = await chain.ask("x.test")
        assert (records(message), message.answers[0].ttl) == (["x.test. A 192.0.2.1"], 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.now += 4000
        assert (await chain.ask("x.test")).rcode == m.SERVFAIL


async def test_cache_metrics():
    chain, _ = cached("cache", UP)
    async with chain:
        for _ in range(3):
            await chain.ask("x.test")
        text = chain.metrics.expose()
        assert 'coredns_cache_hits_total{server="dns://:53",type="success",zones="",view=""} 2' in text
        assert 'coredns_cache_entries{server="dns://:53",type="success",zones="",view=""} 1' in text

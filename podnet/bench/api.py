"""The API server's two budgets, next to a bare aiohttp server in the same run."""

from __future__ import annotations

from collections.abc import Iterator

from podnet.bench.rows import Row, Settings


def api_rows(settings: Settings) -> Iterator[Row]:
    """The room `apiserver` measures; here its figures become rows."""
    from podnet.controlplane.apiserver.bench import CONNECTIONS, EVENTS_PER_S, WATCHES, bench_get, bench_watch

    settings.note("api: GET")
    got = bench_get()
    name = f"GET one pod, {CONNECTIONS} connections, one core"
    bare = "bare aiohttp, same answer"
    yield Row("api", name, got.requests_per_s, "/s", 8000.0, False, bare, got.reference_per_s, True)
    settings.note("api: watches")
    watched = bench_watch()
    name = f"{WATCHES} watches at {EVENTS_PER_S} events/s, p99"
    yield Row("api", name, watched.p99_ms, "ms", 50.0, True, "bare aiohttp fan-out", watched.reference_p99_ms, True)
    yield Row("api", "events lost by those watches", float(watched.lost), "", 0.0)

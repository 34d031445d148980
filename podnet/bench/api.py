"""The API server's two budgets, next to a bare aiohttp server in the same run."""

from __future__ import annotations

from podnet.bench.rows import Row


def api_rows() -> list[Row]:
    """The room `apiserver` measures; here its figures become rows."""
    from podnet.controlplane.apiserver.bench import CONNECTIONS, EVENTS_PER_S, WATCHES, bench_get, bench_watch

    got = bench_get()
    watched = bench_watch()
    name = f"{WATCHES} watches at {EVENTS_PER_S} events/s, p99"
    return [
        Row(
            "api",
            f"GET one pod, {CONNECTIONS} connections, one core",
            got.requests_per_s,
            "/s",
            8000.0,
            False,
            "bare aiohttp, same answer",
            got.reference_per_s,
            True,
        ),
        Row("api", name, watched.p99_ms, "ms", 50.0, True, "bare aiohttp fan-out", watched.reference_p99_ms, True),
        Row("api", "events lost by those watches", float(watched.lost), "", 0.0),
    ]

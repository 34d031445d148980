"""The benchmark's rows can be run; the figures themselves are for `podnet bench`."""

from __future__ import annotations

from podnet.controlplane.apiserver.bench import bench_get, bench_watch


def test_get_has_a_figure_and_a_reference() -> None:
    result = bench_get(duration_s=0.2, connections=4)
    assert result.requests_per_s > 0
    assert result.reference_per_s > 0
    assert result.body_bytes > 1000


def test_watches_deliver_every_event() -> None:
    result = bench_watch(duration_s=0.5, watches=20, events_per_s=20)
    assert 0 < result.p50_ms <= result.p99_ms
    assert 0 < result.reference_p50_ms <= result.reference_p99_ms
    assert result.lost == 0

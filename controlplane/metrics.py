"""Counters, gauges and histograms in the Prometheus text format, for every component that has a `/metrics`.

The rule kept here: counting is an addition to a dictionary; all text is made when somebody scrapes. What is counted
elsewhere (in plain integers, on a hot path) comes in through `collect` callbacks at that moment.
Format: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES = 10_000
"""Of one metric; what would come on top is not counted, so that no client can fill the memory with label values."""
API_LATENCY_BOUNDS_S = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60
)  # fmt: skip
"""Seconds; upstream's buckets for requests to the API server and for its requests to etcd."""


class Counter:
    """Only goes up."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.labels = name, text, tuple(labels)
        self.values: dict[tuple[str, ...], float] = {}

    def add(self, *values: str, amount: float = 1) -> None:
        """One more with these label values."""
        if values in self.values:
            self.values[values] += amount
        elif len(self.values) < MAX_SERIES:
            self.values[values] = amount

    def lines(self) -> Iterator[str]:
        """The samples as text."""
        for values, number in sorted(self.values.items()):
            yield f"{self.name}{_labels(self.labels, values)} {_number(number)}"


class Gauge(Counter):
    """Goes up and down."""

    kind = "gauge"

    def set(self, number: float, *values: str) -> None:
        """It is `number` now."""
        if values in self.values or len(self.values) < MAX_SERIES:
            self.values[values] = number


class Histogram:
    """How often a value fell below each bound."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> None:
        self.name, self.help, self.labels, self.buckets = name, text, tuple(labels), tuple(buckets)
        self.values: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def observe(self, value: float, *values: str, times: int = 1) -> None:
        """One observation (or several of the same)."""
        series = self.values.get(values)
        if series is None:
            if len(self.values) >= MAX_SERIES:
                return
            series = self.values[values] = ([0] * (len(self.buckets) + 1), [0.0])
        series[0][bisect.bisect_left(self.buckets, value)] += times
        series[1][0] += value * times

    def lines(self) -> Iterator[str]:
        """The samples as text, buckets cumulative."""
        names = (*self.labels, "le")
        for values, (counts, total) in sorted(self.values.items()):
            running = 0
            for bound, count in zip((*self.buckets, float("inf")), counts, strict=True):
                running += count
                yield f"{self.name}_bucket{_labels(names, (*values, _number(bound)))} {running}"
            yield f"{self.name}_sum{_labels(self.labels, values)} {_number(total[0])}"
            yield f"{self.name}_count{_labels(self.labels, values)} {running}"


Metric = Counter | Histogram
AnyMetric = TypeVar("AnyMetric", bound=Metric)


class Registry:
    """All metrics of the process, by name; they outlive a reload."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}
        self._collectors: list[Callable[[], None]] = []

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """The counter of that name, made on first use."""
        return self._of(Counter(name, text, labels))

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """The gauge of that name, made on first use."""
        return self._of(Gauge(name, text, labels))

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        """The histogram of that name, made on first use."""
        return self._of(Histogram(name, text, labels, buckets))

    def collect(self, collector: Callable[[], None]) -> Callable[[], None]:
        """Call `collector` before each scrape; the result takes it away again."""
        self._collectors.append(collector)
        return lambda: self._collectors.remove(collector)

    def expose(self) -> str:
        """Everything as text."""
        for collector in self._collectors:
            collector()
        lines: list[str] = []
        for name, metric in sorted(self._metrics.items()):
            lines += (f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}", *metric.lines())
        return "\n".join(lines) + "\n"

    def _of(self, fresh: AnyMetric) -> AnyMetric:
        known = self._metrics.setdefault(fresh.name, fresh)
        assert type(known) is type(fresh), f"{fresh.name} is a {known.kind} already"
        return known


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_quoted(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(number: float) -> str:
    if number == float("inf"):
        return "+Inf"
    return str(int(number)) if number == int(number) else repr(number)

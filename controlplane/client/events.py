"""Events: what components tell the user about objects, counted instead of repeated, and limited.

    event(obj, type, reason, message) ──▶ bounded queue ──▶ Correlator (pure) ──▶ create, or patch count and time

The rules are client-go's (tools/record): the same event about the same object raises `count` and `lastTimestamp`; more
than ten different messages of one reason within ten minutes become one event "(combined from similar events): …"; one
object gets a burst of 25 and then one event in five minutes. Telling never waits and never fails: when the queue is
full the event is dropped.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import EVENTS
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.backoff import RECONNECT
from podnet.controlplane.client.types import Client

log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]

CACHE_SIZE = 4096
QUEUE_SIZE = 1000
ATTEMPTS = 20
"""Writes of one event while the server is away: about ten seconds."""
SIMILAR_MAX = 10
SIMILAR_INTERVAL_S = 600.0
BURST = 25.0
REFILL_S = 300.0
COMBINED = "(combined from similar events): "


@dataclass(frozen=True, slots=True)
class Report:
    """One thing said about one object."""

    component: str
    involved: tuple[tuple[str, str], ...]
    type: EventType
    reason: str
    message: str

    @property
    def kind(self) -> object:
        """What makes two reports similar: all but the wording."""
        return (self.component, self.involved, self.type, self.reason)


@dataclass(slots=True)
class _Similar:
    last: float
    messages: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Known:
    name: str
    count: int


class Correlator:
    """Decides what a report becomes: dropped, a new event, or a higher count of a known one. Pure over `now`."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[object, tuple[float, float]] = OrderedDict()
        self._similar: OrderedDict[object, _Similar] = OrderedDict()
        self._known: OrderedDict[object, _Known] = OrderedDict()

    def admit(self, report: Report, now: float) -> bool:
        """Take a token of the object's bucket; False when it is empty."""
        bucket = (report.component, report.involved)
        tokens, last = self._tokens.get(bucket, (BURST, now))
        tokens = min(BURST, tokens + (now - last) / REFILL_S)
        admitted = tokens >= 1.0
        self._tokens[bucket] = (tokens - 1.0 if admitted else tokens, now)
        _bound(self._tokens, bucket)
        return admitted

    def aggregate(self, report: Report, now: float) -> Report:
        """The report itself, or the combined one when its kind has come in too many wordings."""
        kind = report.kind
        similar = self._similar.get(kind)
        if similar is None or now - similar.last > SIMILAR_INTERVAL_S:
            similar = self._similar[kind] = _Similar(now)
        similar.last = now
        if len(similar.messages) < SIMILAR_MAX or report.message in similar.messages:
            similar.messages.add(report.message)
        else:
            report = dataclasses.replace(report, message=COMBINED + report.message)
        _bound(self._similar, kind)
        return report

    def known(self, report: Report) -> _Known | None:
        """The event this report repeats."""
        return self._known.get(self._identity(report))

    def remember(self, report: Report, name: str, count: int) -> None:
        """`report` now stands in the event `name` with `count`."""
        identity = self._identity(report)
        self._known[identity] = _Known(name, count)
        _bound(self._known, identity)

    @staticmethod
    def _identity(report: Report) -> object:
        message = COMBINED if report.message.startswith(COMBINED) else report.message
        return (report.kind, message)


def _bound(cache: OrderedDict[Any, Any], key: object) -> None:
    cache.move_to_end(key)
    if len(cache) > CACHE_SIZE:
        cache.popitem(last=False)


def object_reference(obj: Object, field_path: str = "") -> dict[str, str]:
    """The `involvedObject` for an object (or a part of it)."""
    metadata = obj["metadata"]
    reference = {
        "apiVersion": obj.get("apiVersion", ""),
        "kind": obj.get("kind", ""),
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "resourceVersion": metadata.get("resourceVersion", ""),
        "fieldPath": field_path,
    }
    return {key: value for key, value in reference.items() if value}


class EventRecorder:
    """Tells the user about objects in the name of `component` on `host`. `run` does the writing."""

    def __init__(
        self, client: Client, component: str, host: str = "", *, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock
        self._correlator = Correlator()
        self._last_ns = 0
        self._queue: asyncio.Queue[tuple[Report, dict[str, str], float]] = asyncio.Queue(QUEUE_SIZE)

    def named(self, component: str) -> EventRecorder:
        """The same recorder speaking as another component; only the first is to be `run`."""
        other = EventRecorder(self._client, component, self._host, clock=self._clock)
        other._queue = self._queue
        return other

    def event(self, obj: Object, type_: EventType, reason: str, message: str, *, field_path: str = "") -> None:
        """Say `message` about `obj`; never waits, never raises."""
        self.event_for(object_reference(obj, field_path), type_, reason, message)

    def event_for(self, reference: dict[str, str], type_: EventType, reason: str, message: str) -> None:
        """The same for a reference that the caller made (a node's events carry its name as uid)."""
        involved = tuple(sorted((key, value) for key, value in reference.items() if key != "resourceVersion"))
        try:
            # 1024 bytes is validation's limit for an event's message.
            self._queue.put_nowait(
                (Report(self._component, involved, type_, reason, message[:1024]), reference, self._clock())
            )
        except asyncio.QueueFull:
            log.debug("event dropped: %s %s", reason, message)

    async def run(self) -> None:
        """Write what is said, until cancelled."""
        while True:
            report, reference, now = await self._queue.get()
            try:
                await self._write_patiently(report, reference, now)
            finally:
                self._queue.task_done()

    async def wait_flushed(self) -> None:
        """Wait until everything said so far is written."""
        await self._queue.join()

    async def _write_patiently(self, report: Report, reference: dict[str, str], now: float) -> None:
        report = self._correlator.aggregate(report, now)
        if not self._correlator.admit(report, now):
            return
        for attempt in range(ATTEMPTS):
            try:
                await self._write(report, reference, now)
            except StatusError as error:
                if error.code != 503:
                    log.debug("event %s not written: %s", report.reason, error.message)
                    return
            else:
                return
            # The server is away: what happened meanwhile is what people will want to read.
            await asyncio.sleep(RECONNECT.delay_s(attempt))

    async def _write(self, report: Report, reference: dict[str, str], now: float) -> None:
        stamp = format_time(now)
        namespace = reference.get("namespace") or "default"
        known = self._correlator.known(report)
        if known is not None:
            patch = {"count": known.count + 1, "lastTimestamp": stamp, "message": report.message}
            try:
                await self._client.patch(EVENTS, known.name, namespace, patch)
            except StatusError as error:
                if not error.is_not_found:
                    raise
            else:
                self._correlator.remember(report, known.name, known.count + 1)
                return
        # Upstream's naming: the object's name and the time in hexadecimal nanoseconds; two of one moment must differ.
        self._last_ns = max(self._last_ns + 1, int(now * 1_000_000_000))
        name = f"{reference['name']}.{self._last_ns:x}"
        await self._client.create(EVENTS, self._body(report, reference, namespace, name, stamp))
        self._correlator.remember(report, name, 1)

    def _body(self, report: Report, reference: dict[str, str], namespace: str, name: str, stamp: str) -> Object:
        source = {"component": report.component}
        if self._host:
            source["host"] = self._host
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": reference,
            "reason": report.reason,
            "message": report.message,
            "source": source,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "type": report.type,
            "eventTime": None,
            "reportingComponent": report.component,
            "reportingInstance": self._host,
        }

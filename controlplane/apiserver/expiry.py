"""Events live for an hour after they last happened (kube-apiserver's --event-ttl)."""

from __future__ import annotations

import contextlib

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import EVENTS
from podnet.controlplane.api.timestamps import parse_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.options import DeleteOptions
from podnet.controlplane.apiserver.registry import Registry

EVENT_TTL_S = 3600.0


def last_seen(event: Object) -> float:
    """When the event last happened, in seconds since the epoch."""
    series = event.get("series") or {}
    times = [
        event["metadata"].get("creationTimestamp"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        series.get("lastObservedTime"),
    ]
    return max(parse_time(text) for text in times if text)


async def expire_events(registry: Registry) -> int:
    """Delete the events whose time is over; returns how many."""
    await registry.cache.wait_fresh()
    horizon, count = registry.clock() - EVENT_TTL_S, 0
    for event in registry.objects(EVENTS):
        if last_seen(event) < horizon:
            metadata = event["metadata"]
            options = DeleteOptions(resource_version=metadata["resourceVersion"])
            with contextlib.suppress(StatusError):  # it happened again, or somebody was quicker
                await registry.delete(EVENTS, metadata["namespace"], metadata["name"], options)
                count += 1
    return count

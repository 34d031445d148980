"""SPDY/3.1 framing, which kubectl port-forward and Go's exec speak. Pure: bytes in, events and bytes out."""

from podnet.controlplane.api.spdy.connection import (
    Connection,
    Data,
    Event,
    GoAway,
    SPDYError,
    StreamOpened,
    StreamReset,
)

__all__ = ["Connection", "Data", "Event", "GoAway", "SPDYError", "StreamOpened", "StreamReset"]

"""The flows of a switch as `ovs-ofctl dump-flows` prints them, as values for display. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIELD = re.compile(r"([a-z_]+)=([^,\s]+)")
_OWN = frozenset({"cookie", "duration", "table", "n_packets", "n_bytes", "idle_timeout", "hard_timeout", "idle_age",
                  "hard_age", "priority", "actions", "reset_counts"})  # fmt: skip
_DEFAULT_PRIORITY = 32768


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow: what it matches, what it does, and how often it did."""

    switch: str
    priority: int
    match: str
    actions: str
    packets: int
    bytes: int
    duration_s: float
    idle_timeout_s: int


def parse_flows(switch: str, text: str) -> list[Flow]:
    """The flows of a dump, the highest priority first."""
    flows = [_flow(switch, line) for line in text.splitlines() if "actions=" in line]
    return sorted(flows, key=lambda flow: (-flow.priority, flow.match))


def _flow(switch: str, line: str) -> Flow:
    head, _, actions = line.partition("actions=")
    fields = dict(_FIELD.findall(head))
    # Everything that is no counter is the match; bare words are protocols (`arp`, `ip`).
    words = [word.strip() for word in re.split(r"[,\s]+", head) if word.strip()]
    match = ",".join(word for word in words if word.split("=")[0] not in _OWN)
    return Flow(
        switch=switch,
        priority=int(fields.get("priority", _DEFAULT_PRIORITY)),
        match=match or "*",
        actions=actions.strip(),
        packets=int(fields.get("n_packets", 0)),
        bytes=int(fields.get("n_bytes", 0)),
        duration_s=float(fields.get("duration", "0s").rstrip("s")),
        idle_timeout_s=int(fields.get("idle_timeout", 0)),
    )

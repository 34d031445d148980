"""The node condition that says pods can be networked: NetworkUnavailable=False, as flannel sets it.

This file decides; the time is an argument. Source: Kubernetes' node conditions (well-known condition types).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPE = "NetworkUnavailable"
REASON = "FlannelIsUp"
MESSAGE = "Flannel is running on this node"


def network_condition_patch(node: Mapping[str, Any], *, now: str) -> dict[str, Any] | None:
    """The strategic merge patch of the node's status; None when the condition stands."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    for condition in conditions:
        if condition.get("type") == TYPE and condition.get("status") == "False" and condition.get("reason") == REASON:
            return None
    condition = {
        "type": TYPE,
        "status": "False",
        "reason": REASON,
        "message": MESSAGE,
        "lastTransitionTime": now,
        "lastHeartbeatTime": now,
    }
    return {"status": {"conditions": [condition]}}

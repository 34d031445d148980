"""Objects for the workload plans' tests, and what a kubelet would make of them."""

from __future__ import annotations

from typing import Any

LONG_AGO = "2020-01-01T00:00:00Z"
NOW = 1_800_000_000.0


def pod(name: str, *, node: str = "", ready: bool = True, phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": LONG_AGO}
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "creationTimestamp": LONG_AGO,
            **metadata,
        },
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "conditions": [condition]},
    }


def owner(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def ended(name: str, phase: str, *, code: int = 0, at: str = LONG_AGO, **metadata: Any) -> dict[str, Any]:
    """A pod whose container has ended."""
    done = pod(name, ready=False, phase=phase, **metadata)
    done["status"]["containerStatuses"] = [
        {"name": "c", "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": at}}}
    ]
    return done

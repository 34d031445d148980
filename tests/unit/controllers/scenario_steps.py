"""What scenarios of workloads make and wait for."""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.resources import (
    PODS,
)


def workload(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def job(name: str, **spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"spec": pod}, **spec},
    }


def image(name: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}}


async def booted(plane: Any, *nodes: str) -> None:
    plane.start()
    plane.start_scheduler()
    plane.start_kubelet()
    for node in nodes or ("node-1", "node-2"):
        await plane.add_node(node)


async def pods(plane: Any, app: str = "") -> list[dict[str, Any]]:
    return (await plane.client.list(PODS, "default", label_selector=f"app={app}" if app else "")).items


async def live(plane: Any, resource: Any, name: str) -> Any:
    return await plane.client.get(resource, name, "default")


async def status_is(plane: Any, resource: Any, name: str, **fields: Any) -> Any:
    async def check() -> Any:
        obj = await live(plane, resource, name)
        status = obj.get("status") or {}
        same = status.get("observedGeneration", 0) == obj["metadata"].get("generation", 0)
        return obj if same and all(status.get(field, 0) == value for field, value in fields.items()) else None

    try:
        return await plane.until(check)
    except AssertionError:
        raise AssertionError((await live(plane, resource, name)).get("status")) from None

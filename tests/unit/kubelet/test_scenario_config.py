"""Environment and volumes of a pod, from the API to the files and variables that the runtime is given."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.api.resources import CONFIGMAPS, PODS, SECRETS, SERVICES


def config_map(name: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def container(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "app", "image": "busybox", "command": ["sleep", "infinity"], **more}]


async def config_of(node: Any) -> Any:
    [status] = await node.runtime.list_containers()
    return status.config


async def mounted(node: Any, path: str) -> Path:
    return Path(next(m.host_path for m in (await config_of(node)).mounts if m.container_path == path))


async def test_environment_from_everywhere(node: Any) -> None:
    await node.client.create(CONFIGMAPS, config_map("settings", COLOR="red", SHAPE="round"))
    secret = {"name": "password", "namespace": "default"}
    data = {"key": base64.b64encode(b"s3cret").decode()}
    await node.client.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": data})
    service = {"name": "db", "namespace": "default"}
    spec = {"ports": [{"port": 5432}], "selector": {"app": "db"}}
    made = await node.client.create(
        SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": service, "spec": spec}
    )
    await node.create_pod(
        containers=container(
            envFrom=[{"configMapRef": {"name": "settings"}, "prefix": "S_"}],
            env=[
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "password", "key": "key"}}},
                {"name": "URL", "value": "http://$(IP):$$(PORT)/$(S_COLOR)"},
            ],
            args=["$(URL)"],
        )
    )
    pod = await node.until_ready()
    config = await config_of(node)
    env = dict(config.env)
    assert env["S_COLOR"] == "red"
    assert env["PASSWORD"] == "s3cret"
    assert env["IP"] == pod["status"]["podIP"]
    assert env["URL"] == f"http://{env['IP']}:$(PORT)/red"
    assert config.args == (env["URL"],)
    assert env["DB_SERVICE_HOST"] == made["spec"]["clusterIP"]


async def test_a_missing_config_map_waits_and_its_arrival_starts_the_container(node: Any) -> None:
    source = [{"configMapRef": {"name": "late"}}]
    await node.create_pod(containers=container(envFrom=source))
    waiting = {"reason": "CreateContainerConfigError", "message": 'configmap "late" not found'}
    await node.until_pod(
        lambda pod: [entry["state"] for entry in pod["status"].get("containerStatuses", [])] == [{"waiting": waiting}]
    )
    await node.until_event("Failed", 'Error: configmap "late" not found')
    await node.client.create(CONFIGMAPS, config_map("late", A="1"))
    await node.until_ready(timeout_s=8)


async def test_a_missing_volume_source_is_a_failed_mount(node: Any) -> None:
    await node.create_pod(
        containers=container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        volumes=[{"name": "v", "configMap": {"name": "late"}}],
    )
    message = await node.until_event("FailedMount")
    assert message == 'MountVolume.SetUp failed for volume "v" : configmap "late" not found'
    waiting = (await node.pod())["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "ContainerCreating"
    await node.client.create(CONFIGMAPS, config_map("late", A="1"))
    await node.until_ready(timeout_s=8)


async def test_config_map_files_follow_the_object(node: Any) -> None:
    await node.client.create(CONFIGMAPS, config_map("settings", color="red"))
    await node.create_pod(
        containers=container(volumeMounts=[{"name": "v", "mountPath": "/etc/settings", "readOnly": True}]),
        volumes=[{"name": "v", "configMap": {"name": "settings"}}],
    )
    await node.until_ready()
    directory = await mounted(node, "/etc/settings")
    assert (directory / "color").read_text() == "red"
    await node.client.patch(CONFIGMAPS, "settings", "default", {"data": {"color": "blue", "new": "x"}})

    async def followed() -> bool:
        return (directory / "color").read_text() == "blue" and (directory / "new").exists()

    await node.until(followed)


async def test_a_volume_that_lost_its_key_does_not_hold_up_the_others(node: Any) -> None:
    await node.client.create(CONFIGMAPS, config_map("settings", color="red", shape="round"))
    picked = {"name": "settings", "items": [{"key": "shape", "path": "shape"}]}
    await node.create_pod(
        containers=container(volumeMounts=[{"name": "all", "mountPath": "/all"}]),
        volumes=[{"name": "one", "configMap": picked}, {"name": "all", "configMap": {"name": "settings"}}],
    )
    await node.until_ready()
    directory = await mounted(node, "/all")
    patch = {"data": {"color": "blue", "shape": None}}
    await node.client.patch(CONFIGMAPS, "settings", "default", patch)

    async def followed() -> bool:
        return (directory / "color").read_text() == "blue" and not (directory / "shape").exists()

    await node.until(followed)


async def test_the_service_account_volume(node: Any) -> None:
    await node.create_pod()
    await node.until_ready()
    directory = await mounted(node, "/var/run/secrets/kubernetes.io/serviceaccount")
    assert (directory / "ca.crt").read_text() == "PEM"
    assert (directory / "namespace").read_text() == "default"
    assert (directory / "token").read_text().count(".") == 2


async def test_downward_api_files_follow_the_labels(node: Any) -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    await node.create_pod(
        containers=container(volumeMounts=[{"name": "v", "mountPath": "/info"}]),
        volumes=[{"name": "v", "downwardAPI": {"items": items}}],
    )
    await node.until_ready()
    directory = await mounted(node, "/info")
    assert (directory / "labels").read_text() == ""
    await node.client.patch(PODS, "web", "default", {"metadata": {"labels": {"tier": "front"}}})

    async def followed() -> bool:
        return (directory / "labels").read_text() == 'tier="front"'

    await node.until(followed)


def mode_of(path: str) -> int:
    """0 when it is not there."""
    return Path(path).stat().st_mode & 0o777 if Path(path).exists() else 0


async def test_an_empty_dir_is_shared_and_gone_at_the_end(node: Any) -> None:
    mounts = [{"name": "scratch", "mountPath": "/scratch"}]
    await node.create_pod(
        containers=[
            {"name": name, "image": "busybox", "command": ["sleep", "infinity"], "volumeMounts": mounts}
            for name in ("one", "two")
        ],
        volumes=[{"name": "scratch", "emptyDir": {}}],
    )
    await node.until_ready()
    paths = {
        mount.host_path
        for status in await node.runtime.list_containers()
        for mount in status.config.mounts
        if mount.container_path == "/scratch"
    }
    [path] = paths
    assert mode_of(path) == 0o777
    await node.client.delete(PODS, "web", "default")
    await node.until_gone()
    assert mode_of(path) == 0


@pytest.mark.parametrize("sub_path", ["nested/deep"], ids=["made-when-missing"])
async def test_sub_path(node: Any, sub_path: str) -> None:
    await node.create_pod(
        containers=container(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": sub_path}]),
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    await node.until_ready()
    assert str(await mounted(node, "/v")).endswith("/v/nested/deep")


async def test_hosts_and_resolv_conf_are_mounted(node: Any) -> None:
    aliases = [{"ip": "10.1.2.3", "hostnames": ["a.example", "b.example"]}]
    await node.create_pod(hostAliases=aliases, subdomain="group")
    pod = await node.until_ready()
    hosts = (await mounted(node, "/etc/hosts")).read_text()
    assert f"{pod['status']['podIP']}\tweb.group.default.svc.cluster.local\tweb\n" in hosts
    assert "10.1.2.3\ta.example\tb.example\n" in hosts
    resolv = (await mounted(node, "/etc/resolv.conf")).read_text()
    assert resolv.startswith("search default.svc.cluster.local svc.cluster.local cluster.local")
    assert "nameserver 10.96.0.10\n" in resolv
    assert (await mounted(node, "/etc/hostname")).read_text() == "web\n"

"""The Python clients as oracles: kubernetes and lightkube against a real process over TLS."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from live_server import LiveServer, live_server

kubernetes = pytest.importorskip("kubernetes", reason="the Python kubernetes client is not installed")
lightkube = pytest.importorskip("lightkube", reason="lightkube is not installed")

CONTAINER = {"name": "c", "image": "busybox"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("clients")) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: LiveServer) -> Iterator[Any]:
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(str(server.kubeconfig), client_configuration=configuration)
    with kubernetes.client.ApiClient(configuration) as client:
        yield client


@pytest.fixture(scope="module")
def light(server: LiveServer) -> Any:
    return lightkube.Client(config=lightkube.KubeConfig.from_file(str(server.kubeconfig)), namespace="default")


def config_map(name: str, *, group: str = "none", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"group": group}},
        "data": data,
    }


def test_kubernetes_pods(api: Any) -> None:
    core = kubernetes.client.CoreV1Api(api)
    made = core.create_namespaced_pod("default", {"metadata": {"name": "py"}, "spec": {"containers": [CONTAINER]}})
    assert made.status.phase == "Pending"
    assert core.read_namespaced_pod("py", "default").metadata.uid == made.metadata.uid
    assert "py" in {pod.metadata.name for pod in core.list_pod_for_all_namespaces().items}
    assert core.delete_namespaced_pod("py", "default").metadata.name == "py"
    with pytest.raises(kubernetes.client.ApiException) as caught:
        core.read_namespaced_pod("py", "default")
    assert caught.value.status == 404


def test_kubernetes_services_and_patches(api: Any) -> None:
    core = kubernetes.client.CoreV1Api(api)
    core.create_namespaced_service(
        "default", {"metadata": {"name": "py"}, "spec": {"ports": [{"port": 80, "name": "a"}]}}
    )
    patched = core.patch_namespaced_service("py", "default", {"spec": {"ports": [{"port": 8080, "name": "new"}]}})
    assert {port.port for port in patched.spec.ports} == {80, 8080}
    assert core.delete_namespaced_service("py", "default")


def test_kubernetes_deployments(api: Any) -> None:
    apps = kubernetes.client.AppsV1Api(api)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}}
    body = {
        "metadata": {"name": "py"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    assert apps.create_namespaced_deployment("default", body).spec.strategy.rolling_update.max_surge == "25%"
    assert apps.patch_namespaced_deployment_scale("py", "default", {"spec": {"replicas": 1}}).spec.replicas == 1
    status = apps.delete_namespaced_deployment("py", "default")
    assert status is not None


def test_kubernetes_watch(api: Any) -> None:
    core = kubernetes.client.CoreV1Api(api)
    version = core.list_namespaced_config_map("default").metadata.resource_version

    def write() -> None:
        core.create_namespaced_config_map("default", config_map("w", a="b"))
        core.patch_namespaced_config_map("w", "default", {"data": {"a": "c"}})
        core.delete_namespaced_config_map("w", "default")

    threading.Timer(0.1, write).start()
    seen = []
    watch = kubernetes.watch.Watch()
    for event in watch.stream(core.list_namespaced_config_map, "default", resource_version=version, timeout_seconds=10):
        seen.append(event["type"])
        if event["type"] == "DELETED":
            watch.stop()
    assert seen == ["ADDED", "MODIFIED", "DELETED"]


def test_kubernetes_delete_collection(api: Any) -> None:
    core = kubernetes.client.CoreV1Api(api)
    for name in ("x1", "x2"):
        core.create_namespaced_config_map("default", config_map(name, group="collection"))
    core.delete_collection_namespaced_config_map("default", label_selector="group=collection")
    assert core.list_namespaced_config_map("default", label_selector="group=collection").items == []


def test_kubernetes_pages(api: Any) -> None:
    core = kubernetes.client.CoreV1Api(api)
    for index in range(5):
        core.create_namespaced_config_map("default", config_map(f"p{index}", group="pages"))
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map("default", limit=2, _continue=token, label_selector="group=pages")
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"p{index}" for index in range(5)]
    core.delete_collection_namespaced_config_map("default", label_selector="group=pages")


def test_kubernetes_dynamic(api: Any) -> None:
    dynamic = kubernetes.dynamic.DynamicClient(api)
    resource = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    made = resource.create(body=config_map("dyn", a="b"), namespace="default")
    assert made.data.a == "b"
    patched = resource.patch(
        body=config_map("dyn", a="c"), namespace="default", content_type="application/merge-patch+json"
    )
    assert patched.data.a == "c"
    assert resource.get(name="dyn", namespace="default").metadata.uid == made.metadata.uid
    resource.delete(name="dyn", namespace="default")


def test_kubernetes_create_from_yaml(api: Any) -> None:
    objects = [config_map("y1"), {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "y2"}}]
    kubernetes.utils.create_from_yaml(api, yaml_objects=objects, namespace="default")
    with pytest.raises(kubernetes.utils.FailToCreateError) as caught:
        kubernetes.utils.create_from_yaml(api, yaml_objects=objects, namespace="default")
    assert all(error.status == 409 for error in caught.value.api_exceptions)


def test_kubernetes_version_and_discovery(api: Any) -> None:
    assert kubernetes.client.VersionApi(api).get_code().minor == "32"
    groups = {group.name for group in kubernetes.client.ApisApi(api).get_api_versions().groups}
    assert {"apps", "batch", "networking.k8s.io"} <= groups


def test_lightkube_config_maps(light: Any) -> None:
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap

    light.create(ConfigMap(metadata=ObjectMeta(name="lk", namespace="default", labels={"t": "1"}), data={"a": "b"}))
    found = light.get(ConfigMap, name="lk")
    found.data["a"] = "c"
    assert light.replace(found).data == {"a": "c"}
    assert [item.metadata.name for item in light.list(ConfigMap, labels={"t": "1"})] == ["lk"]
    light.delete(ConfigMap, "lk")
    with pytest.raises(lightkube.ApiError) as caught:
        light.get(ConfigMap, name="lk")
    assert (caught.value.status.code, caught.value.status.reason) == (404, "NotFound")


@pytest.mark.parametrize("kind", ["STRATEGIC", "MERGE", "JSON"])
def test_lightkube_patches(light: Any, kind: str) -> None:
    from lightkube.models.core_v1 import ServicePort, ServiceSpec
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Service
    from lightkube.types import PatchType

    spec = ServiceSpec(ports=[ServicePort(name="a", port=80, targetPort=8080)], selector={"x": "y"})
    light.create(Service(metadata=ObjectMeta(name="lk", namespace="default"), spec=spec))
    try:
        patch: Any = {"spec": {"ports": [{"name": "b", "port": 81, "targetPort": 8081}]}}
        if kind == "JSON":
            patch = [{"op": "add", "path": "/spec/ports/-", "value": {"name": "b", "port": 81, "targetPort": 8081}}]
        service = light.patch(Service, "lk", patch, patch_type=PatchType[kind])
        assert {port.port for port in service.spec.ports} == ({81} if kind == "MERGE" else {80, 81})
    finally:
        light.delete(Service, "lk")


def test_lightkube_watch_and_pods(light: Any) -> None:
    from lightkube.models.core_v1 import Container, PodSpec
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Pod

    pod = Pod(
        metadata=ObjectMeta(name="lkp", namespace="default"),
        spec=PodSpec(containers=[Container(name="c", image="busybox")]),
    )
    made = light.create(pod)
    version = made.metadata.resourceVersion
    light.delete(Pod, "lkp")
    for operation, seen in light.watch(Pod, resource_version=version, server_timeout=5):
        assert (operation, seen.metadata.name) == ("DELETED", "lkp")
        break


def test_lightkube_namespaces(light: Any) -> None:
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Namespace

    made = light.create(Namespace(metadata=ObjectMeta(name="lk-ns")))
    assert made.metadata.labels == {"kubernetes.io/metadata.name": "lk-ns"}
    light.delete(Namespace, "lk-ns")
    assert light.get(Namespace, "lk-ns").status.phase == "Terminating"

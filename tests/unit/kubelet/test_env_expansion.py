"""`$(VAR)`, environments, the downward API and Service variables."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.kubelet.downward import ConfigError, PodFacts, field_value, resource_value
from podnet.controlplane.kubelet.env import EnvSources, config_references, render_env, service_env
from podnet.controlplane.kubelet.expansion import expand_with

VARIABLES = {"A": "1", "B": "two", "EMPTY": "", "REF": "$(A)"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x$(A)y$(B)z", "x1ytwoz"),
        ("$(EMPTY)", ""),
        ("$(NOPE)", "$(NOPE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(REF)", "$(A)"),
        ("$A", "$A"),
        ("$", "$"),
        ("$$", "$"),
        ("a$", "a$"),
        ("$(", "$("),
        ("$(A", "$(A"),
        ("$()", "$()"),
        ("$($(A))", "$($(A))"),
        ("${A}", "${A}"),
        ("cost: $5 $(A)", "cost: $5 1"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert expand_with(text, VARIABLES) == expected


@given(st.text(alphabet="$()AB x", max_size=30))
def test_doubled_dollars_come_out_as_written(text: str) -> None:
    assert expand_with(text.replace("$", "$$"), VARIABLES) == text


@given(st.text(max_size=50).filter(lambda text: "$" not in text))
def test_text_without_dollars_is_untouched(text: str) -> None:
    assert expand_with(text, VARIABLES) == text


POD: dict[str, Any] = {
    "metadata": {
        "name": "web-0",
        "namespace": "shop",
        "uid": "u-1",
        "labels": {"b": "2", "a": 'say "hi"\n'},
        "annotations": {"team/owner": "net"},
    },
    "spec": {
        "nodeName": "worker1",
        "serviceAccountName": "runner",
        "containers": [
            {"name": "app", "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}, "requests": {"cpu": "100m"}}},
            {"name": "bare"},
        ],
    },
}
FACTS = PodFacts(POD, "192.168.100.11", ("10.244.1.5", "fd00::5"), {"cpu": "2", "memory": "1Gi"})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "web-0"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['b']", "2"),
        ("metadata.labels['nope']", ""),
        ("metadata.annotations['team/owner']", "net"),
        ("metadata.labels", 'a="say \\"hi\\"\\n"\nb="2"'),
        ("spec.nodeName", "worker1"),
        ("spec.serviceAccountName", "runner"),
        ("status.hostIP", "192.168.100.11"),
        ("status.podIP", "10.244.1.5"),
        ("status.podIPs", "10.244.1.5,fd00::5"),
    ],
)
def test_field_ref(path: str, expected: str) -> None:
    assert field_value(FACTS, path) == expected


def test_a_field_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"unsupported fieldPath: spec\.replicas"):
        field_value(FACTS, "spec.replicas")


@pytest.mark.parametrize(
    ("resource", "container", "divisor", "expected"),
    [
        ("limits.cpu", "app", "", "1"),
        ("limits.cpu", "app", "1m", "250"),
        ("limits.memory", "app", "", "67108864"),
        ("limits.memory", "app", "1Mi", "64"),
        ("requests.cpu", "app", "1m", "100"),
        ("requests.memory", "app", "1Mi", "64"),
        ("limits.cpu", "bare", "", "2"),
        ("limits.memory", "bare", "1Mi", "1024"),
        ("requests.cpu", "bare", "1m", "0"),
    ],
)
def test_resource_field_ref(resource: str, container: str, divisor: str, expected: str) -> None:
    reference = {"resource": resource, "containerName": container, "divisor": divisor or "0"}
    assert resource_value(FACTS, reference, "app") == expected


def secret(**data: str) -> dict[str, Any]:
    return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}}


SOURCES = EnvSources(
    {"settings": {"data": {"COLOR": "red", "bad key": "x", "1st": "y"}}, "more": {"data": {"COLOR": "blue"}}},
    {"password": secret(KEY="s3cret")},
    {"DB_SERVICE_HOST": "10.96.0.7", "DB_SERVICE_PORT": "5432"},
)


def env(**container: Any) -> dict[str, str]:
    return render_env({"name": "app", **container}, FACTS, SOURCES).lookup()


def ref(kind: str, name: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    return {"name": "V", "valueFrom": {kind: {"name": name, "key": key, "optional": optional}}}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param({"name": "V", "value": "x"}, "x", id="value"),
        pytest.param({"name": "V"}, "", id="empty"),
        pytest.param({"name": "V", "value": "$(DB_SERVICE_HOST)"}, "10.96.0.7", id="service-variable"),
        pytest.param({"name": "V", "value": "$(LATER)"}, "$(LATER)", id="unknown"),
        pytest.param(ref("configMapKeyRef", "settings", "COLOR"), "red", id="config-map"),
        pytest.param(ref("secretKeyRef", "password", "KEY"), "s3cret", id="secret"),
        pytest.param(ref("configMapKeyRef", "nope", "COLOR", optional=True), None, id="optional-map"),
        pytest.param(ref("configMapKeyRef", "settings", "NO", optional=True), None, id="optional-key"),
        pytest.param(ref("secretKeyRef", "nope", "KEY", optional=True), None, id="optional-secret"),
    ],
)
def test_an_entry(entry: dict[str, Any], expected: str | None) -> None:
    assert env(env=[entry]).get("V") == expected


@pytest.mark.parametrize(
    ("container", "message"),
    [
        pytest.param({"env": [ref("configMapKeyRef", "no", "K")]}, 'configmap "no" not found', id="no-map"),
        pytest.param(
            {"env": [ref("configMapKeyRef", "settings", "K")]},
            "couldn't find key K in ConfigMap shop/settings",
            id="no-key",
        ),
        pytest.param({"env": [ref("secretKeyRef", "no", "K")]}, 'secret "no" not found', id="no-secret"),
        pytest.param(
            {"env": [ref("secretKeyRef", "password", "K")]}, "couldn't find key K in Secret shop/password", id="no-skey"
        ),
        pytest.param({"envFrom": [{"configMapRef": {"name": "no"}}]}, 'configmap "no" not found', id="from-map"),
        pytest.param({"envFrom": [{"secretRef": {"name": "no"}}]}, 'secret "no" not found', id="from-secret"),
    ],
)
def test_what_is_missing(container: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as missing:
        env(**container)
    assert str(missing.value) == message


def test_precedence() -> None:
    sources = [{"configMapRef": {"name": "settings"}}, {"configMapRef": {"name": "more"}}]
    assert env(envFrom=sources)["COLOR"] == "blue"
    assert env(envFrom=sources, env=[{"name": "COLOR", "value": "mine"}])["COLOR"] == "mine"
    assert env(env=[{"name": "DB_SERVICE_HOST", "value": "mine"}])["DB_SERVICE_HOST"] == "mine"
    chain = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}, {"name": "A", "value": "$(B)3"}]
    assert env(env=chain)["A"] == "123"
    assert env(envFrom=[{"configMapRef": {"name": "no", "optional": True}}]).keys() == SOURCES.service_env.keys()


def test_keys_that_are_no_names_are_skipped_and_told() -> None:
    environment = render_env({"name": "app", "envFrom": [{"configMapRef": {"name": "settings"}}]}, FACTS, SOURCES)
    assert "bad key" not in environment.lookup()
    assert environment.skipped[0] == (
        "Keys [1st, bad key] from the EnvFrom configMap shop/settings were skipped since they are considered invalid "
        "environment variable names."
    )


def test_references() -> None:
    spec = {
        "containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "m1"}}, {"secretRef": {"name": "s1"}}]}],
        "initContainers": [{"name": "i", "env": [ref("configMapKeyRef", "m2", "k"), ref("secretKeyRef", "s2", "k")]}],
    }
    assert config_references({"metadata": {}, "spec": spec}) == ({"m1", "m2"}, {"s1", "s2"})


def service(name: str, namespace: str = "shop", ip: str = "10.96.0.7", *, port_name: str = "") -> dict[str, Any]:
    spec = {"clusterIP": ip, "ports": [{"port": 5432, "protocol": "TCP", "name": port_name}]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def test_service_variables() -> None:
    assert service_env([service("my-db", port_name="sql")], "shop", links=True) == {
        "MY_DB_SERVICE_HOST": "10.96.0.7",
        "MY_DB_SERVICE_PORT": "5432",
        "MY_DB_SERVICE_PORT_SQL": "5432",
        "MY_DB_PORT": "tcp://10.96.0.7:5432",
        "MY_DB_PORT_5432_TCP": "tcp://10.96.0.7:5432",
        "MY_DB_PORT_5432_TCP_PROTO": "tcp",
        "MY_DB_PORT_5432_TCP_PORT": "5432",
        "MY_DB_PORT_5432_TCP_ADDR": "10.96.0.7",
    }


@pytest.mark.parametrize(
    ("services", "links", "hosts"),
    [
        pytest.param([service("other", "elsewhere")], True, set(), id="another-namespace"),
        pytest.param([service("kubernetes", "default")], False, {"KUBERNETES_SERVICE_HOST"}, id="kubernetes-always"),
        pytest.param([service("db")], False, set(), id="links-off"),
        pytest.param([service("db", ip="None")], True, set(), id="headless"),
        pytest.param([service("db", ip="")], True, set(), id="no-address"),
    ],
)
def test_which_services_are_seen(services: list[Any], links: bool, hosts: set[str]) -> None:
    variables = service_env(services, "shop", links=links)
    assert {name for name in variables if name.endswith("SERVICE_HOST")} == hosts

"""Filters: pod, node and the pods on it, and the node's objection."""

from __future__ import annotations

from typing import Any

import pytest

from podnet.controlplane.scheduler.decide import Placement, Unschedulable, decide, explain
from podnet.controlplane.scheduler.filters import find_objection
from podnet.controlplane.scheduler.node_affinity import matches_requirement
from podnet.controlplane.scheduler.topology import PodTopology
from podnet.controlplane.scheduler.types import node_infos, parse_pod, pod_requests

Object = dict[str, Any]


def node(
    name: str = "n1", labels: dict[str, str] | None = None, taints: list[Object] | None = None, **fields: Any
) -> Object:
    allocatable = {"cpu": "2", "memory": "4Gi", "pods": "10", "ephemeral-storage": "10Gi", **fields.get("has", {})}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": taints or [], **({"unschedulable": True} if fields.get("cordoned") else {})},
        "status": {"allocatable": allocatable},
    }


def pod(
    name: str = "p", requests: Object | None = None, *, on: str = "", labels: Object | None = None, **spec: Any
) -> Object:
    container: Object = {"name": "c", "resources": {"requests": requests or {}}}
    if "ports" in spec:
        container["ports"] = spec.pop("ports")
    body: Object = {"containers": [container], **spec}
    if on:
        body["nodeName"] = on
    metadata = {"name": name, "namespace": "ns", "uid": name, "labels": labels or {}}
    return {"metadata": metadata, "spec": body}


def required(*terms: Object) -> Object:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [*terms]}}}


def expression(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": [*values]}]}


def named(name: str) -> Object:
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}


def pod_term(kind: str, topology_key: str, **selector: str) -> Object:
    term = {"topologyKey": topology_key, "labelSelector": {"matchLabels": selector}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
PORT = [{"containerPort": 80, "hostPort": 8080}]


@pytest.mark.parametrize(
    ("wanted", "on", "others", "expected"),
    [
        pytest.param(pod(), node(), [], (), id="nothing asked"),
        pytest.param(pod(), node(cordoned=True), [], ("node(s) were unschedulable",), id="cordoned"),
        pytest.param(
            pod(tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]),
            node(cordoned=True),
            [],
            (),
            id="cordoned, tolerated",
        ),
        pytest.param(pod(on="n2"), node(), [], ("node(s) didn't match the requested node name",), id="another node"),
        pytest.param(
            pod(),
            node(taints=[CONTROL_PLANE]),
            [],
            ("node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }",),
            id="tainted",
        ),
        pytest.param(
            pod(tolerations=[{"key": CONTROL_PLANE["key"], "operator": "Exists"}]),
            node(taints=[CONTROL_PLANE]),
            [],
            (),
            id="tainted, tolerated",
        ),
        pytest.param(pod(), node(taints=[{"key": "p", "effect": "PreferNoSchedule"}]), [], (), id="only preferred"),
        pytest.param(pod(nodeSelector={"disk": "ssd"}), node(labels={"disk": "ssd"}), [], (), id="node selector"),
        pytest.param(
            pod(nodeSelector={"disk": "ssd"}),
            node(),
            [],
            ("node(s) didn't match Pod's node affinity/selector",),
            id="node selector misses",
        ),
        pytest.param(
            pod(affinity=required(expression("disk", "In", "ssd"), expression("gpu", "Exists"))),
            node(labels={"gpu": ""}),
            [],
            (),
            id="one of two terms",
        ),
        pytest.param(
            pod(affinity=required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})),
            node(),
            [],
            (),
            id="by the field metadata.name",
        ),
        pytest.param(
            pod(affinity=required({})),
            node(),
            [],
            ("node(s) didn't match Pod's node affinity/selector",),
            id="an empty term matches nothing",
        ),
        pytest.param(pod(requests={"cpu": "2"}), node(), [], (), id="exactly fits"),
        pytest.param(
            pod(requests={"cpu": "1500m", "memory": "3Gi"}),
            node(),
            [pod("q", {"cpu": "1", "memory": "2Gi"}, on="n1")],
            ("Insufficient cpu", "Insufficient memory"),
            id="what others requested counts",
        ),
        pytest.param(
            pod(requests={"ephemeral-storage": "11Gi"}), node(), [], ("Insufficient ephemeral-storage",), id="storage"
        ),
        pytest.param(
            pod(requests={"example.com/gpu": 1}), node(), [], ("Insufficient example.com/gpu",), id="unknown resource"
        ),
        pytest.param(pod(), node(has={"pods": "1"}), [pod("q", on="n1")], ("Too many pods",), id="too many pods"),
        pytest.param(
            pod(ports=PORT),
            node(),
            [pod("q", on="n1", ports=PORT)],
            ("node(s) didn't have free ports for the requested pod ports",),
            id="port taken",
        ),
        pytest.param(
            pod(ports=[{"hostPort": 8080, "protocol": "UDP"}]), node(), [pod("q", on="n1", ports=PORT)], (), id="UDP"
        ),
        pytest.param(
            pod(ports=[{"hostPort": 8080, "hostIP": "10.0.0.1"}]),
            node(),
            [pod("q", on="n1", ports=[{"hostPort": 8080, "hostIP": "10.0.0.2"}])],
            (),
            id="the port on another address",
        ),
        pytest.param(
            pod(affinity=pod_term("podAffinity", HOST, app="db")),
            node(),
            [],
            ("node(s) didn't match pod affinity rules",),
            id="nobody to be near",
        ),
        pytest.param(
            pod(affinity=pod_term("podAffinity", HOST, app="db")),
            node(),
            [pod("q", on="n1", labels={"app": "db"})],
            (),
            id="near",
        ),
        pytest.param(
            pod(labels={"app": "db"}, affinity=pod_term("podAffinity", HOST, app="db")),
            node(),
            [],
            (),
            id="the first of a group",
        ),
        pytest.param(
            pod(affinity=pod_term("podAntiAffinity", HOST, app="web")),
            node(),
            [pod("q", on="n1", labels={"app": "web"})],
            ("node(s) didn't match pod anti-affinity rules",),
            id="avoids",
        ),
        pytest.param(
            pod(labels={"app": "web"}),
            node(),
            [pod("q", on="n1", affinity=pod_term("podAntiAffinity", HOST, app="web"))],
            ("node(s) didn't satisfy existing pods anti-affinity rules",),
            id="is avoided",
        ),
        pytest.param(
            pod(topologySpreadConstraints=[{"topologyKey": ZONE, "maxSkew": 1, "labelSelector": {}}]),
            node(),
            [],
            ("node(s) didn't match pod topology spread constraints (missing required label)",),
            id="spread over a label it has not",
        ),
    ],
)
def test_objection(wanted: Object, on: Object, others: list[Object], expected: tuple[str, ...]) -> None:
    (info,) = node_infos([on], others)
    parsed = parse_pod(wanted)
    objection = find_objection(parsed, info, PodTopology(parsed, [info], lambda _: {}))
    assert (objection.reasons if objection is not None else ()) == expected


@pytest.mark.parametrize(
    ("operator", "values", "labels", "expected"),
    [
        ("In", ["a"], {"k": "a"}, True),
        ("In", ["a"], {}, False),
        ("NotIn", ["a"], {}, True),
        ("NotIn", ["a"], {"k": "a"}, False),
        ("Exists", [], {"k": ""}, True),
        ("DoesNotExist", [], {"k": ""}, False),
        ("DoesNotExist", [], {}, True),
        ("Gt", ["5"], {"k": "6"}, True),
        ("Gt", ["5"], {"k": "5"}, False),
        ("Lt", ["5"], {"k": "4"}, True),
        ("Lt", ["5"], {"k": "x"}, False),
        ("Gt", ["5"], {}, False),
        ("Near", ["5"], {"k": "5"}, False),
    ],
)
def test_node_selector_operators(operator: str, values: list[str], labels: dict[str, str], expected: bool) -> None:
    assert matches_requirement({"key": "k", "operator": operator, "values": values}, labels) is expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"containers": [{"resources": {"requests": {"cpu": "1"}}}] * 2}, 2000, id="containers add up"),
        pytest.param(
            {
                "containers": [{"resources": {"requests": {"cpu": "1"}}}],
                "initContainers": [
                    {"resources": {"requests": {"cpu": "3"}}},
                    {"resources": {"requests": {"cpu": "2"}}},
                ],
            },
            3000,
            id="the largest init step",
        ),
        pytest.param(
            {
                "containers": [{"resources": {"requests": {"cpu": "1"}}}],
                "initContainers": [
                    {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                    {"resources": {"requests": {"cpu": "2"}}},
                ],
            },
            3000,
            id="an init step runs beside the sidecars before it",
        ),
        pytest.param(
            {"containers": [{"resources": {"requests": {"cpu": "1"}}}], "overhead": {"cpu": "250m"}},
            1250,
            id="overhead",
        ),
        pytest.param({"containers": [{}]}, 0, id="nothing said"),
    ],
)
def test_pod_requests(spec: Object, expected: int) -> None:
    assert pod_requests(spec).get("cpu", 0) == expected


def spread(skew: int = 1, key: str = ZONE, **fields: Any) -> list[Object]:
    selector = {"matchLabels": {"app": "web"}}
    return [
        {"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector, **fields}
    ]


def test_a_hard_spread_constraint_leaves_the_emptier_zone() -> None:
    nodes = [node("a", {ZONE: "1"}), node("b", {ZONE: "2"})]
    others = [pod("q", on="a", labels={"app": "web"})]
    wanted = pod(labels={"app": "web"}, topologySpreadConstraints=spread())
    assert decide(parse_pod(wanted), node_infos(nodes, others), lambda _: 0) == Placement("b")
    wanted = pod(labels={"app": "web"}, topologySpreadConstraints=spread(minDomains=3))
    outcome = decide(
        parse_pod(wanted), node_infos(nodes, [*others, pod("r", on="b", labels={"app": "web"})]), lambda _: 0
    )
    assert isinstance(outcome, Unschedulable)


def test_a_node_without_one_of_the_keys_counts_for_no_hard_constraint() -> None:
    selector = {"labelSelector": {"matchLabels": {"app": "web"}}}
    rules = [
        {"topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", **selector} for key in (ZONE, HOST)
    ]
    web = {"app": "web"}
    nodes = [node("a", {ZONE: "1"}), node("b", {ZONE: "1"}), node("nowhere")]
    others = [pod("q", on="a", labels=web), pod("r", on="b", labels=web)]
    # Were the empty host outside all zones counted, neither a nor b could take a second pod.
    wanted = parse_pod(pod(labels=web, topologySpreadConstraints=rules))
    assert decide(wanted, node_infos(nodes, others), lambda _: 0) == Placement("a")


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        pytest.param(
            [named("n1")], "1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]", id="named"
        ),
        pytest.param([named("n1"), named("n2")], "2 Insufficient cpu", id="either"),
        pytest.param([named("n1"), expression("x", "DoesNotExist")], "2 Insufficient cpu", id="one that names none"),
    ],
)
def test_nodes_that_are_not_named_are_not_looked_at(terms: list[Object], expected: str) -> None:
    wanted = parse_pod(pod(requests={"cpu": "9"}, affinity=required(*terms)))
    outcome = decide(wanted, node_infos([node("n1"), node("n2")]), lambda _: 0)
    assert isinstance(outcome, Unschedulable)
    assert outcome.message.startswith(f"0/2 nodes are available: {expected}. preemption: ")


def test_the_message_counts_reasons_as_upstream_does() -> None:
    nodes = [node("cp", taints=[CONTROL_PLANE]), node("w1"), node("w2")]
    outcome = decide(
        parse_pod(pod(requests={"cpu": "1500m"})),
        node_infos(nodes, [pod("a", {"cpu": "1"}, on="w1"), pod("b", {"cpu": "1"}, on="w2")]),
        lambda _: 0,
    )
    assert isinstance(outcome, Unschedulable)
    assert outcome.message == (
        "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
        "2 Insufficient cpu. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, "
        "2 No preemption victims found for incoming pod."
    )


def test_messages_without_nodes_and_without_preemption() -> None:
    none = decide(parse_pod(pod()), [], lambda _: 0)
    assert isinstance(none, Unschedulable)
    assert none.message == "no nodes available to schedule pods"
    never = decide(parse_pod(pod(preemptionPolicy="Never")), node_infos([node(cordoned=True)]), lambda _: 0)
    assert isinstance(never, Unschedulable)
    assert never.message == (
        "0/1 nodes are available: 1 node(s) were unschedulable. preemption: not eligible due to preemptionPolicy=Never."
    )


def test_explain_tells_all_objections_of_each_node() -> None:
    nodes = node_infos([node("bad", taints=[CONTROL_PLANE], has={"pods": "0"}), node("good")])
    bad, good = explain(parse_pod(pod()), nodes)
    assert bad.filters == {
        "TaintToleration": ("node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }",),
        "NodeResourcesFit": ("Too many pods",),
    }
    assert bad.total is None
    assert good.filters == {}
    assert good.total is not None
    assert set(good.scores) >= {"NodeResourcesFit", "PodTopologySpread"}


def test_namespace_selectors_reach_other_namespaces() -> None:
    term = {
        "topologyKey": HOST,
        "labelSelector": {"matchLabels": {"app": "db"}},
        "namespaceSelector": {"matchLabels": {"team": "a"}},
    }
    wanted = pod(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    other = pod("q", on="n1", labels={"app": "db"})
    other["metadata"]["namespace"] = "elsewhere"
    infos = node_infos([node()], [other])
    labels = {"elsewhere": {"team": "a"}}
    outcome = decide(parse_pod(wanted), infos, lambda _: 0, lambda namespace: labels.get(namespace, {}))
    assert isinstance(outcome, Unschedulable)
    assert decide(parse_pod(wanted), infos, lambda _: 0, lambda _: {}) == Placement("n1")

"""What `podnet explain pod/NAME` says: the scheduler's reasons, as of now."""

from __future__ import annotations

import pytest

from podnet.controlplane.scheduler.report import ClusterObjects, render_report, report_pod


def node(name, cpu="4", *, labels=None, taints=(), unschedulable=False):
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": list(taints), **({"unschedulable": True} if unschedulable else {})},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
    }


def pod(name="web", cpu="1", on="", *, phase="Pending", **spec):
    box = {"name": "c", "image": "python", "resources": {"requests": {"cpu": cpu}}}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": {"app": name}},
        "spec": {"containers": [box], **({"nodeName": on} if on else {}), **spec},
        "status": {"phase": phase},
    }


NAMESPACE = {"metadata": {"name": "default", "labels": {}}}


def report(one, nodes, others=(), **more):
    return report_pod(one, ClusterObjects(nodes, [one, *others], [NAMESPACE], **more))


def said(found):
    return "\n".join(render_report(found))


def test_each_node_says_which_filter_objects():
    taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
    found = report(pod(cpu="3"), [node("n1", cpu="2"), node("n2", taints=[taint]), node("n3")])
    by_name = {verdict.node: verdict for verdict in found.verdicts}
    assert by_name["n1"].filters == {"NodeResourcesFit": ("Insufficient cpu",)}
    assert set(by_name["n2"].filters) == {"TaintToleration"}
    assert by_name["n3"].filters == {}
    assert by_name["n3"].total is not None
    assert found.best == ("n3",)
    assert "best: n3" in said(found)


def test_a_pod_that_fits_nowhere_gets_the_message_of_its_condition():
    found = report(pod(cpu="9"), [node("n1"), node("n2")])
    assert found.best == ()
    assert found.message.startswith("0/2 nodes are available: 2 Insufficient cpu. preemption: ")
    assert found.message in said(found)
    assert "on no node yet" in said(found)


def test_without_nodes_it_says_so():
    assert "no nodes available to schedule pods" in said(report(pod(), []))


def test_a_placed_pod_is_judged_without_itself_and_its_node_name():
    """Else its own request would fill its node, and every other node would be refused by name."""
    found = report(pod(cpu="3", on="n1", phase="Running"), [node("n1"), node("n2")])
    assert found.node == "n1"
    assert [verdict.filters for verdict in found.verdicts] == [{}, {}]
    assert found.best == ("n1", "n2")
    assert "as if the pod still had to be placed" in said(found)
    assert "one of them at random" in said(found)


def test_pods_that_are_over_take_no_room():
    others = [pod("done", "4", "n1", phase="Succeeded"), pod("busy", "4", "n2", phase="Running")]
    found = report(pod(cpu="3"), [node("n1"), node("n2")], others)
    assert found.best == ("n1",)


def test_room_cleared_for_a_more_important_pod_is_taken():
    nominated = pod("first", "4", priority=100)
    nominated["status"]["nominatedNodeName"] = "n1"
    found = report(pod(cpu="3"), [node("n1"), node("n2")], [nominated])
    assert found.best == ("n2",)


@pytest.mark.parametrize(
    ("spec", "note"),
    [
        ({"schedulingGates": [{"name": "wait.example/x"}]}, "wait.example/x"),
        ({"schedulerName": "mine"}, "another scheduler"),
    ],
    ids=["gates", "another scheduler"],
)
def test_why_the_scheduler_would_not_look(spec, note):
    assert note in said(report(pod(**spec), [node("n1")]))


def test_a_missing_claim_refuses_every_node():
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    found = report(pod(volumes=volumes), [node("n1"), node("n2")])
    assert found.message.startswith('0/2 nodes are available: persistentvolumeclaim "data" not found')
    assert all('persistentvolumeclaim "data" not found' in str(verdict.filters) for verdict in found.verdicts)


def test_a_bound_volume_ties_the_pod_to_its_node():
    claim = {
        "metadata": {"name": "data", "namespace": "default", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "pv", "accessModes": ["ReadWriteOnce"]},
        "status": {"phase": "Bound"},
    }
    match = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}
    volume = {
        "metadata": {"name": "pv"},
        "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [match]}]}}},
        "status": {"phase": "Bound"},
    }
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    found = report(pod(volumes=volumes), [node("n1"), node("n2")], claims=[claim], volumes=[volume])
    assert found.best == ("n2",)
    assert "node(s) had volume node affinity conflict" in said(found)

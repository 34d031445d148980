"""Events and autoscalers seen through their two versions."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from podnet.controlplane.api import resources, schema
from podnet.controlplane.api.versions import from_stored, to_stored

CORE_EVENT = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "e", "namespace": "default"},
    "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
    "reason": "Pulled",
    "message": "text",
    "source": {"component": "kubelet", "host": "n1"},
    "firstTimestamp": "2026-01-01T00:00:00Z",
    "lastTimestamp": "2026-01-01T00:00:00Z",
    "count": 2,
    "type": "Normal",
    "eventTime": None,
    "reportingComponent": "kubelet",
    "reportingInstance": "n1",
}
HPA_V1 = {
    "apiVersion": "autoscaling/v1",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "h", "annotations": {"mine": "1"}},
    "spec": {
        "maxReplicas": 5,
        "scaleTargetRef": {"kind": "Deployment", "name": "d"},
        "targetCPUUtilizationPercentage": 70,
    },
    "status": {"currentReplicas": 1, "desiredReplicas": 2, "currentCPUUtilizationPercentage": 90},
}
MEMORY = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
HPA_V2 = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "h"},
    "spec": {
        "maxReplicas": 5,
        "scaleTargetRef": {"kind": "Deployment", "name": "d"},
        "metrics": [MEMORY, CPU],
        "behavior": {"scaleDown": {"selectPolicy": "Disabled"}},
    },
    "status": {"desiredReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]},
}


def test_an_event_in_the_other_version() -> None:
    """Each field under its other name, known to that version's schema, and back again."""
    seen = from_stored(CORE_EVENT, resources.EVENTS_V1)
    assert (seen["apiVersion"], seen["regarding"]["name"], seen["note"]) == ("events.k8s.io/v1", "a", "text")
    assert (seen["deprecatedCount"], seen["deprecatedSource"]["host"]) == (2, "n1")
    assert schema.strict_errors(seen) == []
    assert schema.strict_errors(CORE_EVENT) == []
    assert to_stored(seen, resources.EVENTS_V1) == CORE_EVENT


def test_an_autoscaler_of_v1_is_stored_as_v2() -> None:
    """The CPU percentage becomes a metric; reading it through v1 gives back what was written."""
    stored = to_stored(HPA_V1, resources.HORIZONTALPODAUTOSCALERS_V1)
    assert stored["apiVersion"] == "autoscaling/v2"
    assert stored["spec"]["metrics"] == [CPU]
    assert schema.strict_errors(stored) == []
    assert schema.type_errors(stored) == []
    assert from_stored(stored, resources.HORIZONTALPODAUTOSCALERS_V1) == HPA_V1


def test_an_autoscaler_of_v2_survives_v1() -> None:
    """What v1 has no field for travels in annotations."""
    seen = from_stored(HPA_V2, resources.HORIZONTALPODAUTOSCALERS_V1)
    assert seen["spec"]["targetCPUUtilizationPercentage"] == 70
    assert set(seen["metadata"]["annotations"]) == {
        "autoscaling.alpha.kubernetes.io/metrics",
        "autoscaling.alpha.kubernetes.io/behavior",
        "autoscaling.alpha.kubernetes.io/conditions",
    }
    assert schema.strict_errors(seen) == []
    assert to_stored(seen, resources.HORIZONTALPODAUTOSCALERS_V1) == HPA_V2


@pytest.mark.parametrize(
    ("obj", "resource"),
    [
        (CORE_EVENT, resources.EVENTS_V1),
        (HPA_V2, resources.HORIZONTALPODAUTOSCALERS_V1),
        ({"metadata": {}}, resources.HORIZONTALPODAUTOSCALERS_V1),
    ],
)
def test_arguments_are_left_alone(obj: dict[str, Any], resource: resources.Resource) -> None:
    """Conversion never changes what it is given."""
    before = copy.deepcopy(obj)
    to_stored(from_stored(obj, resource), resource)
    assert obj == before


def test_other_resources_are_their_own_storage() -> None:
    """The very same object."""
    pod = {"apiVersion": "v1", "kind": "Pod"}
    assert to_stored(pod, resources.PODS) is pod
    assert from_stored(pod, resources.PODS) is pod


def test_text_in_an_annotation_that_is_not_ours_stays() -> None:
    """A user's own words are not read as metrics."""
    obj = {**HPA_V1, "metadata": {"annotations": {"autoscaling.alpha.kubernetes.io/metrics": "not json"}}}
    stored = to_stored(obj, resources.HORIZONTALPODAUTOSCALERS_V1)
    assert stored["metadata"]["annotations"] == {"autoscaling.alpha.kubernetes.io/metrics": "not json"}

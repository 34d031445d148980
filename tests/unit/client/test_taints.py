"""Taints and tolerations, as upstream's table has them."""

from __future__ import annotations

import pytest

from podnet.controlplane.client.taints import find_untolerated, tolerates, toleration_seconds

TAINT = {"key": "k", "value": "v", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        pytest.param({"key": "k", "value": "v", "effect": "NoSchedule"}, True, id="equal by default"),
        pytest.param({"key": "k", "operator": "Equal", "value": "v"}, True, id="no effect covers all effects"),
        pytest.param({"key": "k", "value": "w", "effect": "NoSchedule"}, False, id="another value"),
        pytest.param({"key": "x", "value": "v", "effect": "NoSchedule"}, False, id="another key"),
        pytest.param({"key": "k", "value": "v", "effect": "NoExecute"}, False, id="another effect"),
        pytest.param({"key": "k", "operator": "Exists"}, True, id="exists ignores the value"),
        pytest.param({"operator": "Exists"}, True, id="exists without a key covers all"),
        pytest.param({"operator": "Exists", "effect": "NoExecute"}, False, id="exists for another effect"),
        pytest.param({"key": "k", "operator": "Gt", "value": "v"}, False, id="unknown operator"),
    ],
)
def test_tolerates(toleration: dict, expected: bool) -> None:
    assert tolerates(toleration, TAINT) is expected


def test_a_taint_without_value_equals_an_empty_one() -> None:
    assert tolerates({"key": "k", "effect": "NoSchedule"}, {"key": "k", "effect": "NoSchedule"})


def test_only_the_effects_asked_for_count() -> None:
    prefer = {"key": "p", "effect": "PreferNoSchedule"}
    assert find_untolerated([prefer], [], ("NoSchedule", "NoExecute")) is None
    assert find_untolerated([prefer, TAINT], [], ("NoSchedule",)) == TAINT


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        pytest.param([], 0.0, id="not tolerated: at once"),
        pytest.param([{"key": "a", "operator": "Exists"}], 0.0, id="one of two is not tolerated"),
        pytest.param([{"operator": "Exists"}], None, id="tolerated for ever"),
        pytest.param([{"operator": "Exists", "tolerationSeconds": 300}], 300.0, id="for a while"),
        pytest.param(
            [
                {"key": "a", "operator": "Exists", "tolerationSeconds": 60},
                {"key": "b", "operator": "Exists", "tolerationSeconds": 30},
            ],
            30.0,
            id="the shortest counts",
        ),
        pytest.param([{"operator": "Exists", "tolerationSeconds": -5}], 0.0, id="negative is at once"),
    ],
)
def test_toleration_seconds(tolerations: list, expected: float | None) -> None:
    taints = [{"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoExecute"}]
    assert toleration_seconds(taints, tolerations) == expected

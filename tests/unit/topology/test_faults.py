"""Loss as an nft script."""

from __future__ import annotations

import pytest

from podnet.topology.faults import loss_table, render_loss, shape_problem


@pytest.mark.parametrize(
    ("percent", "rule"),
    [
        (50, "numgen random mod 10000 < 5000 drop"),
        (0.01, "mod 10000 < 1 drop"),
        (0.001, "mod 10000 < 1 drop"),
        (100, "    drop"),
    ],
)
def test_loss_is_a_share_of_ten_thousand(percent: float, rule: str) -> None:
    script = render_loss("worker-1", percent)
    assert rule in script
    assert 'device "worker-1"' in script
    assert script.startswith("add table netdev podnet_loss_worker_1\ndelete table netdev podnet_loss_worker_1\n")


def test_no_loss_takes_the_table_away() -> None:
    script = render_loss("eth0", 0)
    assert "drop" not in script
    assert script.endswith("delete table netdev podnet_loss_eth0\n")


def test_table_names_are_nft_identifiers() -> None:
    assert loss_table("a.b-c_1") == "podnet_loss_a_b_c_1"


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("shape", [(0, 0, 0), (8000, 10_000, 100), (10**13, 0.001, 0.01)])
def test_possible_shapes(shape: tuple[float, float, float]) -> None:
    assert shape_problem(*shape) == ""


@pytest.mark.parametrize(
    ("shape", "word"),
    [((-1, 0, 0), "rate"), ((7999, 0, 0), "rate"), ((INF, 0, 0), "rate"), ((NAN, 0, 0), "rate"), ((0, -1, 0), "delay"),
     ((0, INF, 0), "delay"), ((0, NAN, 0), "delay"), ((0, 0, -1), "loss"), ((0, 0, 101), "loss"), ((0, 0, NAN), "loss")],
)  # fmt: skip
def test_impossible_shapes_are_named(shape: tuple[float, float, float], word: str) -> None:
    assert shape_problem(*shape).startswith(f"the {word} must be")

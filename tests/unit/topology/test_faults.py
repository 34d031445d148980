"""Loss as an nft script."""

from __future__ import annotations

import pytest

from podnet.topology.faults import loss_table, render_loss


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

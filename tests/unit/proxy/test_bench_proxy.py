"""The rows of the proxy's bench, from figures; the figures are for `podnet bench`."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from podnet.proxy.bench import FEW_UPDATES, UPDATES, Figures, rounds_of, rows_of, services

NFT = Figures(20.0, 21.0, 16.0, 0.5, 16.5, 22.0, UPDATES)
IPT = Figures(40.0, None, 18.0, None, 12.0, 30.0, FEW_UPDATES)


def test_what_is_the_same_in_both_modes_stands_side_by_side():
    rows = {row.name: row for row in rows_of(100, {"nftables": NFT, "iptables": IPT})}
    assert list(rows) == [
        "full load of 100 Services, nftables",
        "full load of 100 Services, iptables",
        "one of 100 Services changed, nftables, model to kernel",
        "one of 100 Services changed, nftables, transaction alone",
        "one of 100 Services changed, iptables, model to kernel, 5 rounds",
        "first packet to the last of 100 Services, nftables",
        "first packet to the last of 100 Services, iptables",
    ]
    first = rows["first packet to the last of 100 Services, nftables"]
    assert (first.value, first.unit, first.reference, first.reference_value) == (22.0, "us", "iptables", 30.0)
    assert rows["full load of 100 Services, iptables"].reference_value is None
    assert rows["one of 100 Services changed, nftables, transaction alone"].budget == 1.0
    assert [row.budget for row in rows.values()].count(None) == 6


def test_a_mode_without_figures_says_why_and_the_other_is_there():
    rows = list(rows_of(1000, {"nftables": NFT, "iptables": "iptables-restore is not installed"}))
    assert (rows[0].name, rows[0].error) == ("1000 Services, iptables", "iptables-restore is not installed")
    assert all("nftables" in row.name for row in rows[1:])
    assert rows[-1].reference_value is None
    assert next(row for row in rows if "alone" in row.name).budget == 5.0


@pytest.mark.parametrize(
    ("mode", "size", "rounds"),
    [("nftables", 5000, UPDATES), ("iptables", 1000, UPDATES), ("iptables", 5000, FEW_UPDATES)],
)
def test_rounds(mode, size, rounds):
    assert rounds_of(mode, size) == rounds


def test_only_the_last_service_has_the_server_that_answers():
    model = services(7)
    assert (
        len({port.cluster_ip for port in model.services}) == 7 if hasattr(model, "services") else len(model.ports) == 7
    )
    with_server = [port for port in model.ports if IPv4Address("10.244.0.2") in {e.ip for e in port.cluster_endpoints}]
    assert with_server == [model.ports[-1]]

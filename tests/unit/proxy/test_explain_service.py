"""What `podnet explain svc/NAME` says, as golden files, one a Service shape and mode.

The listings were printed by a kernel; tests/kernel/proxy/test_explain_kernel.py holds them true and writes new ones.
Texts anew: PODNET_UPDATE_GOLDEN=1 pytest tests/unit/proxy/test_explain_service.py
"""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
from explain_cases import CASES, GOLDEN, NO_RULES, flow
from proxy_objects import LOCAL, REMOTE, endpoint, piece

from podnet.proxy.explain.service import explain_service
from podnet.proxy.explain.text import render_text
from podnet.proxy.explain.types import FOREIGN

MODES = ("nftables", "iptables")
both_modes = pytest.mark.parametrize("mode", MODES)
ids = {"ids": lambda case: case.id}


def check_golden(name, text):
    path = GOLDEN / name
    if os.environ.get("PODNET_UPDATE_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text, "is that meant? PODNET_UPDATE_GOLDEN=1 writes it anew"


def case(name):
    return next(found for found in CASES + NO_RULES if found.id == name)


@both_modes
@pytest.mark.parametrize("one", CASES, **ids)
def test_every_shape_reads_as_recorded(one, mode):
    text = "\n".join(render_text(explain_service(one.material(mode)), None)) + "\n"
    assert FOREIGN not in text, "every rule of ours has a sentence"
    assert "although it should" not in text
    check_golden(f"{one.id}.{mode}.txt", text)


@pytest.mark.parametrize("one", NO_RULES, **ids)
def test_a_service_without_rules_says_why(one):
    found = explain_service(one.material("nftables"))
    assert found.why_none
    assert not any(port.steps for port in found.ports)
    check_golden(f"{one.id}.txt", "\n".join(render_text(found, None)) + "\n")


def test_without_a_proxy_there_are_no_rules_and_it_says_so():
    found = explain_service(case("cluster-ip").material("none"))
    assert "podnet proxy mode" in found.why_none
    assert not found.ports[0].steps
    assert not any("although it should" in note for note in found.ports[0].notes)
    assert [row.address for row in found.ports[0].endpoints] == ["10.244.1.2", "10.244.2.2"]


@both_modes
@pytest.mark.parametrize("one", [one for one in CASES if one.model().ports[0].has_endpoints], **ids)
def test_shares_are_those_of_the_model(one, mode):
    for port, said in zip(one.model().ports, explain_service(one.material(mode)).ports, strict=True):
        shares = {f"{row.address}:{row.port}": row.inside for row in said.endpoints if row.inside}
        assert set(shares) == {str(endpoint) for endpoint in port.internal_endpoints}
        assert not shares or sum(shares.values()) == pytest.approx(1)
        if port.has_outside:
            outside = port.local_endpoints if port.external_local else port.cluster_endpoints
            shares = {f"{row.address}:{row.port}": row.outside for row in said.endpoints if row.outside}
            assert set(shares) == {str(endpoint) for endpoint in outside}


@both_modes
def test_a_connection_is_counted_for_its_endpoint(mode):
    port = explain_service(case("cluster-ip").material(mode)).ports[0]
    assert {row.address: row.connections for row in port.endpoints} == {"10.244.1.2": 0, "10.244.2.2": 1}
    assert [connection.translated for connection in port.connections] == ["DNAT"]


@both_modes
def test_connections_of_others_are_left_out(mode):
    one = case("cluster-ip")
    others = (flow("10.96.0.6", 80, "10.244.2.2"), flow("10.96.0.5", 81, "10.244.2.2"),
              flow("10.96.0.5", 80, "10.244.2.2", protocol="udp"), flow("10.244.2.2", 8080, "10.244.2.2"))  # fmt: skip
    material = dataclasses.replace(one.material(mode), flows=others)
    assert explain_service(material).ports[0].connections == ()


def test_bytes_are_shown_only_where_they_are_counted():
    one = case("cluster-ip")
    material = one.material("nftables")
    assert "BYTES" not in "\n".join(render_text(explain_service(material), None))
    counted = dataclasses.replace(material, flows=[flow("10.96.0.5", 80, "10.244.2.2", packets=9, bytes=1234)])
    text = "\n".join(render_text(explain_service(counted), None))
    assert "BYTES" in text
    assert "1234" in text


@both_modes
def test_rules_that_are_missing_are_missed(mode):
    found = explain_service(case("cluster-ip").material(mode, listing=""))
    assert "although it should" in found.ports[0].notes[0]


def test_a_rule_that_somebody_added_is_shown_as_such():
    one = case("cluster-ip")
    listing = one.listing_file("nftables").read_text()
    first = next(line for line in listing.splitlines() if "jump mark-for-masquerade" in line)
    strange = listing.replace(first, f"\t\tip saddr 10.244.1.7 accept\n{first}")
    steps = explain_service(one.material("nftables", strange)).ports[0].steps
    assert [step.rule for step in steps if step.sentence == FOREIGN] == ["ip saddr 10.244.1.7 accept"]


def test_remembered_clients_are_counted():
    one = case("affinity")
    listing = one.listing_file("nftables").read_text()
    flags = "\t\tflags dynamic,timeout\n"
    assert flags in listing
    strange = listing.replace(flags, flags + "\t\telements = { 10.244.1.8 timeout 1m expires 59s }\n", 1)
    sentences = [step.sentence for step in explain_service(one.material("nftables", strange)).ports[0].steps]
    assert any("1 client remembered now" in sentence for sentence in sentences)


@both_modes
@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("one", CASES, **ids)
def test_a_terminal_is_kept_to(one, mode, width):
    lines = render_text(explain_service(one.material(mode)), width, ["n2", "n3"])
    words = max(len(word) for line in lines for word in line.split())
    assert max(map(len, lines)) <= max(width, words + 40)


def test_a_thousand_endpoints_stay_readable():
    many = [endpoint(f"10.244.{number // 250}.{number % 250}") for number in range(1000)]
    chosen = ", ".join(f"{number} : 10.244.{number // 250}.{number % 250} . 8080" for number in range(1000))
    one = dataclasses.replace(case("cluster-ip"), slices=(piece(*many),))
    listing = one.listing_file("nftables").read_text()
    old = next(line for line in listing.splitlines() if "dnat ip to" in line)
    new = f"\t\tmeta l4proto tcp counter packets 5 bytes 300 dnat ip to numgen random mod 1000 map {{ {chosen} }}"
    found = explain_service(one.material("nftables", listing.replace(old, new)))
    assert sum(row.inside for row in found.ports[0].endpoints) == pytest.approx(1)
    assert found.ports[0].opened == 5
    text = render_text(found, 120)
    assert any("and 990 more" in line for line in text)


@both_modes
def test_json_has_everything(mode):
    found = json.loads(json.dumps(dataclasses.asdict(explain_service(case("node-port").material(mode)))))
    port = found["ports"][0]
    assert found["mode"] == mode
    assert port["node_port"] == 30080
    assert {"hook", "chain", "rule", "sentence", "packets", "bytes", "depth"} == set(port["steps"][0])
    hooks = [step["hook"].lower().split(",")[0] for step in port["steps"]]
    assert hooks[0] == "nat prerouting"
    assert hooks[-1] == "nat postrouting"


def test_ipv6_slices_are_passed_over():
    one = case("cluster-ip")
    mixed = (piece(LOCAL, REMOTE), piece(endpoint("fd00::1"), family="IPv6"))
    found = explain_service(dataclasses.replace(one, slices=mixed).material("nftables"))
    assert len(found.ports[0].endpoints) == 2

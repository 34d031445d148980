"""Laws of cluster.yaml: what is rendered loads as the same, and no text crashes the loader."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from podnet.topology.spec import SpecError, default_cluster_spec, load_cluster_spec
from podnet.topology.spec.addresses import assign_addresses, next_node_address
from podnet.topology.spec.render import render_rate
from podnet.topology.spec.types import UnderlaySpec


def outcome(text: str) -> object:
    """The spec, or the problems that the refusal lists; anything else is an error of the loader."""
    try:
        return load_cluster_spec(text, "t")
    except SpecError as error:
        return error.problems


NAMES = st.lists(st.from_regex(r"\A[a-z]([-a-z0-9]{0,20}[a-z0-9])?\Z"), min_size=1, max_size=8, unique=True)


@st.composite
def cluster_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A valid cluster.yaml as a dict: any names, one to three switches in a row, shaped links."""
    names = [f"n-{name}"[:63].rstrip("-") for name in draw(NAMES)]
    switches = [f"sw{n}" for n in range(draw(st.integers(1, 3)))]
    links: list[dict[str, Any]] = [{"endpoints": list(pair)} for pair in pairwise(switches)]
    nodes = []
    for position, name in enumerate(dict.fromkeys(names)):
        node: dict[str, Any] = {"name": name, "role": "worker" if position else "control-plane"}
        if draw(st.booleans()):
            node["labels"] = draw(st.dictionaries(st.sampled_from(["zone", "a.io/b"]), st.sampled_from(["", "x"])))
        if draw(st.booleans()):
            link: dict[str, Any] = {"endpoints": [name, draw(st.sampled_from(switches))]}
            if rate := draw(st.integers(0, 10_000)):
                link["rate"] = f"{rate}Mbit"
            if loss := draw(st.integers(0, 100)):
                link["loss"] = loss
            if delay := draw(st.integers(0, 9000)):
                link["delay"] = f"{delay}ms"
            links.append(link)
        nodes.append(node)
    spec = {"nodes": nodes, "switches": [{"name": s} for s in switches], "links": links}
    spec["timing"] = {"profile": draw(st.sampled_from(["lab", "upstream"]))}
    return {"apiVersion": "podnet.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "x"}, "spec": spec}


@given(cluster_documents())
@settings(max_examples=60)
def test_what_is_rendered_loads_as_the_same(document: dict[str, Any]) -> None:
    spec = load_cluster_spec(yaml.safe_dump(document), "generated")
    assert load_cluster_spec(spec.to_yaml(), "rendered") == spec
    assert yaml.safe_load(spec.to_yaml()) == spec.to_dict()
    assert len({link.a for link in spec.links} | {link.b for link in spec.links}) >= len(spec.nodes)


@given(st.integers(0, 40))
def test_default_clusters_load_as_rendered(workers: int) -> None:
    spec = default_cluster_spec("d", workers)
    assert load_cluster_spec(spec.to_yaml(), "d") == spec


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_any_text_is_loaded_or_refused(text: str) -> None:
    assert outcome(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["nodes", "hosts", "switches", "links", "overlay", "timing", "underlay", "dns", "podCIDR", "store", "proxy"]
)
NODE_FIELDS = st.sampled_from(
    ["name", "role", "ip", "switch", "labels", "taints", "endpoints", "rate", "routes", "kind"]
)


@given(
    st.dictionaries(FIELDS, json_values | st.lists(st.dictionaries(NODE_FIELDS, json_values, max_size=4), max_size=3))
)
@settings(max_examples=200)
def test_any_value_in_any_field_is_loaded_or_refused(spec: dict[str, Any]) -> None:
    document = {"apiVersion": "podnet.dev/v1alpha1", "kind": "Cluster", "spec": spec}
    assert outcome(yaml.safe_dump(document, allow_unicode=True))


@given(st.integers(0, 300), st.integers(0, 60))
def test_assigned_addresses_are_usable_and_distinct(nodes: int, hosts: int) -> None:
    underlay, unset = UnderlaySpec(), UnderlaySpec().cidr[0]
    found = assign_addresses(underlay, [unset] * nodes, [unset] * hosts, unset=unset)
    given_out = [ip for ip in (*found.nodes, *found.hosts) if ip != unset]
    assert len(set(given_out)) == len(given_out) == min(nodes + hosts, 253)
    assert underlay.gateway not in given_out
    assert all(ip in underlay.cidr and ip != underlay.cidr.broadcast_address for ip in given_out)


def test_later_nodes_get_the_next_free_address() -> None:
    spec = default_cluster_spec()
    used = [*(node.ip for node in spec.nodes), *(host.ip for host in spec.hosts)]
    assert str(next_node_address(spec.underlay, used)) == "192.168.100.13"
    assert next_node_address(spec.underlay, list(spec.underlay.cidr)) is None


@given(st.integers(8_000, 10**13))
def test_rates_come_back(rate: int) -> None:
    from podnet.topology.spec.fields import rate_bit_s

    assert rate_bit_s(render_rate(rate)) == rate

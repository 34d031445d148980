"""Which processes are a node's, and which nodes may join."""

from __future__ import annotations

import pytest

from podnet.nodes import NodeChangeError, processes_of, spec_with_node, spec_without_node
from podnet.topology.spec import default_cluster_spec, load_cluster_spec

SPEC = default_cluster_spec("unit", workers=2)

# pid: (parent, mount namespace, network namespace). 1 is the room's PID 1; 10 and 20 are the shells of two nodes.
TABLE = {
    1: (0, 100, 100),
    2: (1, 100, 100),  # a worker of the supervisor
    10: (1, 110, 110),
    11: (1, 110, 110),  # the agent
    12: (11, 110, 110),  # its zygote
    13: (1, 110, 113),  # a pod's shim: the node's mounts, a network of its own
    14: (13, 114, 113),  # its container
    15: (14, 114, 113),
    16: (1, 116, 110),  # a program that entered the node's network only
    20: (1, 120, 120),
    21: (20, 120, 120),
}


def test_a_nodes_processes_are_those_in_its_namespaces_and_their_children():
    assert processes_of(10, TABLE) == {10, 11, 12, 13, 14, 15, 16}
    assert processes_of(20, TABLE) == {20, 21}


def test_a_node_that_is_gone_has_none():
    assert processes_of(99, TABLE) == set()


def test_a_new_node_gets_an_address_a_switch_and_a_cable():
    wanted, node = spec_with_node(SPEC, {"name": "worker-7", "role": "worker", "labels": {"a": "b"}})
    assert str(node.ip) == "192.168.100.13"
    assert node.switch == "s1"
    assert wanted.link("worker-7", "s1") is not None
    assert wanted.nodes[:-1] == SPEC.nodes
    assert spec_without_node(wanted, "worker-7") == SPEC
    assert load_cluster_spec(wanted.to_yaml()) == wanted


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"name": "worker-1"}, "taken by a node"),
        ({"name": "client"}, "taken by a host"),
        ({"name": "s1"}, "taken by a switch"),
        ({"name": "A"}, "DNS-1123"),
        ({"name": "w", "ip": "1.2.3.4"}, "outside the underlay"),
        ({"name": "w", "ip": "nonsense"}, "nonsense"),
        ({"name": "w", "switch": "s2"}, "no switch"),
        ({"name": "w", "taints": [{"key": "a", "effect": "Maybe"}]}, "NoSchedule"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_what_does_not_fit_is_said(node, text):
    with pytest.raises(NodeChangeError, match=text):
        spec_with_node(SPEC, node)

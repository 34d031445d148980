"""The controller's decisions, and its flows as values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podnet.topology.openflow.flows import parse_flows
from podnet.topology.openflow.learning import (
    BROADCAST,
    Answer,
    Drop,
    Flood,
    Forward,
    Frame,
    SwitchTable,
    is_group,
)

A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
KNOWN = {"192.168.100.11": B}


def test_unknown_destinations_are_flooded_known_ones_forwarded() -> None:
    table = SwitchTable()
    assert table.decide(Frame(1, A, B), {}) == Flood()
    table.learn(B, 2)
    assert table.decide(Frame(1, A, B), {}) == Forward(2)


def test_frames_to_where_they_came_from_are_dropped() -> None:
    table = SwitchTable()
    table.learn(B, 1)
    assert table.decide(Frame(1, A, B), {}) == Drop()


def test_broadcast_and_multicast_are_flooded_and_never_learned() -> None:
    table = SwitchTable()
    assert not table.learn(BROADCAST, 3)
    assert not table.learn("33:33:00:00:00:01", 3)
    assert table.ports == {}
    assert table.decide(Frame(1, A, "33:33:00:00:00:01"), {}) == Flood()


def test_a_machine_that_moves_is_noticed() -> None:
    table = SwitchTable()
    assert not table.learn(A, 1)
    assert not table.learn(A, 1)
    assert table.learn(A, 2)
    assert table.ports[A] == 2


def test_a_port_that_goes_takes_its_machines() -> None:
    table = SwitchTable()
    for mac, port in ((A, 1), (B, 2), (C, 2)):
        table.learn(mac, port)
    assert sorted(table.forget_port(2)) == [B, C]
    assert table.ports == {A: 1}


def test_arp_for_a_known_machine_is_answered() -> None:
    frame = Frame(1, A, BROADCAST, "192.168.100.11", "192.168.100.10")
    assert SwitchTable().decide(frame, KNOWN) == Answer(1, B)


def test_arp_for_strangers_is_flooded() -> None:
    frame = Frame(1, A, BROADCAST, "192.168.100.99", "192.168.100.10")
    assert SwitchTable().decide(frame, KNOWN) == Flood()


def test_arp_from_a_trunk_is_flooded_so_that_the_other_switch_learns_nothing_wrong() -> None:
    frame = Frame(1, A, BROADCAST, "192.168.100.11", "192.168.100.10")
    assert SwitchTable(trunks={1}).decide(frame, KNOWN) == Flood()


def test_announcements_and_a_machines_question_for_itself_are_flooded() -> None:
    announcement = Frame(1, B, BROADCAST, "192.168.100.11", "192.168.100.11")
    duplicate_check = Frame(1, B, BROADCAST, "192.168.100.11", "0.0.0.0")
    assert SwitchTable().decide(announcement, KNOWN) == Flood()
    assert SwitchTable().decide(duplicate_check, KNOWN) == Flood()


macs = st.integers(0, 255).map(lambda n: f"02:00:00:00:00:{n:02x}")


@given(st.lists(st.tuples(macs, st.integers(1, 4))), macs, macs, st.integers(1, 4))
def test_a_frame_never_returns_by_its_port(
    learned: list[tuple[str, int]], source: str, destination: str, in_port: int
) -> None:
    table = SwitchTable()
    for mac, port in learned:
        table.learn(mac, port)
    table.learn(source, in_port)
    decision = table.decide(Frame(in_port, source, destination), {})
    assert not (isinstance(decision, Forward) and decision.port == in_port)


def test_group_bit() -> None:
    assert is_group("ff:ff:ff:ff:ff:ff")
    assert is_group("01:80:c2:00:00:00")
    assert not is_group(A)


DUMP = """ cookie=0x0, duration=25.893s, table=0, n_packets=58, n_bytes=4444, priority=0 actions=CONTROLLER:65535
 cookie=0x0, duration=22.567s, table=0, n_packets=1, n_bytes=98, idle_timeout=60, priority=10,in_port=1,dl_src=02:00:c0:a8:64:0a,dl_dst=02:00:c0:a8:64:0b actions=output:2
 cookie=0x0, duration=1s, table=0, n_packets=0, n_bytes=0, arp,in_port=LOCAL actions=drop
"""


def test_flows_are_read_from_ovs_ofctl() -> None:
    plain, learned, miss = parse_flows("s1", DUMP)
    assert (plain.priority, plain.match, plain.actions) == (32768, "arp,in_port=LOCAL", "drop")
    assert (learned.priority, learned.idle_timeout_s, learned.packets, learned.bytes) == (10, 60, 1, 98)
    assert learned.match == "in_port=1,dl_src=02:00:c0:a8:64:0a,dl_dst=02:00:c0:a8:64:0b"
    assert (learned.actions, learned.duration_s, learned.switch) == ("output:2", 22.567, "s1")
    assert (miss.priority, miss.match, miss.actions, miss.packets) == (0, "*", "CONTROLLER:65535", 58)
    assert parse_flows("s1", "OFPST_FLOW reply (OF1.3) (xid=0x2):\n") == []

"""Round robin, its limits, and the laws of the store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from podnet.cni.ipam import allocate, assign_requested, candidates, free_addresses, parse_range
from podnet.cni.store import LeaseStore
from podnet.cni.types import CNIError


def ranges(*specs):
    return tuple(parse_range({"subnet": spec} if isinstance(spec, str) else spec, "r") for spec in specs)


SMALL = ranges("10.1.0.0/29")  # .1 gateway, .2 to .6 to give


def ip(text):
    return ip_address(text) if text else None


@pytest.mark.parametrize(
    ("taken", "last", "expected"),
    [
        ((), "", "10.1.0.2"),
        ((), "10.1.0.2", "10.1.0.3"),
        (("10.1.0.3",), "10.1.0.2", "10.1.0.4"),
        ((), "10.1.0.6", "10.1.0.2"),
        (("10.1.0.2",), "10.1.0.6", "10.1.0.3"),
        (("10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.6"), "10.1.0.6", "10.1.0.5"),
        ((), "192.168.0.1", "10.1.0.2"),
        ((), "10.1.0.1", "10.1.0.2"),
    ],
    ids=["first", "next", "skips-taken", "wraps", "wraps-and-skips", "only-one-left", "foreign-last", "gateway-last"],
)
def test_round_robin(taken, last, expected):
    given = allocate(SMALL, {ip(t) for t in taken}, ip(last))
    assert str(given.address) == f"{expected}/29"
    assert str(given.gateway) == "10.1.0.1"


def test_the_exhausted_message_names_the_ranges():
    taken = {ip_address(f"10.1.0.{n}") for n in range(2, 7)}
    with pytest.raises(CNIError, match=r"no IP addresses available in range set: 10\.1\.0\.1-10\.1\.0\.6") as caught:
        allocate(SMALL, taken, None)
    assert caught.value.code >= 100
    assert free_addresses(SMALL, taken) == 0


def test_ipv4_edges_are_never_given():
    given = {str(address) for _, address in candidates(SMALL, None)}
    assert given == {"10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"}


@pytest.mark.parametrize("last", ["", "10.1.0.4", "10.1.0.6", "10.2.0.6", "10.2.0.2"])
def test_candidates_are_every_address_once(last):
    two = ranges("10.1.0.0/29", "10.2.0.0/29")
    seen = [address for _, address in candidates(two, ip(last))]
    assert len(seen) == len(set(seen)) == 10
    if last:
        assert seen[-1] == ip(last)


def test_a_gateway_inside_the_range_is_skipped_and_outside_costs_nothing():
    inside = ranges(
        {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.12", "gateway": "10.1.0.11"}
    )
    assert [str(a) for _, a in candidates(inside, None)] == ["10.1.0.10", "10.1.0.12"]
    assert inside[0].size == 2
    outside = ranges({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.12"})
    assert outside[0].size == 3


@pytest.mark.parametrize(
    ("requested", "taken", "ok"),
    [
        ("10.1.0.4", (), True),
        ("10.1.0.4", ("10.1.0.4",), False),
        ("10.1.0.1", (), False),
        ("10.1.0.7", (), False),
        ("10.9.0.4", (), False),
    ],
    ids=["free", "taken", "gateway", "broadcast", "elsewhere"],
)
def test_requested_address(requested, taken, ok):
    if ok:
        assert str(allocate(SMALL, {ip(t) for t in taken}, None, ip(requested)).address.ip) == requested
        return
    with pytest.raises(CNIError):
        allocate(SMALL, {ip(t) for t in taken}, None, ip(requested))


def test_an_unused_requested_address_is_refused():
    with pytest.raises(CNIError, match="all requested IPs"):
        assign_requested([SMALL], [ip_address("10.1.0.3"), ip_address("10.1.0.4")])


def test_ipv6_range_of_a_whole_subnet():
    given = allocate(ranges("fd00::/64"), set(), None)
    assert str(given.address) == "fd00::2/64"
    assert str(given.gateway) == "fd00::1"


# --- the store --------------------------------------------------------------------------------------------------------


def test_leases_survive_reopening_and_round_robin_goes_on(tmp_path):
    store = LeaseStore(tmp_path)
    store.reserve("net", "a", "eth0", [SMALL])
    store.reserve("net", "b", "eth0", [SMALL])
    store.release("net", "b", "eth0")
    store.close()
    again = LeaseStore(tmp_path)
    assert {str(lease.address) for lease in again.leases("net")} == {"10.1.0.2"}
    (next_one,) = again.reserve("net", "c", "eth0", [SMALL])
    assert str(next_one.address.ip) == "10.1.0.4"
    again.close()


def test_an_attachment_gets_its_addresses_once(tmp_path):
    store = LeaseStore(tmp_path)
    store.reserve("net", "a", "eth0", [SMALL])
    with pytest.raises(CNIError, match="already has an address"):
        store.reserve("net", "a", "eth0", [SMALL])
    store.reserve("net", "a", "eth1", [SMALL])
    store.reserve("other", "a", "eth0", [SMALL])
    store.close()


def test_all_range_sets_or_none(tmp_path):
    store = LeaseStore(tmp_path)
    full = ranges({"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.5", "rangeEnd": "10.2.0.5"})
    store.reserve("net", "a", "eth0", [full])
    with pytest.raises(CNIError):
        store.reserve("net", "b", "eth0", [SMALL, full])
    assert [str(lease.address) for lease in store.leases("net")] == ["10.2.0.5"]
    (given,) = store.reserve("net", "c", "eth0", [SMALL])
    assert str(given.address.ip) == "10.1.0.2"
    store.close()


def test_release_is_idempotent(tmp_path):
    store = LeaseStore(tmp_path)
    store.reserve("net", "a", "eth0", [SMALL])
    assert [str(a) for a in store.release("net", "a", "eth0")] == ["10.1.0.2"]
    assert store.release("net", "a", "eth0") == ()
    assert store.release("net", "never", "eth0") == ()
    store.close()


def test_another_process_write_is_seen(tmp_path):
    one, two = LeaseStore(tmp_path), LeaseStore(tmp_path)
    first = one.reserve("net", "a", "eth0", [SMALL])
    second = two.reserve("net", "b", "eth0", [SMALL])
    third = one.reserve("net", "c", "eth0", [SMALL])
    assert len({item[0].address for item in (first, second, third)}) == 3
    two.release("net", "a", "eth0")
    assert {lease.container_id for lease in one.leases("net")} == {"b", "c"}
    one.close()
    two.close()


def test_a_file_that_is_no_database_is_an_error_not_a_fresh_start(tmp_path):
    (tmp_path / "ipam.db").write_bytes(b"not a database" * 100)
    with pytest.raises(CNIError) as caught:
        LeaseStore(tmp_path)
    assert caught.value.code == 5
    assert caught.value.msg == f"cannot open the address store {tmp_path / 'ipam.db'}: file is not a database"
    assert "move it away while the cluster is down" in caught.value.details


RESERVE_MANY = """
import sys
from pathlib import Path
from podnet.cni.ipam import parse_range
from podnet.cni.store import LeaseStore

store = LeaseStore(Path(sys.argv[1]))
pool = (parse_range({"subnet": "10.5.0.0/16"}, "r"),)
for n in range(25):
    print(store.reserve("net", f"w{sys.argv[2]}-{n}", "eth0", [pool])[0].address.ip)
store.close()
"""


def test_no_duplicate_among_processes(tmp_path):
    root = str(Path(__file__).resolve().parents[3])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", RESERVE_MANY, str(tmp_path), str(worker)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        for worker in range(4)
    ]
    given = [line for worker in workers for line in worker.communicate(timeout=60)[0].split()]
    assert [worker.returncode for worker in workers] == [0, 0, 0, 0]
    assert len(given) == len(set(given)) == 100


def test_a_reservation_costs_the_same_with_many_leases(tmp_path):
    """Sixteen thousand leases: what is compared is work (rows read), so the test cannot flake on a busy machine."""
    store = LeaseStore(tmp_path)
    pool = ranges("10.5.0.0/16")
    rows = [("net", str(ip_address("10.5.0.2") + n), f"c{n}", "eth0") for n in range(16_000)]
    store._db.execute("BEGIN")
    store._db.executemany("INSERT INTO leases VALUES (?, ?, ?, ?)", rows)
    store._db.execute("INSERT INTO last_reserved VALUES ('net', 0, ?)", (rows[-1][1],))
    store._db.execute("COMMIT")
    store.reserve("net", "warm", "eth0", [pool])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    store._db.set_progress_handler(count, 1)
    started = time.perf_counter()
    store.reserve("net", "one-more", "eth0", [pool])
    elapsed_s = time.perf_counter() - started
    assert steps < 400, "the database read more than a few rows"
    assert elapsed_s < 1
    store.close()


class Ipam(RuleBasedStateMachine):
    """Whatever is reserved and released in whatever order: no address twice, none lost, none out of range."""

    pool = ranges("10.1.0.0/28")

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.store = LeaseStore(Path(self.directory.name))
        self.model: dict[str, str] = {}

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    @rule(container=st.sampled_from([f"c{n}" for n in range(20)]))
    def reserve(self, container: str) -> None:
        try:
            (given,) = self.store.reserve("net", container, "eth0", [self.pool])
        except CNIError:
            assert container in self.model or len(self.model) == 13
            return
        assert container not in self.model
        assert str(given.address.ip) not in self.model.values()
        self.model[container] = str(given.address.ip)

    @rule(container=st.sampled_from([f"c{n}" for n in range(20)]))
    def release(self, container: str) -> None:
        self.store.release("net", container, "eth0")
        self.model.pop(container, None)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = LeaseStore(Path(self.directory.name))

    @invariant()
    def same_as_the_model(self) -> None:
        assert {lease.container_id: str(lease.address) for lease in self.store.leases("net")} == self.model


TestIpam = Ipam.TestCase
TestIpam.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)

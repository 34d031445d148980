"""The node's leases on disk: who has which address, in one SQLite file.

The rule: an address is reserved before anything is wired and released after everything is gone, each in one transaction;
the primary key (network, address) makes a duplicate impossible whatever the number of processes. In front of the file
stands the set of taken addresses in memory, so a reservation costs the same with one lease or with 16,000; it is read
again only when another process has written (PRAGMA data_version).

Write-ahead logging without a sync per commit: a killed process loses nothing, which is the crash that matters here; the
journal is the kernel's to write out. Source of the model: CNI SPEC section 4, host-local's per-address files.
"""

from __future__ import annotations

import contextlib
import ipaddress
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from podnet.cni.ipam import Allocation, RangeSet, allocate, assign_requested
from podnet.cni.types import ALREADY_EXISTS, IO_FAILURE, CNIError
from podnet.topology.kernel import IPAddress

DATABASE = "ipam.db"
_BUSY_TIMEOUT_S = 20.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
    network TEXT NOT NULL, address TEXT NOT NULL, container_id TEXT NOT NULL, ifname TEXT NOT NULL,
    PRIMARY KEY (network, address)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS leases_by_attachment ON leases (network, container_id, ifname);
CREATE TABLE IF NOT EXISTS last_reserved (
    network TEXT NOT NULL, range_set INTEGER NOT NULL, address TEXT NOT NULL,
    PRIMARY KEY (network, range_set)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """One address and the attachment that has it."""

    address: IPAddress
    container_id: str
    ifname: str


class LeaseStore:
    """The leases of one node. Used from one thread; several processes may have the file open."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / DATABASE
        self._taken: dict[str, set[IPAddress]] = {}
        self._data_version = -1
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            fix = "it only knows pods that run: move it away while the cluster is down"
            raise CNIError(IO_FAILURE, f"cannot open the address store {self._path}: {error}", fix) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def reserve(
        self,
        network: str,
        container_id: str,
        ifname: str,
        range_sets: Sequence[RangeSet],
        requested: Sequence[IPAddress] = (),
    ) -> tuple[Allocation, ...]:
        """Give the attachment one address of each range set: all of them or none. CNIError 101 when it has one."""
        wanted = assign_requested(range_sets, requested)
        added: list[Allocation] = []
        with self._transaction():
            if self._addresses(network, container_id, ifname):
                raise CNIError(ALREADY_EXISTS, f"{container_id} {ifname} already has an address in network {network}")
            taken = self._taken_in(network)
            for index, range_set in enumerate(range_sets):
                last = self._last_reserved(network, index)
                allocation = allocate(range_set, taken, last, wanted[index])
                text = str(allocation.address.ip)
                self._db.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", (network, text, container_id, ifname))
                if wanted[index] is None:
                    self._db.execute("INSERT OR REPLACE INTO last_reserved VALUES (?, ?, ?)", (network, index, text))
                added.append(allocation)
        self._taken_in(network).update(item.address.ip for item in added)
        return tuple(added)

    def release(self, network: str, container_id: str, ifname: str) -> tuple[IPAddress, ...]:
        """Take back what the attachment has; nothing happens when it has nothing."""
        with self._transaction():
            addresses = self._addresses(network, container_id, ifname)
            self._db.execute(
                "DELETE FROM leases WHERE network = ? AND container_id = ? AND ifname = ?",
                (network, container_id, ifname),
            )
        self._taken_in(network).difference_update(addresses)
        return addresses

    def clear(self) -> int:
        """Take back everything, in every network; how many addresses that were."""
        with self._transaction():
            released = self._db.execute("DELETE FROM leases").rowcount
        self._taken.clear()
        return released

    def leases(self, network: str) -> tuple[Lease, ...]:
        """Every lease of a network."""
        with self._reading():
            rows = self._db.execute(
                "SELECT address, container_id, ifname FROM leases WHERE network = ?", (network,)
            ).fetchall()
        return tuple(Lease(ipaddress.ip_address(address), cid, ifname) for address, cid, ifname in rows)

    def addresses(self, network: str, container_id: str, ifname: str) -> tuple[IPAddress, ...]:
        """The addresses one attachment has."""
        with self._reading():
            return self._addresses(network, container_id, ifname)

    def _addresses(self, network: str, container_id: str, ifname: str) -> tuple[IPAddress, ...]:
        rows = self._db.execute(
            "SELECT address FROM leases WHERE network = ? AND container_id = ? AND ifname = ?",
            (network, container_id, ifname),
        )
        return tuple(ipaddress.ip_address(row[0]) for row in rows)

    def _last_reserved(self, network: str, range_set: int) -> IPAddress | None:
        row = self._db.execute(
            "SELECT address FROM last_reserved WHERE network = ? AND range_set = ?", (network, range_set)
        ).fetchone()
        return ipaddress.ip_address(row[0]) if row else None

    def _taken_in(self, network: str) -> set[IPAddress]:
        if network not in self._taken:
            rows = self._db.execute("SELECT address FROM leases WHERE network = ?", (network,))
            self._taken[network] = {ipaddress.ip_address(row[0]) for row in rows}
        return self._taken[network]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._reading():
            # IMMEDIATE takes the write lock first: two processes never read the same free address.
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._forget_when_others_wrote()
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise CNIError(IO_FAILURE, f"address store {self._path} failed", str(error)) from error

    def _forget_when_others_wrote(self) -> None:
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._data_version = version
            self._taken.clear()

"""The node's hostPorts on disk: who holds which, so that DEL needs neither the configuration of ADD nor a dump of rules.

The rule: a port is recorded before its rule stands and forgotten after the rule is gone; what a crash leaves behind is on
record. The file is made with the first hostPort of a node: most pods have none, and then nothing is read.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from podnet.cni.hostports import HostPort
from podnet.cni.types import IO_FAILURE, CNIError

DATABASE = "hostports.db"
_BUSY_TIMEOUT_S = 20.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS hostports (
    host_ip TEXT NOT NULL, protocol TEXT NOT NULL, host_port INTEGER NOT NULL, pod_ip TEXT NOT NULL,
    pod_port INTEGER NOT NULL, network TEXT NOT NULL, container_id TEXT NOT NULL, ifname TEXT NOT NULL,
    PRIMARY KEY (host_ip, protocol, host_port)) WITHOUT ROWID
"""
_OF_ONE = "FROM hostports WHERE network = ? AND container_id = ? AND ifname = ?"
_SELECT_ALL = "SELECT protocol, host_port, pod_ip, pod_port, host_ip FROM hostports"
_SELECT = f"SELECT protocol, host_port, pod_ip, pod_port, host_ip {_OF_ONE}"
_DELETE = f"DELETE {_OF_ONE}"
_HOLDERS = "SELECT DISTINCT container_id, ifname FROM hostports WHERE network = ?"


class HostPortStore:
    """The hostPorts of one node. Used from one thread; several processes may have the file open."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / DATABASE
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def record(self, network: str, container_id: str, ifname: str, ports: Sequence[HostPort]) -> None:
        """These ports are this attachment's; whoever had one of them has it no longer."""
        rows = [
            (port.host_ip, port.protocol, port.host_port, port.pod_ip, port.pod_port, network, container_id, ifname)
            for port in ports
        ]
        with self._database() as database:
            database.executemany("INSERT OR REPLACE INTO hostports VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def ports(self, network: str, container_id: str, ifname: str) -> tuple[HostPort, ...]:
        """The ports of one attachment."""
        return tuple(HostPort(*row) for row in self._rows(_SELECT, (network, container_id, ifname)))

    def all_ports(self) -> tuple[HostPort, ...]:
        """Every port of the node."""
        return tuple(HostPort(*row) for row in self._rows(_SELECT_ALL, ()))

    def attachments(self, network: str) -> set[tuple[str, str]]:
        """(container ID, interface) of all that hold ports in a network."""
        return {(row[0], row[1]) for row in self._rows(_HOLDERS, (network,))}

    def forget(self, network: str, container_id: str, ifname: str) -> None:
        """The attachment holds no port any more."""
        if self._is_there():
            with self._database() as database:
                database.execute(_DELETE, (network, container_id, ifname))

    def clear(self) -> None:
        """Forget all: the node is a new one, its rules went with the old."""
        if self._is_there():
            with self._database() as database:
                database.execute("DELETE FROM hostports")

    def _is_there(self) -> bool:
        return self._connection is not None or self._path.exists()

    def _rows(self, query: str, values: tuple[str, ...]) -> list[Any]:
        if not self._is_there():
            return []
        with self._database() as database:
            return database.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._connection is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=NORMAL")
                self._connection.execute(_SCHEMA)
            yield self._connection
        except (OSError, sqlite3.Error) as error:
            raise CNIError(IO_FAILURE, f"hostPort store {self._path} failed", str(error)) from error

"""Three real etcd members on loopback: what the driver does when one of them is killed, frozen, or loses its answer."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from podnet.controlplane.store.etcd import EtcdStore
from podnet.controlplane.store.etcd_gateway import Answer, EtcdEndpoints, EtcdGateway, Message
from podnet.controlplane.store.types import Event, KeyExistsError, RevisionMismatchError, StoreUnavailableError

NAMES = ("one", "two", "three")


class Members:
    """The three processes."""

    def __init__(self, directory: Path, ports: list[int]) -> None:
        self._directory = directory
        self.clients = {name: f"http://127.0.0.1:{ports[n]}" for n, name in enumerate(NAMES)}
        self._peers = {name: f"http://127.0.0.1:{ports[n + 3]}" for n, name in enumerate(NAMES)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        client, peer = self.clients[name], self._peers[name]
        cluster = ",".join(f"{other}={url}" for other, url in self._peers.items())
        argv = ["etcd", f"--name={name}", f"--data-dir={self._directory / name}", "--log-level=error"]
        argv += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        argv += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster={cluster}"]
        argv += ["--heartbeat-interval=50", "--election-timeout=500"]
        with (self._directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(argv, stdout=log, stderr=log)

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)

    @property
    def endpoints(self) -> EtcdEndpoints:
        return EtcdEndpoints(tuple(self.clients.values()))

    async def leader(self) -> str:
        """The name of the leader, as told by whoever answers."""
        gateway = EtcdGateway(self.endpoints, attempt_s=1)
        try:
            while True:
                answer = (await gateway.call("/v3/maintenance/status", {})).message
                members = (await gateway.call("/v3/cluster/member/list", {})).message["members"]
                for member in members:
                    if member["ID"] == answer.get("leader"):
                        return str(member["name"])
                await asyncio.sleep(0.05)
        finally:
            await gateway.close()


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed: apt install etcd-server")
    import socket

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(6)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    started = Members(tmp_path, ports)
    for name in NAMES:
        started.start(name)
    yield started
    started.stop()


@pytest.fixture
async def store(members: Members) -> AsyncIterator[EtcdStore]:
    gateway = EtcdGateway(members.endpoints, attempt_s=1, patience_s=20)
    opened = EtcdStore(members.endpoints, gateway=gateway)
    await opened.revision()
    yield opened
    await opened.close()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_the_loss_of_the_leader_loses_nothing(members: Members, store: EtcdStore, fault: signal.Signals) -> None:
    """Writes go on after an election, each acknowledged one is there, and a watch tells each exactly once."""
    watch = store.watch("/k/", await store.revision() + 1)
    told: list[Event] = []

    async def follow() -> None:
        while len(told) < 60:
            told.extend(await anext(watch))

    following = asyncio.create_task(follow())
    written = []
    for number in range(60):
        if number == 20:
            members.processes[await members.leader()].send_signal(fault)
        written.append(await store.create(f"/k/{number:02}", str(number).encode()))
    async with asyncio.timeout(30):
        await following
    assert [event.kv for event in told] == written
    assert (await store.range("/k/")).kvs == tuple(written)


@pytest.mark.parametrize("name", NAMES)
async def test_a_watch_leaves_whichever_member_freezes(members: Members, store: EtcdStore, name: str) -> None:
    """The one that it hangs on is among them; a frozen process's connections stay open, and say nothing."""
    watch = store.watch("/w/", await store.revision() + 1)
    await store.create("/w/first", b"1")
    assert [event.kv.key for event in await anext(watch)] == ["/w/first"]
    members.processes[name].send_signal(signal.SIGSTOP)
    await store.create("/w/second", b"2")
    async with asyncio.timeout(30):
        assert [event.kv.key for event in await anext(watch)] == ["/w/second"]


async def test_without_a_majority_there_is_no_answer_and_afterwards_there_is(members: Members) -> None:
    """Two of three frozen: the store says that it is not available; thawed, it goes on."""
    store = EtcdStore(members.endpoints, gateway=EtcdGateway(members.endpoints, attempt_s=0.5, patience_s=2))
    created = await store.create("/a", b"1")
    for name in NAMES[:2]:
        members.processes[name].send_signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailableError):
        await store.update("/a", b"2", created.mod_revision)
    for name in NAMES[:2]:
        members.processes[name].send_signal(signal.SIGCONT)
    async with asyncio.timeout(30):
        while True:
            try:
                current = await store.get("/a")
                break
            except StoreUnavailableError:
                continue
    assert current is not None
    assert current.value in (b"1", b"2"), "a write that was given up may have happened"
    updated = await store.update("/a", b"3", current.mod_revision)
    assert await store.get("/a") == updated
    await store.close()


class Forgetful(EtcdGateway):
    """Carries every transaction out twice, as if the first answer had been lost on its way."""

    async def call(self, path: str, body: Message) -> Answer:
        first = await super().call(path, body)
        if path != "/v3/kv/txn" or not first.message.get("succeeded"):
            return first
        return Answer((await super().call(path, body)).message, uncertain=True)


async def test_a_lost_answer_is_not_a_lost_write(etcd: EtcdEndpoints) -> None:
    """A retried create or update that meets its own result is a success; somebody else's is still a refusal."""
    forgetful = EtcdStore(etcd, gateway=Forgetful(etcd))
    plain = EtcdStore(etcd)
    created = await forgetful.create("/a", b"mine")
    updated = await forgetful.update("/a", b"mine too", created.mod_revision)
    assert await plain.get("/a") == updated
    assert updated.create_revision == created.mod_revision < updated.mod_revision
    with pytest.raises(KeyExistsError):
        await forgetful.create("/a", b"other")
    with pytest.raises(RevisionMismatchError):
        await forgetful.update("/a", b"other", created.mod_revision)
    await forgetful.close()
    await plain.close()


async def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Before anything is connected."""
    from podnet.controlplane.store.types import StoreOpenError

    files = {name: tmp_path / name for name in ("ca_file", "cert_file", "key_file")}
    with pytest.raises(StoreOpenError, match="certificate cannot be used"):
        EtcdStore(EtcdEndpoints(("https://127.0.0.1:1",), **files))
    with pytest.raises(StoreOpenError, match="address of one member"):
        EtcdStore(EtcdEndpoints(()))


def test_the_status_is_json(members: Members) -> None:
    """The gateway is what we think it is (an oracle for the helper above): etcdctl names the same leader."""
    if shutil.which("etcdctl") is None:
        pytest.skip("etcdctl is not installed: apt install etcd-client")
    leader = asyncio.run(members.leader())
    said = subprocess.run(
        ["etcdctl", f"--endpoints={','.join(members.clients.values())}", "endpoint", "status", "-w", "json"],
        capture_output=True,
        check=True,
        env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
    ).stdout
    leaders = [
        item["Endpoint"]
        for item in orjson.loads(said)
        if item["Status"]["leader"] == item["Status"]["header"]["member_id"]
    ]
    assert leaders == [members.clients[leader]]

"""etcd's members: where they listen, how they find each other, with which certificates; and their data on disk.

One member on each control-plane node, in that node's network namespace, so that their votes and logs cross the
underlay and a cut cable is a lost member. They have an authority of their own, as kubeadm sets it up: a certificate of
the cluster's authority, which every kubelet has, opens nothing here.
Source: etcd.io/docs/v3.4/op-guide/clustering and /configuration; kubeadm's certificates for stacked etcd.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from podnet.controlplane.store.etcd_gateway import EtcdEndpoints
from podnet.topology.paths import ClusterPaths
from podnet.topology.spec import ClusterSpec

CLIENT_PORT = 2379
PEER_PORT = 2380
ARCHITECTURE = {"aarch64": {"ETCD_UNSUPPORTED_ARCH": "arm64"}}
"""etcd 3.4 runs on ARM only when told that nobody promised it."""
FIX = "sudo apt install etcd-server etcd-client, or store.driver: sqlite"


MEMBERS_FILE = "members.json"


class EtcdError(Exception):
    """etcdctl refused; its words."""


@dataclass(frozen=True, slots=True)
class EtcdMember:
    """One member: the node it runs on, that node's address, where its data and its certificates are."""

    name: str
    ip: str
    data_dir: Path
    pki_dir: Path


def cluster_members(spec: ClusterSpec, paths: ClusterPaths) -> tuple[EtcdMember, ...]:
    """A member for each control-plane node; none when the store is another one."""
    if spec.store.driver != "etcd":
        return ()
    data, pki = paths.store_dir / "etcd", paths.pki_dir / "etcd"
    return tuple(EtcdMember(node.name, str(node.ip), data / node.name, pki) for node in spec.control_planes)


def client_endpoints(members: tuple[EtcdMember, ...], pki_dir: Path) -> EtcdEndpoints:
    """How the API server reaches them."""
    etcd = pki_dir / "etcd"
    urls = tuple(f"https://{member.ip}:{CLIENT_PORT}" for member in members)
    return EtcdEndpoints(urls, etcd / "ca.crt", etcd / "client.crt", etcd / "client.key")


def member_argv(member: EtcdMember, members: tuple[EtcdMember, ...]) -> list[str]:
    """The command line of one member."""
    certificate, key, authority = (str(member.pki_dir / name) for name in certificate_files(member.name))
    client, peer = f"https://{member.ip}:{CLIENT_PORT}", f"https://{member.ip}:{PEER_PORT}"
    options = {
        "name": member.name,
        "data-dir": str(member.data_dir),
        "listen-client-urls": f"{client},https://127.0.0.1:{CLIENT_PORT}",
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": initial_cluster(members),
        "initial-cluster-token": "podnet",
        "cert-file": certificate,
        "key-file": key,
        "trusted-ca-file": authority,
        "client-cert-auth": "true",
        "peer-cert-file": certificate,
        "peer-key-file": key,
        "peer-trusted-ca-file": authority,
        "peer-client-cert-auth": "true",
        "logger": "zap",
        "log-level": "info",
    }
    return ["etcd", *(f"--{name}={value}" for name, value in options.items())]


def initial_cluster(members: tuple[EtcdMember, ...]) -> str:
    """`name=peer-url` of every member, as the first start and a restore want it."""
    return ",".join(f"{member.name}=https://{member.ip}:{PEER_PORT}" for member in members)


def certificate_files(name: str) -> tuple[str, str, str]:
    """Names of certificate, key and authority in the etcd PKI directory, of a member or of `client`."""
    return f"{name}.crt", f"{name}.key", "ca.crt"


def etcdctl_environment(members: tuple[EtcdMember, ...], pki_dir: Path) -> dict[str, str]:
    """What etcdctl needs to reach the members."""
    endpoints = client_endpoints(members, pki_dir)
    return {
        "ETCDCTL_API": "3",
        "ETCDCTL_ENDPOINTS": ",".join(endpoints.urls),
        "ETCDCTL_CACERT": str(endpoints.ca_file),
        "ETCDCTL_CERT": str(endpoints.cert_file),
        "ETCDCTL_KEY": str(endpoints.key_file),
    }


def restore_argv(member: EtcdMember, members: tuple[EtcdMember, ...], snapshot: Path, data_dir: Path) -> list[str]:
    """`etcdctl snapshot restore` of one member's data into `data_dir`; every member restores the same snapshot."""
    return [
        "etcdctl",
        "snapshot",
        "restore",
        str(snapshot),
        f"--name={member.name}",
        f"--data-dir={data_dir}",
        f"--initial-cluster={initial_cluster(members)}",
        "--initial-cluster-token=podnet",
        f"--initial-advertise-peer-urls=https://{member.ip}:{PEER_PORT}",
    ]


def member_main(member: EtcdMember, members: tuple[EtcdMember, ...]) -> Callable[[], None]:
    """What the supervisor runs."""

    def main() -> NoReturn:
        member.data_dir.parent.mkdir(parents=True, exist_ok=True)
        member.data_dir.mkdir(mode=0o700, exist_ok=True)
        program = find_etcd()
        if program is None:
            raise SystemExit(f"etcd is not installed: {FIX}")
        os.execve(program, member_argv(member, members), {**os.environ, **ARCHITECTURE.get(os.uname().machine, {})})

    return main


def write_members(members: tuple[EtcdMember, ...], pki_dir: Path) -> None:
    """Note who the members are, beside their certificates, for etcdctl and for a restore of a stopped cluster."""
    text = json.dumps([{"name": member.name, "ip": member.ip} for member in members])
    (pki_dir / "etcd" / MEMBERS_FILE).write_text(text, encoding="utf-8")


def read_members(paths: ClusterPaths) -> tuple[EtcdMember, ...]:
    """What `write_members` noted; none when the cluster never had etcd as its store."""
    data, pki = paths.store_dir / "etcd", paths.pki_dir / "etcd"
    try:
        noted = json.loads((pki / MEMBERS_FILE).read_text(encoding="utf-8"))
        return tuple(EtcdMember(item["name"], item["ip"], data / item["name"], pki) for item in noted)
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def restore(members: tuple[EtcdMember, ...], snapshot: Path) -> None:
    """Replace every member's data by the snapshot's; all of them or, when etcdctl refuses, none. Raises EtcdError.

    The cluster must be stopped. What was there is kept beside it as `<member>.before-restore`.
    """
    fresh = {member.name: member.data_dir.with_name(f"{member.name}.restored") for member in members}
    for directory in fresh.values():
        shutil.rmtree(directory, ignore_errors=True)
    environment = {**os.environ, "ETCDCTL_API": "3"}
    try:
        for member in members:
            argv = restore_argv(member, members, snapshot, fresh[member.name])
            said = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
            if said.returncode:
                raise EtcdError(_last_words(said.stderr) or f"etcdctl exited with {said.returncode}")
    except FileNotFoundError as error:
        raise EtcdError(f"etcdctl is not installed: {FIX}") from error
    except BaseException:
        for directory in fresh.values():
            shutil.rmtree(directory, ignore_errors=True)
        raise
    for member in members:
        before = member.data_dir.with_name(f"{member.name}.before-restore")
        shutil.rmtree(before, ignore_errors=True)
        if member.data_dir.exists():
            member.data_dir.rename(before)
        fresh[member.name].rename(member.data_dir)


def _last_words(text: str) -> str:
    """The last line, without etcdctl's way of saying it twice."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else ""


def find_etcd() -> str | None:
    """The installed etcd."""
    return shutil.which("etcd")

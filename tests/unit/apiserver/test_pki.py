"""The authority and its leaves: names, permissions, reuse."""

from __future__ import annotations

import ssl
import stat
import time
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from podnet.controlplane import pki

ARGUMENTS = {"advertise_address": "192.168.100.1", "service_ip": "10.96.0.1", "cluster_domain": "cluster.local"}


@pytest.fixture
def pki_dir(tmp_path: Path) -> Path:
    pki.ensure_pki(tmp_path / "pki", **ARGUMENTS)
    return tmp_path / "pki"


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def subject(certificate: x509.Certificate) -> tuple[str, list[str]]:
    name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    groups = [a.value for a in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return name, groups


@pytest.mark.parametrize(
    ("file_name", "user", "groups"),
    [
        ("admin", "kubernetes-admin", ["system:masters"]),
        ("kube-scheduler", "system:kube-scheduler", []),
        ("kube-controller-manager", "system:kube-controller-manager", []),
        ("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"]),
    ],
)
def test_client_certificates_say_user_and_groups(pki_dir: Path, file_name: str, user: str, groups: list[str]) -> None:
    certificate = load(pki_dir / f"{file_name}.crt")
    assert subject(certificate) == (user, groups)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize("address", ["127.0.0.1", "192.168.100.1", "10.96.0.1"])
def test_the_serving_certificate_names_every_address(pki_dir: Path, address: str) -> None:
    names = load(pki_dir / "apiserver.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert address in {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}


@pytest.mark.parametrize(
    "name",
    ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"],
)
def test_the_serving_certificate_names_every_name(pki_dir: Path, name: str) -> None:
    names = load(pki_dir / "apiserver.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name in names.get_values_for_type(x509.DNSName)


def test_every_leaf_is_signed_by_the_authority(pki_dir: Path) -> None:
    authority = load(pki_dir / "ca.crt")
    leaves = [path for path in pki_dir.glob("*.crt") if path.name != "ca.crt"]
    assert len(leaves) == 5
    for path in leaves:
        load(path).verify_directly_issued_by(authority)


def test_keys_are_private_and_the_directory_too(pki_dir: Path) -> None:
    assert stat.S_IMODE(pki_dir.stat().st_mode) == 0o700
    for path in pki_dir.glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_second_run_changes_nothing(pki_dir: Path) -> None:
    before = {path.name: path.read_bytes() for path in pki_dir.iterdir()}
    pki.ensure_pki(pki_dir, **ARGUMENTS)
    assert {path.name: path.read_bytes() for path in pki_dir.iterdir()} == before


def test_another_address_renews_only_the_serving_certificate(pki_dir: Path) -> None:
    before = {path.name: path.read_bytes() for path in pki_dir.iterdir()}
    pki.ensure_pki(pki_dir, **{**ARGUMENTS, "advertise_address": "192.168.100.9"})
    changed = {path.name for path in pki_dir.iterdir() if before[path.name] != path.read_bytes()}
    assert changed == {"apiserver.crt", "apiserver.key"}


def test_a_lost_authority_renews_everything(pki_dir: Path) -> None:
    (pki_dir / "ca.crt").unlink()
    pki.ensure_pki(pki_dir, **ARGUMENTS)
    authority = load(pki_dir / "ca.crt")
    for name in ("apiserver", "admin", "kube-scheduler"):
        load(pki_dir / f"{name}.crt").verify_directly_issued_by(authority)


def test_a_damaged_certificate_is_made_anew(pki_dir: Path) -> None:
    (pki_dir / "admin.crt").write_bytes(b"garbage")
    pki.ensure_pki(pki_dir, **ARGUMENTS)
    assert subject(load(pki_dir / "admin.crt"))[0] == "kubernetes-admin"


def test_a_kubelet_is_client_and_server(pki_dir: Path) -> None:
    certificate_path, key_path = pki.ensure_kubelet_certs(pki_dir, "worker1", "192.168.100.2")
    certificate = load(certificate_path)
    assert subject(certificate) == ("system:node:worker1", ["system:nodes"])
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.168.100.2"]
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600


def test_pairs_load_into_tls(pki_dir: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name in ("apiserver", "admin"):
        context.load_cert_chain(pki_dir / f"{name}.crt", pki_dir / f"{name}.key")
    context.load_verify_locations(pki_dir / "ca.crt")
    assert len(context.get_ca_certs()) == 1


def test_the_kubeconfig_is_complete_and_private(pki_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "state" / "kubeconfig"
    pki.write_kubeconfig(path, cluster_name="lab", server="https://127.0.0.1:7001", pki_dir=pki_dir)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document = yaml.safe_load(path.read_text())
    assert document["current-context"] == "podnet-lab"
    assert document["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:7001"
    assert document["contexts"][0]["context"] == {"cluster": "podnet-lab", "user": "podnet-lab-admin"}
    assert set(document["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}


def test_making_it_all_is_fast(tmp_path: Path) -> None:
    began = time.process_time()
    pki.ensure_pki(tmp_path / "pki", **ARGUMENTS)
    assert time.process_time() - began < 1.0  # 15 ms on the development machine; RSA keys would take seconds


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "apiserver.crt", "apiserver.key", "sa.key", "admin.key"])
@pytest.mark.parametrize("damage", ["garbage", "empty", "gone", "another key"])
def test_what_a_crash_or_a_full_disk_left_is_made_anew(pki_dir: Path, name: str, damage: str) -> None:
    path = pki_dir / name
    if damage == "gone":
        path.unlink()
    else:
        other = (pki_dir / "kube-scheduler.key").read_bytes()
        path.write_bytes({"garbage": b"x\n", "empty": b"", "another key": other}[damage])
    pki.ensure_pki(pki_dir, **ARGUMENTS)
    authority = load(pki_dir / "ca.crt")
    for leaf in ("apiserver", "admin", "kube-scheduler", "kube-controller-manager", "apiserver-kubelet-client"):
        load(pki_dir / f"{leaf}.crt").verify_directly_issued_by(authority)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pki_dir / f"{leaf}.crt", pki_dir / f"{leaf}.key")
    assert b"PRIVATE KEY" in (pki_dir / "sa.key").read_bytes()

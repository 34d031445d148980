"""The cluster's certificates and keys: one authority, one leaf for each component, one key that signs tokens.

What is there is used again and what is missing is made, so `ensure_*` may run at every boot. Keys are ECDSA P-256:
making one takes 50 µs where RSA takes 100 ms. File names follow kubeadm (kubernetes.io/docs/setup/best-practices/
certificates); a subject's CN is the user and its O are the groups, as the API server's x509 authenticator reads them.

    pki/ ca.crt ca.key            apiserver.crt .key        apiserver-kubelet-client.crt .key
         admin.crt .key           kube-scheduler.crt .key   kube-controller-manager.crt .key
         sa.key sa.pub            kubelet-<node>.crt .key    etcd/ ca, client, <member>: .crt .key
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = dt.timedelta(days=3650)
"""A lab must not stop because a certificate ran out; upstream's authority lives as long."""

CLOCK_SKEW = dt.timedelta(hours=1)
"""Certificates begin this much in the past, so that a virtual machine with a slow clock accepts them."""

COMPONENTS = {
    "admin": ("kubernetes-admin", ("system:masters",)),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "apiserver-kubelet-client": ("kube-apiserver-kubelet-client", ("system:masters",)),
}
"""Client certificates: file name -> (user, groups)."""


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """What a leaf certificate says. `dns_names` and `addresses` are its subjectAltNames."""

    common_name: str
    organizations: Sequence[str] = ()
    dns_names: Sequence[str] = ()
    addresses: Sequence[str] = ()
    client: bool = False
    server: bool = False


def apiserver_spec(advertise_address: str, service_ip: str, cluster_domain: str) -> CertificateSpec:
    """The serving certificate: every name and address under which clients reach the API server."""
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{cluster_domain}"]
    addresses = list(dict.fromkeys(["127.0.0.1", advertise_address, service_ip]))
    return CertificateSpec("kube-apiserver", (), [*names, "localhost"], addresses, server=True)


def kubelet_spec(node: str, address: str) -> CertificateSpec:
    """A node's certificate: it serves port 10250 and is the node's identity as a client."""
    return CertificateSpec(f"system:node:{node}", ("system:nodes",), [node], [address], client=True, server=True)


def ensure_pki(pki_dir: Path, *, advertise_address: str, service_ip: str, cluster_domain: str) -> None:
    """Make what is missing of the authority, the components' certificates and the token signing key.

    The serving certificate is made anew when it does not name `advertise_address`, `service_ip` or the domain.
    """
    pki_dir.mkdir(parents=True, exist_ok=True)
    pki_dir.chmod(0o700)
    _ensure_authority(pki_dir)
    _ensure_leaf(pki_dir, "apiserver", apiserver_spec(advertise_address, service_ip, cluster_domain))
    for file_name, (user, groups) in COMPONENTS.items():
        _ensure_leaf(pki_dir, file_name, CertificateSpec(user, groups, client=True))
    _ensure_signing_key(pki_dir)


def ensure_kubelet_certs(pki_dir: Path, node: str, ip: str) -> tuple[Path, Path]:
    """Make the node's certificate if it is missing or names another address; returns (certificate, key)."""
    _ensure_leaf(pki_dir, f"kubelet-{node}", kubelet_spec(node, ip))
    return pki_dir / f"kubelet-{node}.crt", pki_dir / f"kubelet-{node}.key"


def ensure_etcd_certs(pki_dir: Path, members: Mapping[str, str]) -> None:
    """The own authority of etcd in `pki_dir`/etcd, a certificate for each member (name → address), one for the API server.

    A member's certificate serves clients and peers and is its identity towards both: its gateway asks itself.
    """
    etcd = pki_dir / "etcd"
    etcd.mkdir(parents=True, exist_ok=True)
    etcd.chmod(0o700)
    _ensure_authority(etcd, "etcd-ca")
    for name, address in members.items():
        addresses = ["127.0.0.1", address]
        _ensure_leaf(etcd, name, CertificateSpec(name, (), [name, "localhost"], addresses, client=True, server=True))
    _ensure_leaf(etcd, "client", CertificateSpec("kube-apiserver-etcd-client", client=True))


def write_kubeconfig(path: Path, *, cluster_name: str, server: str, pki_dir: Path, user: str = "admin") -> None:
    """Write a kubeconfig with everything embedded, mode 0600. Cluster and context are called `podnet-<name>`."""
    name = f"podnet-{cluster_name}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"certificate-authority-data": _embed(pki_dir / "ca.crt"), "server": server}}
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-{user}"}}],
        "current-context": name,
        "preferences": {},
        "users": [
            {
                "name": f"{name}-{user}",
                "user": {
                    "client-certificate-data": _embed(pki_dir / f"{user}.crt"),
                    "client-key-data": _embed(pki_dir / f"{user}.key"),
                },
            }
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, yaml.safe_dump(document, sort_keys=False).encode(), 0o600)


def _embed(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _ensure_authority(pki_dir: Path, common_name: str = "kubernetes") -> None:
    if _is_pair(pki_dir, "ca"):
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _write_pair(pki_dir, "ca", builder.sign(key, hashes.SHA256()), key)
    for stale in pki_dir.glob("*.crt"):  # leaves of an older authority are worth nothing
        if stale.name != "ca.crt":
            stale.unlink()


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _ensure_leaf(pki_dir: Path, file_name: str, spec: CertificateSpec) -> None:
    authority = x509.load_pem_x509_certificate((pki_dir / "ca.crt").read_bytes())
    if _is_pair(pki_dir, file_name) and _covers(pki_dir / f"{file_name}.crt", spec, authority):
        return
    authority_key = serialization.load_pem_private_key((pki_dir / "ca.key").read_bytes(), None)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{pki_dir / 'ca.key'}: not an ECDSA key")  # noqa: TRY004 - it is the file that is wrong
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _leaf(spec, authority, key.public_key()).sign(authority_key, hashes.SHA256())
    _write_pair(pki_dir, file_name, certificate, key)


def _leaf(
    spec: CertificateSpec, authority: x509.Certificate, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in spec.organizations]
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, spec.common_name))
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] * spec.client + [ExtendedKeyUsageOID.SERVER_AUTH] * spec.server
    builder = (
        _builder(x509.Name(attributes), authority.subject, public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(_authority_identifier(authority), critical=False)
    )
    names = _alternative_names(spec)
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False) if names else builder


def _authority_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    subject_identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_identifier)


def _alternative_names(spec: CertificateSpec) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in spec.dns_names]
    names.extend(x509.IPAddress(ipaddress.ip_address(address)) for address in spec.addresses)
    return names


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
    )


def _is_pair(pki_dir: Path, name: str) -> bool:
    """Whether a certificate and its key are there, legible, and belong together: a crash between the two writes, a
    full disk or a curious hand leave something else, which is then made anew."""
    try:
        certificate = x509.load_pem_x509_certificate((pki_dir / f"{name}.crt").read_bytes())
    except (OSError, ValueError):
        return False
    key = _private_key(pki_dir / f"{name}.key")
    return key is not None and key.public_key() == certificate.public_key()


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):  # absent, garbage, encrypted
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _covers(path: Path, spec: CertificateSpec, authority: x509.Certificate) -> bool:
    """Whether the certificate on disk is this authority's and still says all that `spec` says."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    if certificate.not_valid_after_utc <= dt.datetime.now(dt.UTC):
        return False
    wanted = _alternative_names(spec)
    if not wanted:
        return True
    try:
        present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return set(wanted) <= set(present)


def _ensure_signing_key(pki_dir: Path) -> None:
    key = _private_key(pki_dir / "sa.key")
    if key is None:
        key = ec.generate_private_key(ec.SECP256R1())
        _write(pki_dir / "sa.key", _private_pem(key), 0o600)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if _read(pki_dir / "sa.pub") != public:  # also when it is there, but another key's
        _write(pki_dir / "sa.pub", public, 0o644)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _write_pair(pki_dir: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    _write(pki_dir / f"{name}.key", _private_pem(key), 0o600)
    _write(pki_dir / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write through a temporary file that never had a wider mode, then rename: a reader sees all or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.chmod(mode)
    temporary.replace(path)

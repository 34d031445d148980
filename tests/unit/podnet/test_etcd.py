"""How etcd's members are started, asked and restored: command lines, certificates, and a restore that is all or nothing."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from podnet import etcd
from podnet.controlplane import pki
from podnet.topology.paths import ClusterPaths
from podnet.topology.spec import load_cluster_spec

THREE = """
apiVersion: podnet.dev/v1alpha1
kind: Cluster
spec:
  store: {driver: etcd}
  nodes: [{name: a, role: control-plane}, {name: b, role: control-plane}, {name: c, role: control-plane}, {name: w}]
"""


@pytest.fixture
def paths(tmp_path):
    return ClusterPaths(tmp_path)


@pytest.fixture
def members(paths):
    return etcd.cluster_members(load_cluster_spec(THREE), paths)


def options(argv):
    return dict(word.removeprefix("--").split("=", 1) for word in argv if word.startswith("--"))


def test_a_member_on_each_control_plane_node(members, tmp_path):
    assert [member.name for member in members] == ["a", "b", "c"]
    assert members[1].data_dir == tmp_path / "store" / "etcd" / "b"


@pytest.mark.parametrize("driver", ["sqlite", "memory"])
def test_no_member_without_etcd(driver, paths):
    text = f"apiVersion: podnet.dev/v1alpha1\nkind: Cluster\nspec: {{store: {{driver: {driver}}}}}\n"
    assert etcd.cluster_members(load_cluster_spec(text), paths) == ()


def test_a_member_speaks_tls_only_and_asks_everybody_for_a_certificate(members):
    said = options(etcd.member_argv(members[0], members))
    urls = [url for name in said if name.endswith("-urls") for url in said[name].split(",")]
    assert all(url.startswith("https://") for url in urls)
    assert (said["client-cert-auth"], said["peer-client-cert-auth"]) == ("true", "true")
    assert said["trusted-ca-file"] == said["peer-trusted-ca-file"] == str(members[0].pki_dir / "ca.crt")


def test_all_members_agree_on_the_cluster_and_differ_in_the_rest(members):
    said = [options(etcd.member_argv(member, members)) for member in members]
    assert len({one["initial-cluster"] for one in said}) == 1
    for name in ("name", "data-dir", "listen-client-urls", "listen-peer-urls", "cert-file"):
        assert len({one[name] for one in said}) == 3
    assert said[0]["initial-cluster"].split(",")[2] == f"c={said[2]['initial-advertise-peer-urls']}"


def test_a_restore_names_the_same_cluster_as_the_start(members, tmp_path):
    started = options(etcd.member_argv(members[0], members))
    restored = options(etcd.restore_argv(members[0], members, tmp_path / "snap", tmp_path / "new"))
    for name in ("name", "initial-cluster", "initial-cluster-token"):
        assert restored[name] == started[name]


def test_certificates_name_the_member_and_are_of_an_authority_of_their_own(members, paths):
    pki.ensure_pki(paths.pki_dir, advertise_address="10.0.0.1", service_ip="10.96.0.1", cluster_domain="x")
    pki.ensure_etcd_certs(paths.pki_dir, {member.name: member.ip for member in members})
    directory = paths.pki_dir / "etcd"
    authority, other = (x509.load_pem_x509_certificate((d / "ca.crt").read_bytes()) for d in (directory, paths.pki_dir))
    for member in members:
        leaf = x509.load_pem_x509_certificate((directory / f"{member.name}.crt").read_bytes())
        leaf.verify_directly_issued_by(authority)
        with pytest.raises((InvalidSignature, ValueError)):  # another name or another key
            leaf.verify_directly_issued_by(other)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert member.ip in {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
        assert stat.S_IMODE((directory / f"{member.name}.key").stat().st_mode) == 0o600
    before = (directory / "a.crt").read_bytes()
    pki.ensure_etcd_certs(paths.pki_dir, {member.name: member.ip for member in members})
    assert (directory / "a.crt").read_bytes() == before, "what is there is used again"


def test_members_are_noted_and_read_again(members, paths):
    (paths.pki_dir / "etcd").mkdir(parents=True)
    assert etcd.read_members(paths) == ()
    etcd.write_members(members, paths.pki_dir)
    assert etcd.read_members(paths) == members
    (paths.pki_dir / "etcd" / etcd.MEMBERS_FILE).write_text('[{"name": 1}]')
    assert etcd.read_members(paths) == ()


def program(directory: Path, body: str) -> None:
    path = directory / "etcdctl"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def etcdctl(tmp_path, monkeypatch):
    """An etcdctl that makes the data directory, and refuses for the member called $REFUSED."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program(
        directory,
        'for w in "$@"; do case "$w" in --data-dir=*) d=${w#*=};; --name=*) n=${w#*=};; esac; done\n'
        'mkdir -p "$d"; [ "$n" != "$REFUSED" ] || { echo "Error: hash mismatch" >&2; exit 1; }; echo "$3" > "$d/from"',
    )
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


@pytest.mark.usefixtures("etcdctl")
def test_a_restore_replaces_every_members_data_and_keeps_what_was(members, tmp_path):
    for member in members[:2]:
        member.data_dir.mkdir(parents=True)
        (member.data_dir / "old").touch()
    etcd.restore(members, tmp_path / "snap")
    assert [(member.data_dir / "from").read_text().strip() for member in members] == [str(tmp_path / "snap")] * 3
    assert members[0].data_dir.with_name("a.before-restore").joinpath("old").exists()
    assert {path.name for path in members[0].data_dir.parent.iterdir()} == {
        "a", "b", "c", "a.before-restore", "b.before-restore"}  # fmt: skip


@pytest.mark.usefixtures("etcdctl")
def test_a_refused_restore_changes_nothing(members, tmp_path, monkeypatch):
    monkeypatch.setenv("REFUSED", "b")
    members[0].data_dir.mkdir(parents=True)
    (members[0].data_dir / "old").touch()
    with pytest.raises(etcd.EtcdError, match=r"^hash mismatch$"):
        etcd.restore(members, tmp_path / "snap")
    assert [path.name for path in members[0].data_dir.parent.iterdir()] == ["a"]
    assert (members[0].data_dir / "old").exists()


def test_without_etcdctl_a_restore_says_how_to_get_it(members, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(etcd.EtcdError, match="not installed: sudo apt install"):
        etcd.restore(members, tmp_path / "snap")

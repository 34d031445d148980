"""What is in a volume, and how it comes to stand on disk."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podnet.controlplane.kubelet.downward import ConfigError, PodFacts
from podnet.controlplane.kubelet.env import Environment
from podnet.controlplane.kubelet.mounts import container_mounts, write_etc_files
from podnet.controlplane.kubelet.volumes.atomic import write_payload
from podnet.controlplane.kubelet.volumes.empty_dir import set_up_empty_dir, tmpfs_options
from podnet.controlplane.kubelet.volumes.host_path import prepare_host_path
from podnet.controlplane.kubelet.volumes.payload import (
    FilePayload,
    TokenRequest,
    VolumeSources,
    render_volume,
    token_requests,
    volume_references,
)
from podnet.controlplane.kubelet.volumes.pod_volumes import remove_pod_directory, resolve_sub_path

POD: dict[str, Any] = {"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": {"containers": []}}
FACTS = PodFacts(POD, "192.168.100.11", ("10.244.1.5",))
SOURCES = VolumeSources(
    {"map": {"data": {"a": "1", "b": "2"}, "binaryData": {"c": base64.b64encode(b"\x00\xff").decode()}}},
    {"key": {"data": {"k": base64.b64encode(b"s3cret").decode()}}},
    {TokenRequest("", 3607): "tok.en.x"},
)


def files(volume: dict[str, Any]) -> dict[str, tuple[bytes, int]]:
    payload = render_volume({"name": "v", **volume}, FACTS, SOURCES)
    assert payload is not None
    return {path: (file.data, file.mode) for path, file in payload.items()}


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        pytest.param(
            {"configMap": {"name": "map"}},
            {"a": (b"1", 0o644), "b": (b"2", 0o644), "c": (b"\x00\xff", 0o644)},
            id="config-map",
        ),
        pytest.param(
            {"configMap": {"name": "map", "defaultMode": 0o400, "items": [{"key": "a", "path": "x/y"}]}},
            {"x/y": (b"1", 0o400)},
            id="items",
        ),
        pytest.param(
            {"configMap": {"name": "map", "items": [{"key": "a", "path": "x", "mode": 0o755}]}},
            {"x": (b"1", 0o755)},
            id="item-mode",
        ),
        pytest.param({"configMap": {"name": "no", "optional": True}}, {}, id="optional"),
        pytest.param(
            {"configMap": {"name": "map", "optional": True, "items": [{"key": "no", "path": "x"}]}},
            {},
            id="optional-key",
        ),
        pytest.param({"secret": {"secretName": "key"}}, {"k": (b"s3cret", 0o644)}, id="secret"),
        pytest.param(
            {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            {"ns": (b"shop", 0o644)},
            id="downward-api",
        ),
        pytest.param(
            {
                "projected": {
                    "defaultMode": 0o644,
                    "sources": [
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                        {"configMap": {"name": "map", "items": [{"key": "a", "path": "ca.crt"}]}},
                        {"secret": {"name": "key"}},
                        {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
                    ],
                }
            },
            {"token": (b"tok.en.x", 0o644), "ca.crt": (b"1", 0o644), "k": (b"s3cret", 0o644), "ns": (b"shop", 0o644)},
            id="projected",
        ),
    ],
)
def test_files(volume: dict[str, Any], expected: dict[str, tuple[bytes, int]]) -> None:
    assert files(volume) == expected


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        pytest.param({"configMap": {"name": "no"}}, 'configmap "no" not found', id="map"),
        pytest.param({"secret": {"secretName": "no"}}, 'secret "no" not found', id="secret"),
        pytest.param(
            {"configMap": {"name": "map", "items": [{"key": "no", "path": "x"}]}},
            "references non-existent config key: no",
            id="map-key",
        ),
        pytest.param(
            {"secret": {"secretName": "key", "items": [{"key": "no", "path": "x"}]}},
            "references non-existent secret key: no",
            id="secret-key",
        ),
        pytest.param(
            {"configMap": {"name": "map", "items": [{"key": "a", "path": "../../etc/passwd"}]}},
            "invalid path",
            id="out",
        ),
        pytest.param(
            {"projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "x"}}]}},
            "failed to fetch token",
            id="token",
        ),
    ],
)
def test_what_is_missing(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        files(volume)


def test_other_volumes_have_no_payload() -> None:
    assert render_volume({"name": "v", "emptyDir": {}}, FACTS, SOURCES) is None


def test_references_and_tokens() -> None:
    sources = [{"configMap": {"name": "m2"}}, {"secret": {"name": "s2"}}, {"serviceAccountToken": {"path": "t"}}]
    volumes = [
        {"name": "a", "configMap": {"name": "m1"}},
        {"name": "b", "secret": {"secretName": "s1"}},
        {"name": "c", "projected": {"sources": sources}},
    ]
    pod = {**POD, "spec": {"volumes": volumes}}
    assert volume_references(pod) == ({"m1", "m2"}, {"s1", "s2"})
    assert token_requests(pod) == {TokenRequest("", 3600)}


def read(volume: Path) -> dict[str, bytes]:
    visible = [path for path in volume.iterdir() if not path.name.startswith("..")]
    found: dict[str, bytes] = {}
    for entry in visible:
        for path in [entry] if entry.is_file() else entry.rglob("*"):
            if path.is_file():
                found[str(path.relative_to(volume))] = path.read_bytes()
    return found


def test_atomic_writer(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    assert write_payload(volume, {"a": FilePayload(b"1"), "d/e": FilePayload(b"2", 0o600)}, 1)
    assert read(volume) == {"a": b"1", "d/e": b"2"}
    assert (volume / "d/e").stat().st_mode & 0o777 == 0o600
    assert os.readlink(volume / "a") == "..data/a"
    first = os.readlink(volume / "..data")
    assert not write_payload(volume, {"a": FilePayload(b"1"), "d/e": FilePayload(b"2", 0o600)}, 2)
    assert os.readlink(volume / "..data") == first
    assert write_payload(volume, {"a": FilePayload(b"new")}, 3)
    assert read(volume) == {"a": b"new"}
    assert len([entry for entry in volume.iterdir() if entry.name.startswith("..1")]) == 1
    assert write_payload(volume, {}, 4)
    assert read(volume) == {}


def test_an_open_file_keeps_its_old_content(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    write_payload(volume, {"a": FilePayload(b"old")}, 1)
    with (volume / "a").open("rb") as held:
        write_payload(volume, {"a": FilePayload(b"new")}, 2)
        assert held.read() == b"old"
    assert (volume / "a").read_bytes() == b"new"


NAMES = st.dictionaries(st.sampled_from(["a", "b", "c", "dir/x", "dir/y"]), st.binary(max_size=5), max_size=5)


@settings(max_examples=30, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=5))
def test_a_volume_holds_exactly_the_last_payload(tmp_path_factory: Any, payloads: list[dict[str, bytes]]) -> None:
    volume = tmp_path_factory.mktemp("v")
    for number, payload in enumerate(payloads):
        wanted = {path: FilePayload(data) for path, data in payload.items()}
        write_payload(volume, wanted, number)
        assert not write_payload(volume, wanted, number + 100)
        assert read(volume) == payload


def test_sub_paths_stay_inside(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    volume.mkdir()
    assert resolve_sub_path(volume, "a/b") == volume / "a" / "b"
    assert (volume / "a" / "b").is_dir()
    volume.chmod(0o770)
    made = resolve_sub_path(volume, "c/d")
    assert [path.stat().st_mode & 0o777 for path in (made.parent, made)] == [0o770] * 2, "whom the volume lets in"
    (volume / "out").symlink_to("/etc")
    for escape in ("../x", "/etc", "out", "out/passwd"):
        with pytest.raises(ConfigError):
            resolve_sub_path(volume, escape)


@pytest.mark.parametrize(
    ("kind", "made", "refused"),
    [
        pytest.param("DirectoryOrCreate", None, "", id="directory-made"),
        pytest.param("Directory", "dir", "", id="directory"),
        pytest.param("Directory", None, "is not a directory", id="no-directory"),
        pytest.param("Directory", "file", "is not a directory", id="a-file-is-none"),
        pytest.param("FileOrCreate", None, "", id="file-made"),
        pytest.param("File", "file", "", id="file"),
        pytest.param("File", "dir", "is not a file", id="a-directory-is-none"),
        pytest.param("Socket", "socket", "", id="socket"),
        pytest.param("Socket", "file", "is not a socket file", id="no-socket"),
        pytest.param("CharDevice", "file", "is not a character device", id="no-device"),
        pytest.param("", None, "", id="made-by-the-runtime"),
    ],
)
def test_host_path_types(tmp_path: Path, kind: str, made: str | None, refused: str) -> None:
    path = tmp_path / "place"
    if made == "dir":
        path.mkdir()
    elif made == "file":
        path.touch()
    elif made == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    if refused:
        with pytest.raises(ConfigError, match=refused):
            prepare_host_path(path, kind)
    else:
        prepare_host_path(path, kind)
        assert path.exists()


def test_mounts(tmp_path: Path) -> None:
    volumes = {"v": tmp_path / "v", "w": tmp_path / "w"}
    for path in volumes.values():
        path.mkdir()
    container = {
        "name": "app",
        "volumeMounts": [
            {"name": "v", "mountPath": "/v", "readOnly": True},
            {"name": "w", "mountPath": "/w", "subPathExpr": "$(POD)/x"},
            {"name": "v", "mountPath": "/etc/hosts"},
        ],
    }
    mounts = container_mounts(container, volumes, Environment((("POD", "web"),)), tmp_path)
    assert [(m.container_path, m.host_path, m.read_only) for m in mounts] == [
        ("/v", str(tmp_path / "v"), True),
        ("/w", str(tmp_path / "w" / "web" / "x"), False),
        ("/etc/hosts", str(tmp_path / "v"), False),
        ("/etc/hostname", str(tmp_path / "hostname"), False),
        ("/etc/resolv.conf", str(tmp_path / "resolv.conf"), False),
    ]
    with pytest.raises(ConfigError, match=r"missing value for POD$"):
        container_mounts(container, volumes, Environment(()), tmp_path)
    with pytest.raises(ConfigError, match='cannot find volume "no"'):
        container_mounts(
            {"name": "a", "volumeMounts": [{"name": "no", "mountPath": "/"}]}, {}, Environment(()), tmp_path
        )


def test_etc_files_are_rewritten_in_place(tmp_path: Path) -> None:
    write_etc_files(tmp_path / "pod", "hosts 1\n", "web", "nameserver 1\n")
    inode = (tmp_path / "pod" / "etc-hosts").stat().st_ino
    write_etc_files(tmp_path / "pod", "hosts 2\n", "web", "nameserver 1\n")
    assert (tmp_path / "pod" / "etc-hosts").stat().st_ino == inode
    assert (tmp_path / "pod" / "etc-hosts").read_text() == "hosts 2\n"
    assert (tmp_path / "pod" / "hostname").read_text() == "web\n"


def test_an_empty_dir_keeps_what_is_in_it(tmp_path: Path) -> None:
    directory = tmp_path / "pod" / "volumes" / "kubernetes.io~empty-dir" / "v"
    set_up_empty_dir(directory, {})
    assert directory.stat().st_mode & 0o777 == 0o777
    (directory / "file").write_text("kept")
    set_up_empty_dir(directory, {})
    assert (directory / "file").read_text() == "kept"
    remove_pod_directory(tmp_path / "pod")
    remove_pod_directory(tmp_path / "pod")
    assert not (tmp_path / "pod").exists()


@pytest.mark.parametrize(
    ("source", "options"),
    [
        pytest.param({"medium": "Memory"}, "mode=0777", id="no-limit"),
        pytest.param({"medium": "Memory", "sizeLimit": "64Mi"}, "mode=0777,size=67108864", id="limit"),
        pytest.param({"medium": "Memory", "sizeLimit": 0}, "mode=0777", id="zero"),
    ],
)
def test_memory_volumes(source: dict[str, Any], options: str) -> None:
    assert tmpfs_options(source) == options

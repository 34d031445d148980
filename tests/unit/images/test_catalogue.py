"""Image names: what they resolve to, and what is said about those that do not."""

from __future__ import annotations

import contextlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.kubelet.images import catalogue, layers
from podnet.controlplane.kubelet.images.programs import launch


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.27-alpine", "nginx"),
        ("docker.io/library/nginx:latest", "nginx"),
        ("localhost:5000/team/nginx@sha256:" + "a" * 64, "nginx"),
        ("localhost:5000/team/nginx:1@sha256:" + "a" * 64, "nginx"),
        ("registry.k8s.io/pause:3.9", "pause"),
        ("registry.k8s.io/e2e-test-images/agnhost:2.47", "agnhost"),
        ("registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7", "dnsutils"),
        ("nicolaka/netshoot", "netshoot"),
        ("curlimages/curl:8.5.0", "curl"),
        ("hashicorp/http-echo", "http-echo"),
        ("mendhak/http-https-echo:31", "http-https-echo"),
        ("traefik/whoami", "whoami"),
        ("radial/busyboxplus:curl", "busybox"),
        ("gcr.io/google-samples/hello-app:1.0", "hello-app"),
        ("registry.k8s.io/coredns/coredns:v1.11.1", "coredns"),
    ],
)
def test_any_registry_tag_and_digest_is_one_entry(image, name):
    assert catalogue.resolve(image).name == name


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("a/b", "docker.io/a/b:latest"),
        ("a.b/c", "a.b/c:latest"),
        ("localhost/c:1", "localhost/c:1"),
        ("host:80/c", "host:80/c:latest"),
        ("x@sha256:" + "0" * 64, "docker.io/library/x@sha256:" + "0" * 64),
    ],
)
def test_short_names_are_completed_as_docker_does(image, full):
    assert catalogue.normalize(image) == full


def test_an_unknown_image_says_what_containerd_says_and_what_there_is():
    with pytest.raises(catalogue.UnknownImageError) as refused:
        catalogue.resolve("redis")
    message = str(refused.value)
    assert message.startswith('failed to pull and unpack image "docker.io/library/redis:latest": not found')
    assert "podnet's catalogue (known: agnhost, alpine, bash, busybox," in message


@pytest.mark.parametrize("image", ["", "Nginx", "a b", "nginx:", "nginx:t@g", "/nginx", "a//b", "-a", "x" * 2000])
def test_what_is_no_reference_is_refused_as_one(image):
    with pytest.raises(catalogue.InvalidImageNameError, match="invalid reference format"):
        catalogue.resolve(image)


@given(st.text(max_size=80))
def test_any_text_is_an_entry_or_an_error(text):
    with contextlib.suppress(catalogue.UnknownImageError):
        assert catalogue.resolve(text) in catalogue.ENTRIES


def test_every_program_of_an_entry_is_in_its_layers():
    files = layers.layer_files({})
    for entry in catalogue.ENTRIES:
        for word in (entry.entrypoint or entry.cmd)[:1]:
            if word.startswith("/") and not word.startswith("/bin/"):
                assert word[1:] in files[entry.name], entry.name


def test_own_tools_stand_in_only_where_the_machine_has_none():
    assert "usr/bin/nc" in layers.layer_files({})["base"]
    assert "usr/bin/nc" not in layers.layer_files({"nc": "/usr/bin/nc"})["base"]


def test_busybox_is_a_command_where_the_machine_has_none():
    files = layers.layer_files({})
    assert "usr/bin/busybox" in files["busybox"]
    assert "usr/bin/busybox" in files["alpine"]
    assert "usr/bin/busybox" not in layers.layer_files({"busybox": "/usr/bin/busybox"})["busybox"]
    assert "usr/sbin/httpd" in files["busybox"]


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (("echo", "a  b"), 0, "a  b\n", ""),
        (("sh", "-c", "exit 3"), 3, "", ""),
        (("nosuch",), 127, "", "nosuch: applet not found\n"),
        ((), 0, "BusyBox (podnet) multi-call binary.\nUsage: busybox [function [arguments]...]\n", ""),
    ],
    ids=["words stay whole", "exit code", "unknown", "alone"],
)
def test_busybox_runs_its_applets(tmp_path, words, code, out, err):
    script = tmp_path / "busybox"
    script.write_text(layers._BUSYBOX)
    done = subprocess.run(["sh", script, *words], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_layers_are_written_once_and_whole(tmp_path):
    directory = layers.layers_directory(tmp_path)
    layers.write_layers(directory)
    assert (directory / "nginx/usr/share/nginx/html/index.html").read_text().startswith("<!DOCTYPE html>")
    assert (directory / "agnhost/agnhost").stat().st_mode & 0o777 == 0o755
    assert (directory / "base/var/tmp").stat().st_mode & 0o7777 == 0o1777
    assert launch.program_name(str(directory / "agnhost/agnhost")) == "agnhost"
    assert launch.program_name(str(directory / "nginx/docker-entrypoint.sh")) == "docker-entrypoint"
    stamp = directory.stat().st_mtime_ns
    layers.write_layers(directory)
    assert directory.stat().st_mtime_ns == stamp
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]

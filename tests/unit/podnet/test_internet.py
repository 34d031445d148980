"""The outside world: its files say what its page and its zones promise; who asks for it in cluster.yaml gets it."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from podnet.controlplane.kubelet.images.programs.http import Request
from podnet.dns.config import parse_config
from podnet.dns.metrics import Registry
from podnet.dns.registry import build_plugins
from podnet.dns.zone import FileZone
from podnet.dns.zonefile import parse_zone_file
from podnet.internet import NO_INTERNET, InternetConfig, page, render_files, resolv_conf, write_files
from podnet.topology.spec import SpecError, default_cluster_spec, load_cluster_spec

CONFIG = InternetConfig(Path("/nowhere"), IPv4Address("192.168.100.201"), IPv4Address("192.168.100.1"))
HEAD = "apiVersion: podnet.dev/v1alpha1\nkind: Cluster\n"


@pytest.fixture
def zones():
    files = render_files(CONFIG)
    names = {".": "db.root", "example.com.": "db.example.com", "example.net.": "db.example.net"}
    return {origin: FileZone(origin, parse_zone_file(files[name], origin)) for origin, name in names.items()}


NAMES = {
    "address": ("example.com.", "www.example.com.", 1, 0, ["192.168.100.201"]),
    "apex": ("example.com.", "example.com.", 1, 0, ["192.168.100.201"]),
    "IPv6": ("example.com.", "dual.example.com.", 28, 0, ["2001:db8::80"]),
    "no IPv6": ("example.com.", "www.example.com.", 28, 0, []),
    "only IPv6": ("example.com.", "ipv6.example.com.", 1, 0, []),
    "mail": ("example.com.", "example.com.", 15, 0, ["10 mail.example.com.", "20 backup.example.net."]),
    "text": ("example.com.", "example.com.", 16, 0, ['"v=spf1 mx -all"']),
    "alias": ("example.com.", "blog.example.com.", 1, 0, ["www.example.com.", "192.168.100.201"]),
    "wildcard": ("example.com.", "any.thing.apps.example.com.", 1, 0, ["192.168.100.201"]),
    "nothing": ("example.com.", "nope.example.com.", 1, 3, []),
    "no such top level": (".", "www.invalid.", 1, 3, []),
    "search domain": ("example.net.", "www.dc1.example.net.", 1, 3, []),
    "gateway": ("example.net.", "gw.dc1.example.net.", 1, 0, ["192.168.100.1"]),
}


@pytest.mark.parametrize(("origin", "name", "qtype", "rcode", "expected"), NAMES.values(), ids=NAMES.keys())
def test_names(zones, origin, name, qtype, rcode, expected):
    found = zones[origin].lookup(name, qtype)
    assert (found.rcode, [str(each.data) for each in found.answers]) == (rcode, expected)


def test_a_big_answer_needs_tcp(zones):
    assert len(zones["example.com."].lookup("big.example.com.", 1).answers) * 16 > 1232


def test_the_corefile_builds(tmp_path):
    config = InternetConfig(tmp_path / "internet", CONFIG.address, CONFIG.gateway)
    write_files(config)
    corefile = config.directory / "Corefile"
    blocks = parse_config(corefile.read_text(), str(corefile))
    built = [[plugin.name for plugin in build_plugins(block, Registry(), corefile=corefile)] for block in blocks]
    assert built == [["errors", "log", "any", "loadbalance", "file"], ["errors", "log", "erratic"]]


def test_the_page_says_who_asked():
    request = Request("GET", "/x", "HTTP/1.1", [("Host", "www.example.com")], ("192.168.100.11", 4000), ("", 80))
    assert page(request).body.decode().splitlines()[1:] == [
        "You are 192.168.100.11:4000.",
        "You asked www.example.com for /x",
    ]


def test_it_is_off_by_default():
    spec = default_cluster_spec()
    assert spec.internet is None
    assert resolv_conf(spec) == NO_INTERNET
    assert spec.dns.node_names is False


def test_a_role_makes_it():
    spec = load_cluster_spec(HEAD + "spec:\n  hosts:\n  - name: client\n  - {name: web, role: internet}\n")
    assert [(host.name, host.role) for host in spec.hosts] == [("client", "client"), ("web", "internet")]
    assert spec.internet == spec.hosts[1]
    assert resolv_conf(spec) == "nameserver 192.168.100.201\nsearch dc1.example.net\n"
    assert load_cluster_spec(spec.to_yaml()) == spec
    assert default_cluster_spec("x", internet=True).internet.name == "internet"
    assert load_cluster_spec(HEAD + "spec: {dns: {nodeNames: true}}").dns.node_names is True


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            "spec:\n  hosts:\n  - name: a\n    role: internett\n",
            "cluster.yaml:6: spec.hosts[0].role: must be one of client, internet",
        ),
        (
            "spec:\n  hosts:\n  - {name: a, role: internet}\n  - {name: b, role: internet}\n",
            "cluster.yaml:6: spec.hosts[1]: a second host has the role internet; 'a' has it already",
        ),
        ("spec:\n  dns: {nodeNames: maybe}\n", "cluster.yaml:4: spec.dns.nodeNames: must be true or false"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(body, problem):
    with pytest.raises(SpecError) as caught:
        load_cluster_spec(HEAD + body, "cluster.yaml")
    assert any(line.startswith(problem) for line in caught.value.lines()), caught.value.lines()

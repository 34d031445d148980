"""/etc/hosts, host names and /etc/resolv.conf of a pod."""

from __future__ import annotations

from typing import Any

import pytest

from podnet.controlplane.kubelet.downward import ConfigError
from podnet.controlplane.kubelet.hosts import hostname_and_domain, render_hosts, sandbox_hostname
from podnet.controlplane.kubelet.resolv import ResolvConf, parse_resolv_conf, pod_resolv_conf, wants_cluster_dns

ZONE = "cluster.local"
HEAD = (
    "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
)


def pod(name: str = "web-0", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "uid": "u"}, "spec": spec}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(pod(), HEAD + "10.244.1.2\tweb-0\n", id="plain"),
        pytest.param(pod(hostname="db"), HEAD + "10.244.1.2\tdb\n", id="hostname"),
        pytest.param(
            pod(hostname="db", subdomain="sql"),
            HEAD + "10.244.1.2\tdb.sql.shop.svc.cluster.local\tdb\n",
            id="subdomain",
        ),
        pytest.param(
            pod(hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}, {"ip": "5.6.7.8", "hostnames": ["c"]}]),
            HEAD + "10.244.1.2\tweb-0\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n5.6.7.8\tc\n",
            id="aliases",
        ),
        pytest.param(
            pod(hostNetwork=True, hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a"]}]),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 node\n\n"
            "# Entries added by HostAliases.\n1.2.3.4\ta\n",
            id="host-network",
        ),
    ],
)
def test_hosts(given: dict[str, Any], expected: str) -> None:
    assert render_hosts(given, ["10.244.1.2"], ZONE, "127.0.0.1 node\n") == expected


@pytest.mark.parametrize(
    ("given", "hostname"),
    [
        pytest.param(pod(), "web-0", id="pod-name"),
        pytest.param(pod(hostname="db"), "db", id="hostname"),
        pytest.param(pod("a" * 70), "a" * 63, id="long-name"),
        pytest.param(pod("a" * 62 + ".-bcd"), "a" * 62, id="trimmed"),
        pytest.param(pod(hostNetwork=True, hostname="db"), "node1", id="host-network"),
        pytest.param(pod(setHostnameAsFQDN=True), "web-0", id="fqdn-without-subdomain"),
        pytest.param(pod(setHostnameAsFQDN=True, subdomain="sql"), "web-0.sql.shop.svc.cluster.local", id="fqdn"),
    ],
)
def test_hostname(given: dict[str, Any], hostname: str) -> None:
    assert sandbox_hostname(given, ZONE, "node1") == hostname


def test_a_long_fqdn_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is too long .64 characters is the max, 72 characters requested"):
        sandbox_hostname(pod("a" * 45, setHostnameAsFQDN=True, subdomain="sql"), ZONE, "node1")
    assert hostname_and_domain(pod("a" * 45), ZONE)[1] == ""


NODE = ResolvConf(("192.0.2.1",), ("example.com",), ("timeout:2",))
CLUSTER = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, ResolvConf(("10.96.0.10",), CLUSTER, ("ndots:5",)), id="default-is-cluster-first"),
        pytest.param({"hostNetwork": True}, NODE, id="cluster-first-on-the-host"),
        pytest.param(
            {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
            ResolvConf(("10.96.0.10",), CLUSTER, ("ndots:5",)),
            id="with-host-net",
        ),
        pytest.param({"dnsPolicy": "Default"}, NODE, id="the-nodes"),
        pytest.param({"dnsPolicy": "None"}, ResolvConf(), id="none"),
        pytest.param(
            {
                "dnsPolicy": "None",
                "dnsConfig": {
                    "nameservers": ["1.1.1.1"],
                    "searches": ["a.b"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
                },
            },
            ResolvConf(("1.1.1.1",), ("a.b",), ("ndots:2", "edns0")),
            id="none-with-config",
        ),
        pytest.param(
            {
                "dnsConfig": {
                    "nameservers": ["10.96.0.10", "1.1.1.1"],
                    "searches": ["cluster.local", "x"],
                    "options": [{"name": "ndots", "value": "1"}],
                }
            },
            ResolvConf(("10.96.0.10", "1.1.1.1"), (*CLUSTER, "x"), ("ndots:1",)),
            id="merged-without-doubles",
        ),
    ],
)
def test_resolv_conf(spec: dict[str, Any], expected: ResolvConf) -> None:
    found, messages = pod_resolv_conf(pod(**spec), NODE, ("10.96.0.10",), ZONE)
    assert (found, messages) == (expected, [])


def test_limits_cut_and_tell() -> None:
    config = {"nameservers": [f"1.1.1.{n}" for n in range(5)], "searches": [f"d{n}.example" for n in range(40)]}
    found, messages = pod_resolv_conf(pod(dnsConfig=config), NODE, ("10.96.0.10",), ZONE)
    assert (len(found.nameservers), len(found.searches)) == (3, 32)
    assert messages[0].startswith("Nameserver limits were exceeded")
    assert messages[1].startswith("Search Line limits were exceeded")
    config = {"searches": ["x" * 250 + f".d{n}" for n in range(10)]}
    found, _ = pod_resolv_conf(pod(dnsConfig=config), ResolvConf(), ("10.96.0.10",), ZONE)
    assert len(" ".join(found.searches)) <= 2048


def test_a_domain_that_is_longer_than_a_name_is_left_out() -> None:
    config = {"searches": ["x." * 128, "short.example"]}
    found, messages = pod_resolv_conf(pod(dnsPolicy="None", dnsConfig=config), NODE, (), ZONE)
    assert found.searches == ("short.example",)
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("spec", "wants"),
    [
        pytest.param({}, True, id="default"),
        pytest.param({"hostNetwork": True}, False, id="host-network"),
        pytest.param({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}, True, id="with-host-net"),
        pytest.param({"dnsPolicy": "Default"}, False, id="Default"),
        pytest.param({"dnsPolicy": "None"}, False, id="None"),
    ],
)
def test_without_a_cluster_dns_it_is_the_nodes(spec: dict[str, Any], wants: bool) -> None:
    assert wants_cluster_dns(pod(**spec)) == wants
    found, _ = pod_resolv_conf(pod(**spec), NODE, (), ZONE)
    assert found == (ResolvConf() if spec.get("dnsPolicy") == "None" else NODE)


def test_render_and_parse() -> None:
    text = "search a.b c\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions ndots:5 edns0\n"
    parsed = parse_resolv_conf("# note\n; note\ndomain old\n" + text + "nameserver\n")
    assert parsed == ResolvConf(("1.1.1.1", "2.2.2.2"), ("a.b", "c"), ("ndots:5", "edns0"))
    assert parsed.render() == text
    assert ResolvConf().render() == ""

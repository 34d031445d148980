"""Names of the world outside, in a cluster that has one: forward, search lists, autopath, caches; and the resolver of a pod
for every dnsPolicy, with a node whose own resolv.conf says something.

The host `internet` is the only name server anybody asks; its log says which questions really left the cluster.
"""

from __future__ import annotations

import json
import re
import time

import pytest

KUBE_DNS = "10.96.0.10"
INTERNET = "192.168.100.201"
SPEC = """
apiVersion: podnet.dev/v1alpha1
kind: Cluster
spec:
  dns: {nodeNames: true}
  hosts:
  - {name: client}
  - {name: internet, role: internet}
"""

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: sub}
spec: {clusterIP: None, selector: {app: named}, ports: [{port: 80}]}
"""
PROD = """
apiVersion: v1
kind: Namespace
metadata: {name: prod}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {ports: [{port: 80}]}
"""
CLUSTER_SEARCH = ("resolve.svc.cluster.local", "svc.cluster.local", "cluster.local", "dc1.example.net")

# Name, the pod's spec, and what its resolv.conf says: name servers, searches, options.
PODS = {
    "cluster-first": ({}, (KUBE_DNS,), CLUSTER_SEARCH, ("ndots:5",)),
    "on-worker-2": ({"nodeName": "worker-2"}, (KUBE_DNS,), CLUSTER_SEARCH, ("ndots:5",)),
    "on-control-plane": ({"nodeName": "control-plane"}, (KUBE_DNS,), CLUSTER_SEARCH, ("ndots:5",)),
    "default": ({"dnsPolicy": "Default"}, (INTERNET,), ("dc1.example.net",), ()),
    "host-cluster-first": ({"hostNetwork": True}, (INTERNET,), ("dc1.example.net",), ()),
    "host-with": (
        {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
        (KUBE_DNS,),
        CLUSTER_SEARCH,
        ("ndots:5",),
    ),
    "none": (
        {
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.test"], "options": [{"name": "debug"}]},
        },
        ("1.1.1.1",),
        ("a.test",),
        ("debug",),
    ),
    "merged": (
        {
            "dnsConfig": {
                "nameservers": ["1.1.1.1", KUBE_DNS],
                "searches": ["a.test", "cluster.local"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
            }
        },
        (KUBE_DNS, "1.1.1.1"),
        (*CLUSTER_SEARCH, "a.test"),
        ("edns0", "ndots:2"),
    ),
    "too-many": (
        {"dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3"]}},
        (KUBE_DNS, "1.1.1.1", "1.1.1.2"),
        CLUSTER_SEARCH,
        ("ndots:5",),
    ),
    "fqdn": (
        {"hostname": "named", "subdomain": "sub", "setHostnameAsFQDN": True},
        (KUBE_DNS,),
        CLUSTER_SEARCH,
        ("ndots:5",),
    ),
    "named": ({"hostname": "plain", "subdomain": "sub"}, (KUBE_DNS,), CLUSTER_SEARCH, ("ndots:5",)),
    "aliases": (
        {
            "hostAliases": [
                {"ip": "10.1.2.3", "hostnames": ["one.test", "two.test"]},
                {"ip": "10.1.2.4", "hostnames": ["three.test"]},
            ]
        },
        (KUBE_DNS,),
        CLUSTER_SEARCH,
        ("ndots:5",),
    ),
}


def pod_manifest(name, spec):
    container = {"name": "main", "image": "dnsutils"}
    labels = {"app": "named"} if spec.get("subdomain") else {}
    whole = {"nodeName": "worker-1", "terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": whole}


class Outside:
    """The cluster, a namespace in it, and the log of the world outside."""

    namespace = "resolve"

    def __init__(self, cluster):
        self.cluster = cluster

    def kubectl(self, *words, **kwargs):
        return self.cluster.kubectl("-n", self.namespace, *words, **kwargs)

    def run(self, pod, *argv, check=True):
        return self.kubectl("exec", pod, "--", *argv, check=check).stdout

    def dig(self, *words, pod="cluster-first"):
        return self.run(pod, "dig", "+tries=3", "+time=3", *words)

    def statuses(self, name):
        """What came back for each name of the search list that was tried, and all that dig said."""
        text = self.dig("+search", "+showsearch", "+noall", "+question", "+comments", "+answer", name)
        return re.findall(r"status: (\w+)", text), text

    def log(self):
        return (self.cluster.state / "logs" / "podnet-internet.log").read_text(encoding="utf-8", errors="replace")

    def asked(self, name):
        """How often the world outside was asked for a name."""
        return len(re.findall(rf'"\w+ IN {re.escape(name)} ', self.log()))


@pytest.fixture(scope="module")
def outside(boot_cluster, tmp_path_factory):
    path = tmp_path_factory.mktemp("spec") / "cluster.yaml"
    path.write_text(SPEC)
    cluster = boot_cluster("-f", str(path))
    found = Outside(cluster)
    cluster.kubectl("create", "namespace", found.namespace)
    cluster.apply(PROD)
    pods = [json.dumps(pod_manifest(name, spec)) for name, (spec, *_) in PODS.items()]
    found.kubectl("apply", "-f", "-", input=SERVICE + "".join(f"---\n{pod}\n" for pod in pods))
    found.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s")
    return found


# --- the resolver of a pod --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PODS)
def test_resolv_conf(outside, name):
    _, servers, searches, options = PODS[name]
    found: dict[str, list[str]] = {}
    for line in outside.run(name, "cat", "/etc/resolv.conf").splitlines():
        word, *rest = line.split()
        found.setdefault(word, []).extend(rest)
    assert tuple(found["nameserver"]) == servers
    assert tuple(found.get("search", ())) == searches
    assert tuple(sorted(found.get("options", ()))) == options


def test_what_does_not_fit_is_an_event(outside):
    def said():
        events = outside.kubectl("get", "events", "--field-selector=involvedObject.name=too-many").stdout
        return "DNSConfigForming" in events

    outside.cluster.wait(said, "the event", 20)


def test_host_names(outside):
    long = "named.sub.resolve.svc.cluster.local"
    assert outside.run("fqdn", "hostname").strip() == long
    assert outside.run("named", "hostname").strip() == "plain"
    assert outside.run("named", "hostname", "-f").strip() == "plain.sub.resolve.svc.cluster.local"
    assert outside.run("cluster-first", "hostname").strip() == "cluster-first"
    assert outside.run("host-with", "hostname").strip() == "worker-1"
    for name in ("named.sub", "plain.sub.resolve", long):
        assert outside.run("cluster-first", "getent", "hosts", name).split(), name


def test_host_aliases(outside):
    for name, ip in (("one.test", "10.1.2.3"), ("two.test", "10.1.2.3"), ("three.test", "10.1.2.4")):
        assert outside.run("aliases", "getent", "hosts", name).split()[0] == ip
    assert "10.1.2.3\tone.test\ttwo.test" in outside.run("aliases", "cat", "/etc/hosts")


# --- names outside ----------------------------------------------------------------------------------------------------


def test_forwarded_names_of_every_kind(outside):
    def short(name, qtype="A"):
        return sorted(outside.dig("+short", name, qtype).split("\n")[:-1])

    assert short("www.example.com.") == [INTERNET]
    assert short("dual.example.com.", "AAAA") == ["2001:db8::80"]
    assert short("cdn.example.com.") == [INTERNET, "edge.example.net."]
    assert short("example.com.", "MX") == ["10 mail.example.com.", "20 backup.example.net."]
    assert short("example.com.", "TXT") == ['"v=spf1 mx -all"']
    assert short("whatever.apps.example.com.") == [INTERNET]
    assert "status: NXDOMAIN" in outside.dig("nope.example.com.")
    assert outside.run("cluster-first", "getent", "hosts", "blog.example.com").split()[0] == INTERNET
    assert len(short("big.example.com.")) == 100
    assert "tc" in outside.dig("+ignore", "+noedns", "big.example.com.").split("flags:")[1].split(";")[0]


@pytest.mark.parametrize("pod", ["cluster-first", "on-worker-2", "on-control-plane", "default", "host-with"])
def test_from_every_node_and_by_every_policy(outside, pod):
    assert outside.run(pod, "getent", "ahostsv4", "www.example.com").split()[0] == INTERNET
    assert outside.dig("+short", "blog.example.com.", pod=pod).split() == ["www.example.com.", INTERNET]
    assert outside.dig("+short", "+tcp", "www.example.com.", pod=pod).split() == [INTERNET]
    page = outside.run(pod, "wget", "-qO-", "http://www.example.com/")
    node = outside.cluster.kubectl_json("-n", outside.namespace, "get", "pod", pod)["status"]["hostIP"]
    assert f"You are {node}:" in page


def test_a_slow_name_takes_its_time(outside):
    began = time.monotonic()
    assert "192.0.2.53" in outside.dig("+short", "slow.example.com.")
    assert time.monotonic() - began >= 1


def test_a_client_outside_is_not_masqueraded(outside):
    page = outside.cluster.exec("host/client", "curl", "-s", "http://www.example.com/").stdout
    assert "You are 192.168.100.200:" in page


# A name as it is written, the names that are tried for it in turn, and what the last try finds.
EXPANSIONS = {
    "no dot": ("sub", ["sub.resolve.svc.cluster.local."], "NOERROR"),
    "one dot": ("web.prod", ["web.prod.resolve.svc.cluster.local.", "web.prod.svc.cluster.local."], "NOERROR"),
    "two dots": (
        "web.prod.svc",
        ["web.prod.svc.resolve.svc.cluster.local.", "web.prod.svc.svc.cluster.local.", "web.prod.svc.cluster.local."],
        "NOERROR",
    ),
    "outside": (
        "www.example.com",
        [*(f"www.example.com.{domain}." for domain in CLUSTER_SEARCH), "www.example.com."],
        "NOERROR",
    ),
    "outside, absolute": ("www.example.com.", ["www.example.com."], "NOERROR"),
    # Five dots are not few: the name is tried as it is first.
    "five dots": ("a.b.c.apps.example.com", ["a.b.c.apps.example.com."], "NOERROR"),
    "nowhere, absolute": ("nope.example.com.", ["nope.example.com."], "NXDOMAIN"),
}


@pytest.mark.parametrize(("name", "tried", "last"), EXPANSIONS.values(), ids=EXPANSIONS.keys())
def test_what_a_name_costs(outside, name, tried, last):
    found, text = outside.statuses(name)
    assert re.findall(r"^;(\S+)\s+IN\s+A$", text, re.MULTILINE) == tried
    assert found == ["NXDOMAIN"] * (len(tried) - 1) + [last]


def test_denials_are_remembered(outside):
    """Two servers, each with a cache of its own: each asks once."""
    for _ in range(12):
        assert "status: NXDOMAIN" in outside.dig("never-heard-of.example.com.")
    assert 1 <= outside.asked("never-heard-of.example.com.") <= 2
    for _ in range(12):
        outside.dig("long.example.com.")
    assert 1 <= outside.asked("long.example.com.") <= 2


def test_names_of_nodes(outside):
    assert outside.dig("+short", "worker-2.node.cluster.local.").split() == ["192.168.100.12"]
    assert outside.dig("+short", "-x", "192.168.100.12").split() == ["worker-2.node.cluster.local."]
    assert "status: NXDOMAIN" in outside.dig("worker-9.node.cluster.local.")
    assert outside.run("cluster-first", "getent", "hosts", "worker-1.node").split()[0] == "192.168.100.11"


def test_the_world_comes_back(outside):
    """It is supervised like everybody else."""
    before = outside.cluster.component("podnet-internet/internet")
    outside.cluster.exec("host/internet", "kill", "-9", str(before["pid"]))
    restarted = outside.cluster.wait(
        lambda: (now := outside.cluster.component("podnet-internet/internet"))["restarts"] and now["pid"] and now,
        "its restart",
        20,
    )
    assert restarted["pid"] != before["pid"]
    outside.cluster.wait(lambda: INTERNET in outside.dig("+short", "edge.example.net."), "a name", 20)


@pytest.fixture
def autopath(outside):
    """Servers that walk the search list themselves; afterwards those that were there before."""

    def configure(corefile):
        patch = json.dumps({"data": {"Corefile": corefile}})
        outside.cluster.kubectl("-n", "kube-system", "patch", "configmap", "coredns", "-p", patch)
        outside.cluster.kubectl("-n", "kube-system", "rollout", "restart", "deployment/coredns")
        outside.cluster.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=90s")

    before = outside.cluster.kubectl_json("-n", "kube-system", "get", "configmap", "coredns")["data"]["Corefile"]
    configure(
        before.replace("pods insecure", "pods verified").replace("    loop\n", "    autopath @kubernetes\n    loop\n")
    )
    outside.cluster.wait(lambda: outside.statuses("www.example.com")[0] == ["NOERROR"], "one lookup", 30)
    yield
    configure(before)
    outside.cluster.wait(lambda: len(outside.statuses("www.example.com")[0]) == 5, "five lookups", 30)


@pytest.mark.usefixtures("autopath")
def test_autopath_asks_once(outside):
    found, text = outside.statuses("www.example.com")
    assert found == ["NOERROR"]
    assert re.search(
        r"www\.example\.com\.resolve\.svc\.cluster\.local\.\s+\d+\s+IN\s+CNAME\s+www\.example\.com\.", text
    )
    assert INTERNET in text
    # A name that is nowhere: the client walks the list itself.
    assert set(outside.statuses("nope.example.com")[0]) == {"NXDOMAIN"}

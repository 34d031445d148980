"""Names in a booted cluster: the DNS lines of the conformance list, asked from inside pods with dig, getent and dnspython.

A lookup here is a real one: the pod's resolver sends it to the Service kube-dns, kube-proxy's rules turn it to a coredns
pod on some node, and coredns knows the answer from the API server at 10.96.0.1.
"""

from __future__ import annotations

import subprocess
import sysconfig
import time

import pytest

KUBE_DNS = "10.96.0.10"
NODES = ("worker-1", "worker-2", "control-plane")
SITE_PACKAGES = sysconfig.get_paths()["purelib"]

CLIENT = """
apiVersion: v1
kind: Pod
metadata: {{name: on-{node}, labels: {{app: client}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  volumes: [{{name: site, hostPath: {{path: {site}}}}}]
  containers:
  - name: main
    image: dnsutils
    env: [{{name: PYTHONPATH, value: /opt/site}}]
    volumeMounts: [{{name: site, mountPath: /opt/site, readOnly: true}}]
"""
SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: dns-test-service}
spec: {clusterIP: None, selector: {app: server}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: test-service-2}
spec: {selector: {app: server}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns-test-service-2}
spec: {clusterIP: None, selector: {app: named}, ports: [{name: http, port: 1234}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: nginx}]}
---
apiVersion: v1
kind: Pod
metadata: {name: named, labels: {app: named}}
spec:
  hostname: dns-querier-2
  subdomain: dns-test-service-2
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: dnsutils}]
"""


class World:
    """A namespace with Services and a client pod on every node."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace

    def kubectl(self, *words, **kwargs):
        return self.cluster.kubectl("-n", self.namespace, *words, **kwargs)

    def apply(self, manifest):
        return self.kubectl("apply", "-f", "-", input=manifest)

    def run(self, pod, *argv, check=True):
        return self.kubectl("exec", pod, "--", *argv, check=check)

    def dig(self, pod, *words):
        return sorted(self.run(pod, "dig", "+short", "+search", *words).stdout.split("\n")[:-1])

    def wait_answer(self, pod, *words):
        return self.cluster.wait(lambda: self.dig(pod, *words), f"dig {words} on {pod}", 10)

    def address(self, service):
        return self.cluster.kubectl_json("-n", self.namespace, "get", "service", service)["spec"]["clusterIP"]

    def pod_ip(self, pod):
        return self.cluster.kubectl_json("-n", self.namespace, "get", "pod", pod)["status"]["podIP"]


@pytest.fixture(scope="module")
def world(cluster):
    namespace = "dns-world"
    cluster.kubectl("create", "namespace", namespace)
    world = World(cluster, namespace)
    world.apply(SERVICES + "".join("---" + CLIENT.format(node=node, site=SITE_PACKAGES) for node in NODES))
    world.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
    world.wait_answer("on-worker-1", "dns-test-service")
    yield world
    cluster.kubectl("delete", "namespace", namespace, "--wait=false", check=False)


@pytest.fixture(params=NODES)
def client(request):
    return f"on-{request.param}"


def full(world, name):
    return f"{name}.{world.namespace}.svc.cluster.local."


# --- the add-on -----------------------------------------------------------------------------------------------------


def test_boot_waits_for_names(cluster):
    phases = [phase["phase"] for phase in cluster.boot["phases"]]
    assert phases[-1] == "dns"
    service = cluster.kubectl_json("-n", "kube-system", "get", "service", "kube-dns")
    assert service["spec"]["clusterIP"] == KUBE_DNS
    cluster.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=30s")
    pods = cluster.kubectl_json("-n", "kube-system", "get", "pods", "-l", "k8s-app=kube-dns")["items"]
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2


def test_the_resolver_of_a_pod(world, client):
    text = world.run(client, "cat", "/etc/resolv.conf").stdout
    assert f"nameserver {KUBE_DNS}\n" in text
    assert f"search {world.namespace}.svc.cluster.local svc.cluster.local cluster.local" in text
    assert "options ndots:5" in text


# --- names of the cluster and of Services, complete and partial -------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "kubernetes.default."],
)
def test_names_of_the_cluster(world, client, name):
    expected = [] if name.endswith("default.") else ["10.96.0.1"]
    assert world.dig(client, name) == expected
    assert world.dig(client, "+tcp", name) == expected
    found = world.run(client, "getent", "hosts", name, check=False).stdout.split()[:1]
    assert found == expected


def test_a_headless_service(world, client):
    ip = world.pod_ip("server")
    for name in ("dns-test-service", f"dns-test-service.{world.namespace}", f"dns-test-service.{world.namespace}.svc"):
        assert world.dig(client, name) == [ip]
    (srv,) = world.dig(client, f"_http._tcp.dns-test-service.{world.namespace}.svc", "SRV")
    label = ip.replace(".", "-")
    assert srv == f"0 100 80 {label}.{full(world, 'dns-test-service')}"
    assert world.dig(client, f"{label}.{full(world, 'dns-test-service')}") == [ip]
    assert f"{label}.{full(world, 'dns-test-service')}" in world.dig(client, "-x", ip)


def test_a_service_with_an_address(world, client):
    ip = world.address("test-service-2")
    assert world.dig(client, "test-service-2") == [ip]
    assert world.dig(client, f"_http._tcp.test-service-2.{world.namespace}.svc", "SRV") == [
        f"0 100 80 {full(world, 'test-service-2')}"
    ]
    assert world.dig(client, "-x", ip) == [full(world, "test-service-2")]
    answer = world.run(client, "wget", "-qO-", "http://test-service-2/").stdout
    assert "nginx" in answer


def test_dnspython_agrees(world, client):
    """Every kind of record by another library: addresses, SRV, PTR, and what is not there."""
    headless = full(world, "dns-test-service")
    program = (
        "import dns.resolver as r; x = r.Resolver();"
        f"print(*x.resolve('test-service-2', search=True), *x.resolve({full(world, 'test-service-2')!r}, tcp=True));"
        f"print(*x.resolve({headless!r}));"
        f"print(*x.resolve('_http._tcp.' + {headless!r}, 'SRV'));"
        f"print(*x.resolve_address({world.address('test-service-2')!r}));"
        f"print(*x.resolve('kubernetes.default', search=True));"
        f"x.resolve({full(world, 'nothing-here')!r})"
    )
    done = world.run(client, "python3", "-c", program, check=False)
    ip, pod_ip = world.address("test-service-2"), world.pod_ip("server")
    assert done.stdout.splitlines() == [
        f"{ip} {ip}",
        pod_ip,
        f"0 100 80 {pod_ip.replace('.', '-')}.{headless}",
        full(world, "test-service-2"),
        "10.96.0.1",
    ], done.stderr
    assert "NXDOMAIN" in done.stderr


def test_getent_agrees(world, client):
    """The C library's resolver, by the search list and by the whole name; and what is not there."""
    ip = world.address("test-service-2")
    for name, found in (
        ("test-service-2", ip),
        (f"test-service-2.{world.namespace}.svc", ip),
        (full(world, "test-service-2"), ip),
        ("dns-test-service", world.pod_ip("server")),
    ):
        assert world.run(client, "getent", "ahostsv4", name).stdout.split()[:1] == [found], name
    missing = world.run(client, "getent", "hosts", "nothing-here", check=False)
    assert (missing.returncode, missing.stdout) == (2, "")


def test_what_does_not_exist(world, client):
    out = world.run(client, "dig", "+noall", "+comments", "+authority", full(world, "nothing-here")).stdout
    assert "status: NXDOMAIN" in out
    assert "ns.dns.cluster.local. hostmaster.cluster.local." in out
    out = world.run(client, "dig", "+noall", "+comments", full(world, "test-service-2"), "AAAA").stdout
    assert "status: NOERROR" in out
    assert "ANSWER: 0" in out


def test_names_outside_fail_at_once(world, client):
    began = time.monotonic()
    out = world.run(client, "dig", "+noall", "+comments", "+tries=1", "www.example.com.").stdout
    assert "status: SERVFAIL" in out
    assert time.monotonic() - began < 3


# --- pods with host names ---------------------------------------------------------------------------------------------


def test_a_pod_with_a_host_name_and_a_subdomain(world, client):
    name = f"dns-querier-2.dns-test-service-2.{world.namespace}.svc.cluster.local"
    assert world.dig(client, f"{name}.") == [world.pod_ip("named")]
    assert world.run(client, "getent", "hosts", "dns-querier-2.dns-test-service-2").stdout.split()[0] == world.pod_ip(
        "named"
    )


def test_a_pods_own_names(world):
    fqdn = f"dns-querier-2.dns-test-service-2.{world.namespace}.svc.cluster.local"
    ip = world.pod_ip("named")
    assert world.run("named", "hostname").stdout.strip() == "dns-querier-2"
    assert world.run("named", "hostname", "-f").stdout.strip() == fqdn
    for name in (fqdn, "dns-querier-2"):
        assert world.run("named", "getent", "hosts", name).stdout.split()[0] == ip
    assert f"{ip}\t{fqdn}\tdns-querier-2" in world.run("named", "cat", "/etc/hosts").stdout


def test_an_insecure_pod_name(world, client):
    assert world.dig(client, f"10-1-2-3.{world.namespace}.pod.cluster.local.") == ["10.1.2.3"]


# --- ExternalName -----------------------------------------------------------------------------------------------------


def test_an_external_name_that_changes_and_becomes_a_service(world):
    world.kubectl("create", "service", "externalname", "ext", "--external-name=foo.example.com")

    def answer(*words):
        return world.dig("on-worker-2", full(world, "ext"), *words)

    world.cluster.wait(lambda: answer("CNAME") == ["foo.example.com."], "the alias", 10)
    world.kubectl("patch", "service", "ext", "-p", '{"spec": {"externalName": "bar.example.com"}}')
    world.cluster.wait(lambda: answer("CNAME") == ["bar.example.com."], "the other alias", 10)
    patch = '{"spec": {"type": "ClusterIP", "externalName": null, "ports": [{"port": 80, "name": "http"}]}}'
    world.kubectl("patch", "service", "ext", "-p", patch)
    ip = world.address("ext")
    world.cluster.wait(lambda: answer("A") == [ip], "its address", 10)


# --- other resolvers --------------------------------------------------------------------------------------------------

OWN_RESOLVER = """
apiVersion: v1
kind: Pod
metadata: {{name: own-resolver}}
spec:
  dnsPolicy: None
  dnsConfig: {{nameservers: [1.1.1.1], searches: [resolv.conf.local]}}
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: dnsutils}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: on-the-host}}
spec:
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: dnsutils}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: long-list}}
spec:
  dnsConfig: {{searches: [{}]}}
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: dnsutils}}]
""".format(", ".join(f"{letter * 60}.example" for letter in "abcdef"))


def test_resolvers_of_other_kinds(world):
    world.apply(OWN_RESOLVER)
    world.kubectl(
        "wait", "--for=condition=Ready", "pod/own-resolver", "pod/on-the-host", "pod/long-list", "--timeout=60s"
    )
    text = world.run("own-resolver", "cat", "/etc/resolv.conf").stdout
    assert sorted(text.splitlines()) == ["nameserver 1.1.1.1", "search resolv.conf.local"]
    for pod in ("on-the-host", "long-list"):
        assert world.run(pod, "getent", "hosts", "kubernetes.default").stdout.split()[:1] == ["10.96.0.1"]
    search = next(
        line for line in world.run("long-list", "cat", "/etc/resolv.conf").stdout.splitlines() if "search" in line
    )
    assert len(search.split()) - 1 > 6
    assert len(search) > 256


# --- changes and failures ---------------------------------------------------------------------------------------------


def test_a_new_service_has_its_name_at_once(world, client):
    name = f"new-{client}"
    world.kubectl("create", "service", "clusterip", name, "--tcp=80")
    began = time.monotonic()
    assert world.wait_answer(client, full(world, name)) == [world.address(name)]
    assert time.monotonic() - began < 5


def lookups_meanwhile(world, command, seconds, act):
    """(lookups, failures) of a command asked over and over on every node, while something happens."""
    script = (
        f"n=0; bad=0; end=$(( $(date +%s) + {seconds} )); echo asking;"
        f"while [ $(date +%s) -lt $end ]; do n=$((n+1)); {command} || bad=$((bad+1)); done; echo $n $bad"
    )
    asking = [
        subprocess.Popen(
            ["kubectl", "-n", world.namespace, "exec", f"on-{node}", "--", "sh", "-c", script],
            env=world.cluster.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        for node in NODES
    ]
    assert [process.stdout.readline() for process in asking] == ["asking\n"] * len(NODES)
    act()
    return [[*map(int, process.communicate(timeout=60)[0].split())] for process in asking]


def servers(world):
    return world.cluster.kubectl_json("-n", "kube-system", "get", "pods", "-l", "k8s-app=kube-dns")["items"]


def test_one_dead_server_of_two_costs_no_lookup(world):
    """As a resolver asks: two tries, two seconds each."""
    victim = servers(world)[0]["metadata"]["name"]
    results = lookups_meanwhile(
        world,
        f"dig +short +tries=2 +time=2 {full(world, 'test-service-2')} | grep -q '^10\\.'",
        5,
        lambda: world.cluster.kubectl("-n", "kube-system", "delete", "pod", victim, "--grace-period=0", "--force"),
    )
    assert all(count > 5 and bad == 0 for count, bad in results), results
    world.cluster.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s")


def restarts(world):
    return sum(pod["status"]["containerStatuses"][0]["restartCount"] for pod in servers(world))


def test_a_killed_server_process_costs_no_lookup(world):
    """The pod stays and its container starts again; until then there is nobody behind one of two endpoints. glibc's turn."""
    before = restarts(world)

    def kill():
        rows = [line.split() for line in world.cluster.exec("switch/s1", "ps", "axo", "pid,comm").stdout.split("\n")]
        pid = next(row[0] for row in rows if row[1:] == ["coredns"])
        world.cluster.exec("switch/s1", "kill", "-9", pid)

    # Half of the tries meet the dead one until it runs again: eight of them, of a second each.
    ask = "RES_OPTIONS='attempts:8 timeout:1' getent ahostsv4 test-service-2 >/dev/null"
    results = lookups_meanwhile(world, ask, 4, kill)
    assert all(count > 1 and bad == 0 for count, bad in results), results
    world.cluster.wait(lambda: restarts(world) > before, "the restart", 30)
    world.cluster.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s")

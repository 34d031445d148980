"""What the tests of Services share: a booted cluster with endpoints, and those who ask them from every place.

web-1 (worker-1)   web-2 (worker-2)      the endpoints, agnhost netexec
c-1   (worker-1)   c-2   (worker-2)      pods that ask
client                                    a host outside the cluster; nodes ask, too
"""

from __future__ import annotations

import json

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.53"
NETSHOOT = "nicolaka/netshoot"
NAMESPACE = "world"
REFUSED, TIMED_OUT = "rc=7", "rc=28"
BOTH = {"web-1", "web-2"}
EXTERNAL_IP, BALANCER_IP = "203.0.113.10", "203.0.113.20"


def pod(name: str, node: str, image: str, args: list[str], labels: dict, **spec) -> dict:
    container = {"name": "c", "image": image, "args" if image == AGNHOST else "command": args}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def web(name: str, node: str, app: str = "web", **spec) -> dict:
    return pod(name, node, AGNHOST, ["netexec", "--http-port=8080", "--udp-port=8081"], {"app": app}, **spec)


def asking(name: str, node: str) -> dict:
    return pod(name, node, NETSHOOT, ["sleep", "infinity"], {"app": "asking"})


HTTP = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
UDP = {"name": "udp", "port": 80, "targetPort": 8081, "protocol": "UDP"}


class World:
    """A booted cluster with endpoints and those who ask."""

    def __init__(self, cluster, mode: str) -> None:
        self.cluster = cluster
        self.mode = mode
        self.nodes = {node["name"]: node["ip"] for node in cluster.status()["nodes"]}
        self._made: list[str] = []

    def apply(self, *objects: dict) -> None:
        body = {"apiVersion": "v1", "kind": "List", "items": [*objects]}
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(body))

    def kubectl(self, *words: str, check: bool = True):
        return self.cluster.kubectl("-n", NAMESPACE, *words, check=check)

    def service(self, name: str, **spec) -> dict:
        """Make a Service and read it back; it goes after the test."""
        labels = spec.pop("labels", {})
        spec.setdefault("selector", {"app": "web"})
        spec.setdefault("ports", [HTTP])
        spec = {key: value for key, value in spec.items() if value is not None}
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
        self._made.append(f"service/{name}")
        return self.read("service", name)

    def run(self, *pods: dict) -> None:
        """Run pods until they are ready; they go after the test."""
        self.apply(*pods)
        names = [f"pod/{body['metadata']['name']}" for body in pods]
        self._made += names
        self.kubectl("wait", "--for=condition=Ready", *names, "--timeout=60s")

    def made(self, *names: str) -> None:
        self._made += names

    def stay(self) -> None:
        """What was made so far stays after the test."""
        self._made.clear()

    def clean(self) -> None:
        if self._made:
            self.kubectl("delete", "--ignore-not-found", "--now", *self._made, check=False)
        self._made.clear()

    def read(self, kind: str, name: str) -> dict:
        return json.loads(self.kubectl("get", kind, name, "-o", "json").stdout)

    def patch(self, name: str, *words: str, **body) -> None:
        self.kubectl("patch", "service", name, "--type=merge", "-p", json.dumps(body), *words)

    def ip(self, name: str) -> str:
        return self.read("pod", name)["status"]["podIP"]

    def source(self, name: str) -> str:
        return f"pod/{NAMESPACE}/{name}" if name.startswith(("c-", "web-")) else name

    def shell(self, source: str, command: str) -> str:
        return self.cluster.exec(self.source(source), "sh", "-c", command, check=False).stdout

    def ask(self, source: str, where: str, times: int = 1, path: str = "hostname", wait_s: float = 2) -> list[str]:
        """What `times` new connections are answered; `rc=7` for a refusal, `rc=28` for silence."""
        command = f"curl -s -m {wait_s} http://{where}/{path} || echo rc=$?; echo"
        loop = f"for i in $(seq {times}); do {command}; done"
        return [line for line in self.shell(source, loop).splitlines() if line]

    def ask_udp(self, source: str, address: str, port: int, times: int = 1, source_port: int = 0) -> list[str]:
        fixed = f",sourceport={source_port},reuseaddr" if source_port else ""
        command = f"echo hostname | socat -t 0.3 - udp:{address}:{port}{fixed} || echo refused; echo"
        return [
            line for line in self.shell(source, f"for i in $(seq {times}); do {command}; done").splitlines() if line
        ]

    def answered(self, source: str, where: str, expected: set[str], times: int = 16, **kwargs) -> None:
        """Soon, exactly these answer."""
        seen: set[str] = set()

        def same() -> bool:
            seen.clear()
            seen.update(self.ask(source, where, times, **kwargs))
            return seen == expected

        try:
            self.cluster.wait(same, f"{source} asks {where}", 10)
        except AssertionError:
            assert seen == expected, f"{source} asks {where}"

    def seen_as(self, source: str, where: str) -> str:
        """The address the server sees."""
        (line,) = self.ask(source, where, path="clientip")
        return line.partition(":")[0]

    def routed(self, address: str, node: str):
        """The client and nobody else sends packets to this address to a node."""
        return Route(self, address, node)

    def ruleset(self, node: str) -> str:
        """All rules of a node, without what counts or comes and goes by itself."""
        if self.mode == "iptables":
            text = self.shell(f"node/{node}", "iptables-save")
            kept = [line.partition(" [")[0] for line in text.splitlines() if not line.startswith("#")]
            return "\n".join(sorted(kept))
        return self.shell(f"node/{node}", "nft -s list ruleset ip")


def new_world(boot_cluster, mode: str, **proxy) -> World:
    """A booted cluster in this mode of the proxy, with the endpoints and the pods that ask."""
    cluster = boot_cluster(spec={"proxy": {"mode": mode, **proxy}})
    cluster.kubectl("create", "namespace", NAMESPACE)
    world = World(cluster, mode)
    world.run(web("web-1", "worker-1"), web("web-2", "worker-2"), asking("c-1", "worker-1"), asking("c-2", "worker-2"))
    world.stay()
    return world


class Route:
    """A route on the outside host, for one `with` block."""

    def __init__(self, world: World, address: str, node: str) -> None:
        self._world = world
        self._route = f"{address} via {world.nodes[node]}"

    def __enter__(self) -> None:
        self._world.shell("host/client", f"ip route replace {self._route}")

    def __exit__(self, *_: object) -> None:
        self._world.shell("host/client", f"ip route del {self._route}")


def endpoint_slice(name: str, service: str, address: str, port: int = 8080, port_name: str = "http") -> dict:
    labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "a-person"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]}],
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
    }


def balancer(world, name: str, **spec) -> dict:
    world.service(name, type="LoadBalancer", **spec)
    ingress = {"loadBalancer": {"ingress": [{"ip": BALANCER_IP}]}}
    world.patch(name, "--subresource=status", status=ingress)
    return world.read("service", name)["spec"]


def addresses_of(world, node: str) -> set[str]:
    rows = json.loads(world.shell(f"node/{node}", "ip -j -4 address"))
    return {info["local"] for row in rows for info in row["addr_info"]}

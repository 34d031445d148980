#!/usr/bin/env python3
"""Lab 01, pod to pod: boot, apply, ping, curl, capture, look, check. `make lab` runs this; README.md explains it."""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network

from rich.markup import escape

from podnet.lab import Check, Lesson, Sighting
from podnet.lab.checks import CheckFailed
from podnet.lab.lesson import console
from podnet.lab.tour import main

POINTS = (
    "pod/alice",
    "node/worker-1:cni0",
    "node/worker-1:flannel.1",
    "node/worker-1:eth0",
    "node/worker-2:eth0",
    "node/worker-2:flannel.1",
    "node/worker-2:cni0",
    "pod/bob",
)
# a fold of what the addresses mean, printed beside each hop
ROLES = {
    "pod/alice": "eth0 of the sender",
    "node/worker-1:cni0": "the node's bridge, the pod's gateway",
    "node/worker-1:flannel.1": "the VXLAN device: still bare",
    "node/worker-1:eth0": "the underlay: wrapped in UDP",
    "node/worker-2:eth0": "the other node's underlay",
    "node/worker-2:flannel.1": "unwrapped",
    "node/worker-2:cni0": "its bridge",
    "pod/bob": "eth0 of the receiver",
}


class PodToPod(Lesson):
    """Two pods on two nodes."""

    title = "Lab 01: pod to pod"
    summary = "two pods on two nodes, and every hop between them"

    def prepare(self) -> None:
        with self.phase("Apply two pods and a Deployment"):
            self.apply(self.folder() / "manifests")
            for kind, name in (("pod", "alice"), ("pod", "bob"), ("deployment", "web")):
                self.session.wait_ready(kind, name)
            self.addresses: dict[str, str] = {}
            for pod in self.session.list("pods"):
                name, address = pod["metadata"]["name"], pod["status"]["podIP"]
                self.addresses[name] = address
                console.print(f"  {name:<24} {address:<14} on {pod['spec']['nodeName']}")

    def walk(self) -> None:
        self.ping_and_capture()
        self.curl()

    def ping_and_capture(self) -> None:
        with self.phase("Ping bob from alice, and capture at eight points at once"):
            bob = self.addresses["bob"]
            with self.session.capture(*POINTS, capture_filter="icmp or udp port 8472", path=self.pcap) as capture:
                result = self.session.ping("pod/alice", bob, count=3)
            self.ping = result
            self.sightings = capture.sightings
            console.print(
                f"  {result.received}/{result.sent} replies, ttl {result.ttl}, average {result.average_ms:.3f} ms; "
                f"{len(self.sightings)} sightings in {self.pcap}"
            )
            self._print_walk()

    def _print_walk(self) -> None:
        walk = first_request(self.sightings)
        if not walk:
            return
        console.print(f"\n  One echo request, {walk[0].source} -> {walk[0].destination}, hop by hop:", style="bold")
        for sighting in walk:
            micros = (sighting.time - walk[0].time) * 1e6
            outer = ""
            if sighting.outer:
                outer = f" [cyan]in VXLAN {sighting.outer[2]}: {sighting.outer[0]} -> {sighting.outer[1]} udp/8472[/]"
            role = ROLES.get(sighting.point, "")
            console.print(
                f"  {micros:7.1f} us  {sighting.point:<24} ttl {sighting.ttl:<3} {sighting.length:4} B{outer}  [dim]{role}[/]"
            )

    def curl(self) -> None:
        with self.phase("Fetch a page from every pod of the Deployment"):
            self.pages: dict[str, bool] = {}
            for name, address in self.addresses.items():
                if name.startswith("web-"):
                    answer = self.session.curl("pod/alice", f"http://{address}/")
                    self.pages[name] = answer.exit_code == 0 and "nginx" in answer.stdout
                    console.print(f"  http://{address}/  {'ok' if self.pages[name] else escape(answer.stderr.strip())}")
            self.seen_by_bob = self.session.curl(
                "pod/alice", f"http://{self.addresses['bob']}:8080/clientip"
            ).stdout.strip()
            console.print(f"  bob says: you are {self.seen_by_bob} (alice is {self.addresses['alice']})")

    # --- checks -------------------------------------------------------------------------------------------------

    def walk_checks(self) -> list[Check]:
        return [
            Check("every pod's address is in its node's pod CIDR", self.check_pod_cidrs),
            Check("alice reaches bob", self.check_ping),
            Check("two routers are between them", self.check_ttl, needs=("alice reaches bob",)),
            Check("nobody translates an address", self.check_no_nat, needs=("alice reaches bob",)),
            Check("the underlay carries VXLAN between the nodes", self.check_vxlan, needs=("alice reaches bob",)),
            Check("pods have an MTU of 1450", self.check_mtu),
            Check("one neighbour, FDB entry and route per peer", self.check_peers),
            Check("every web pod answers", self.check_web),
            Check("bob sees alice's own address", self.check_source, needs=("every web pod answers",)),
        ]

    def check_pod_cidrs(self) -> str:
        cidrs = {node["metadata"]["name"]: node["spec"].get("podCIDR", "") for node in self.session.list("nodes")}
        pods = self.session.list("pods")
        for pod in pods:
            cidr = cidrs[pod["spec"]["nodeName"]]
            if ip_address(pod["status"]["podIP"]) not in ip_network(cidr):
                raise CheckFailed(
                    f"{pod['metadata']['name']} has {pod['status']['podIP']}, its node {cidr}",
                    "kubectl get nodes -o wide",
                )
        return f"{len(pods)} pods on {len(cidrs)} nodes"

    def check_ping(self) -> str:
        if self.ping.received != self.ping.sent or not self.ping.sent:
            hops = ", ".join(dict.fromkeys(s.point for s in self.sightings)) or "nowhere"
            raise CheckFailed(
                f"{self.ping.received} of {self.ping.sent} replies; packets were seen at {hops}",
                "the last hop where the request was seen",
            )
        return f"{self.ping.received} of {self.ping.sent} replies"

    def check_ttl(self) -> str:
        if self.ping.ttl != 62:
            raise CheckFailed(
                f"replies come with ttl {self.ping.ttl}, not 64 - 2", "ip route in pod/alice and on both nodes"
            )
        return "ttl 62 = 64 - worker-2 - worker-1"

    def check_no_nat(self) -> str:
        alice, bob = self.addresses["alice"], self.addresses["bob"]
        pairs = {(s.source, s.destination) for s in self.sightings if s.protocol == "icmp"}
        if pairs - {(alice, bob), (bob, alice)}:
            raise CheckFailed(f"other address pairs were seen: {sorted(pairs)}", "nft list ruleset on the nodes")
        return f"{alice} and {bob} at all {len(POINTS)} points"

    def check_vxlan(self) -> str:
        outer = {
            s.outer for s in self.sightings if s.outer and s.point.endswith("eth0") and s.point.startswith("node/")
        }
        nodes = {n["metadata"]["name"]: n["status"]["addresses"][0]["address"] for n in self.session.list("nodes")}
        one, two = nodes["worker-1"], nodes["worker-2"]
        if outer != {(one, two, 1), (two, one, 1)}:
            raise CheckFailed(
                f"outer headers seen: {sorted(outer)}", "podnet exec node/worker-1 -- bridge fdb show dev flannel.1"
            )
        return f"VNI 1, {one} <-> {two}"

    def check_mtu(self) -> str:
        text = self.session.run_in("pod/alice", "cat", "/sys/class/net/eth0/mtu").stdout.strip()
        if text != "1450":
            raise CheckFailed(
                f"eth0 of alice has {text}", "1500 minus 50 bytes of outer Ethernet, IP, UDP and VXLAN headers"
            )
        return "1500 - 14 - 20 - 8 - 8"

    def check_peers(self) -> str:
        peers = len(self.session.list("nodes")) - 1
        neighbours = self.session.run_in(
            "node/worker-1", "ip", "neigh", "show", "dev", "flannel.1", "nud", "permanent"
        ).stdout.splitlines()
        fdb = self.session.run_in("node/worker-1", "bridge", "fdb", "show", "dev", "flannel.1").stdout
        routes = self.session.run_in("node/worker-1", "ip", "route", "show", "dev", "flannel.1").stdout.splitlines()
        counts = (len(neighbours), fdb.count("permanent"), len(routes))
        if counts != (peers, peers, peers):
            raise CheckFailed(
                f"neighbours, FDB entries, routes: {counts}, peers: {peers}",
                "podnet exec node/worker-1 -- ip neigh show dev flannel.1",
            )
        return f"{peers} of each on worker-1"

    def check_web(self) -> str:
        silent = [name for name, good in self.pages.items() if not good]
        if silent or not self.pages:
            raise CheckFailed(
                f"no page from {', '.join(silent) or 'any pod'}",
                f"kubectl logs {silent[0] if silent else 'deploy/web'}",
            )
        return f"{len(self.pages)} pages"

    def check_source(self) -> str:
        if self.seen_by_bob.rpartition(":")[0] != self.addresses["alice"]:
            raise CheckFailed(f"bob sees {self.seen_by_bob}", "a masquerade rule on worker-1: nft list ruleset")
        return self.seen_by_bob

    # --- exercises ----------------------------------------------------------------------------------------------

    def solve(self) -> None:
        with self.phase("The exercises, solved"):
            # Neither the node nor the network of a pod can be changed while it lives.
            for name in ("carol", "dave"):
                self.kubectl("delete", "pod", name, "--ignore-not-found", "--now")
            self.apply(self.folder() / "solution")
            for name in ("carol", "dave"):
                self.session.wait_ready("pod", name)

    def exercise_checks(self) -> list[Check]:
        return [
            Check("exercise 1: bob sees carol by an address of her own", self.check_carol),
            Check("exercise 2: dave runs, on another node than alice", self.check_dave),
            Check(
                "exercise 2: two routers are between dave and alice",
                self.check_dave_ttl,
                needs=("exercise 2: dave runs, on another node than alice",),
            ),
        ]

    def check_carol(self) -> str:
        pod = self.session.get("pod", "carol")
        node = self.session.get("node", pod["spec"].get("nodeName") or "worker-1")
        address = pod["status"].get("podIP", "")
        if not address or ip_address(address) not in ip_network(node["spec"]["podCIDR"]):
            raise CheckFailed(
                f"carol has {address or 'no address'}; pods of {node['metadata']['name']} have {node['spec']['podCIDR']}",
                "podnet exec pod/carol -- ip -br addr: whose interfaces are these?",
            )
        seen = self.session.curl("pod/carol", f"http://{self.session.pod_ip('bob')}:8080/clientip").stdout.strip()
        if seen.rpartition(":")[0] != address:
            raise CheckFailed(f"bob sees {seen or 'nobody'}, carol has {address}", "podnet capture pod/bob")
        return seen

    def check_dave(self) -> str:
        pod = self.session.get("pod", "dave")
        if pod["status"]["phase"] != "Running":
            why = [c.get("message", "") for c in pod["status"].get("conditions", ()) if c["status"] == "False"]
            raise CheckFailed(f"{pod['status']['phase']}: {(why or ['?'])[0]}", "kubectl describe pod dave")
        if pod["spec"]["nodeName"] == self.session.get("pod", "alice")["spec"]["nodeName"]:
            raise CheckFailed(f"both are on {pod['spec']['nodeName']}", "nodeSelector, nodeName, kubectl get nodes")
        return f"on {pod['spec']['nodeName']}"

    def check_dave_ttl(self) -> str:
        ping = self.session.ping("pod/dave", self.session.pod_ip("alice"))
        if ping.ttl != 62 or ping.received != ping.sent:
            raise CheckFailed(f"{ping.received} of {ping.sent} replies, ttl {ping.ttl}", "ip route in pod/dave")
        return f"ttl {ping.ttl}"


def first_request(sightings: list[Sighting]) -> list[Sighting]:
    """The sightings of the first echo request, one a point, in order of time."""
    requests = [s for s in sightings if s.summary.startswith("echo-request")]
    if not requests:
        return []
    seen: dict[str, Sighting] = {}
    for sighting in requests:
        if sighting.summary == requests[0].summary:
            seen.setdefault(sighting.point, sighting)
    return list(seen.values())


if __name__ == "__main__":
    sys.exit(main(PodToPod))

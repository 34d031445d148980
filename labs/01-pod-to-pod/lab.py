#!/usr/bin/env python3
"""Lab 01, pod to pod: boot, apply, ping, curl, capture, look, check. `make lab` runs this; README.md explains it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from podnet.lab import Check, CheckResult, LabSession, Sighting, run_checks
from podnet.lab.checks import CheckFailed, exit_code
from podnet.lab.session import to_json
from podnet.launch import ClusterError
from podnet.topology.spec import default_cluster_spec

HERE = Path(__file__).resolve().parent
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
console = Console(highlight=False, soft_wrap=True)


class Lab:
    """The steps; each prints what it did."""

    def __init__(self, session: LabSession, pcap: Path) -> None:
        self.session = session
        self.pcap = pcap
        self.phases: list[tuple[str, float]] = []
        self.sightings: list[Sighting] = []
        self.addresses: dict[str, str] = {}

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        console.print(f"\n[bold]{title}[/]")
        began = time.monotonic()
        yield
        self.phases.append((title, time.monotonic() - began))

    def apply(self) -> None:
        with self.phase("Apply two pods and a Deployment"):
            how = "kubectl apply -f manifests/" if self.session.kubectl_path else "podnet apply -f manifests/"
            console.print(f"$ {how}", style="dim")
            console.print(escape(self.session.apply(HERE / "manifests").rstrip()))
            for kind, name in (("pod", "alice"), ("pod", "bob"), ("deployment", "web")):
                self.session.wait_ready(kind, name)
            for pod in self.session.list("pods"):
                name, address = pod["metadata"]["name"], pod["status"]["podIP"]
                self.addresses[name] = address
                console.print(f"  {name:<24} {address:<14} on {pod['spec']['nodeName']}")

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

    def checks(self) -> list[Check]:
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


def show_result(result: CheckResult) -> None:
    mark = {"pass": "[green]pass[/]", "fail": "[red]FAIL[/]", "skip": "[yellow]skip[/]"}[result.status]
    console.print(f"  {mark}  {escape(result.name)}  [dim]{escape(result.seen)}[/]")
    if result.look_at:
        console.print(f"        look at: {escape(result.look_at)}")


def show_boot(event: dict[str, object]) -> None:
    console.print(f"  {event['phase']:<16} {event['seconds']:6.2f} s  [dim]{event.get('detail', '')}[/]")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster running at the end")
    parser.add_argument("--name", default=f"lab-01-{os.getpid()}", help="name of the cluster")
    parser.add_argument("-w", "--write", type=Path, default=Path("lab-01.pcapng"), help="where the capture goes")
    parser.add_argument("--json", action="store_true", help="print the results as JSON at the end")
    options = parser.parse_args()
    console.print("[bold]Lab 01: pod to pod[/]  two pods on two nodes, and every hop between them")
    console.print("\n[bold]Boot[/]")
    session = LabSession(default_cluster_spec(options.name, workers=2), keep=options.keep, on_progress=show_boot)
    if session.kubectl_path is None:
        console.print("[yellow]kubectl is not on PATH:[/] podnet's small client applies the manifests instead.")
        console.print("  get it: https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/", style="dim")
    try:
        with session:
            return run_lab(Lab(session, options.write), as_json=options.json)
    except ClusterError as err:
        console.print(f"[bold red]podnet:[/] {escape(str(err))}" + (f"\n  fix: {escape(err.fix)}" if err.fix else ""))
        return 1


def run_lab(lab: Lab, *, as_json: bool) -> int:
    lab.phases.append(("Boot", lab.session.seconds_to_boot))
    lab.apply()
    lab.ping_and_capture()
    lab.curl()
    console.print("\n[bold]Checks[/]")
    results = run_checks(lab.checks(), show_result)
    console.print("\n[bold]Where the time went[/]")
    for title, seconds in lab.phases:
        console.print(f"  {seconds:6.2f} s  {title}")
    if as_json:
        print(to_json({"checks": [vars_of(r) for r in results], "phases": dict(lab.phases)}))
    passed = sum(result.status == "pass" for result in results)
    console.print(f"\n{passed} of {len(results)} checks passed")
    if lab.session.keep:
        console.print(f"The cluster stays up: podnet status --cluster {lab.session.spec.name}")
    return exit_code(results)


def vars_of(result: CheckResult) -> dict[str, str]:
    return {"name": result.name, "status": result.status, "seen": result.seen, "lookAt": result.look_at}


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Lab 02, Services: an address that no interface has, and what each node does about it. README.md explains it."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from typing import Any

from podnet.lab import Check, Lesson, Sighting
from podnet.lab.checks import CheckFailed
from podnet.lab.lesson import console
from podnet.lab.tour import main
from podnet.launch import ask

ALICE, OUTSIDE = "pod/alice", "host/client"
POINTS = (ALICE, "node/worker-1:cni0", "node/worker-1:eth0", "pod/web-1", "pod/web-2", "pod/web-3")
WEB = ("web-1", "web-2", "web-3")
TRIES = 60


class Services(Lesson):
    """One Service, from every side."""

    title = "Lab 02: Services"
    summary = "an address that no interface has, and what each node does about it"

    def prepare(self) -> None:
        with self.phase("Apply three servers, two Services over them, and alice"):
            self.apply(self.folder() / "manifests")
            for name in (*WEB, "alice"):
                self.session.wait_ready("pod", name)
            self.web_ip = self._cluster_ip("web")
            self.sticky_ip = self._cluster_ip("sticky")
            self.names = {self.session.pod_ip(name): name for name in WEB}
            self.workers = {n["metadata"]["name"]: n["status"]["addresses"][0]["address"] for n in self._nodes()}
            self.session.wait_until(lambda: len(self._ask(ALICE, f"http://{self.web_ip}/hostname")) > 0, "web answers")
            self.tell(f"web is {self.web_ip}; " + ", ".join(f"{name} {ip}" for ip, name in self.names.items()))

    def _cluster_ip(self, name: str) -> str:
        return str(self.session.get("service", name)["spec"]["clusterIP"])

    def _nodes(self) -> list[dict[str, Any]]:
        return self.session.list("nodes", "")

    def _ask(self, source: str, url: str) -> str:
        return self.session.run_in(source, "curl", "-sS", "--max-time", "2", url).stdout.strip()

    # --- the walk -------------------------------------------------------------------------------------------------

    def walk(self) -> None:
        self.follow_one_request()
        self.count_the_spread()
        self.come_from_outside()
        self.stick()
        self.lose_a_backend()

    def follow_one_request(self) -> None:
        with self.phase(f"One request from alice to {self.web_ip}, and who sees which address"):
            with self.session.capture(*POINTS, capture_filter="tcp or udp port 8472", path=self.pcap) as capture:
                self.answered_by = self._ask(ALICE, f"http://{self.web_ip}/hostname")
            self.opening = first_syn(capture.sightings, self.web_ip)
            for sighting in self.opening:
                wrapped = " [cyan]in VXLAN[/]" if sighting.outer else ""
                console.print(
                    f"  {sighting.point:<20} {sighting.source:>12} -> {self._named(sighting.destination)}{wrapped}"
                )
            self.flows = [
                flow
                for flow in ask(self.session.directories, {"verb": "conntrack", "target": "node/worker-1"})["flows"]
                if flow["destination"] == self.web_ip and flow["source_port"] == source_port(self.opening)
            ]
            for flow in self.flows[-1:]:
                self.tell(
                    f"conntrack on worker-1: {flow['source']} -> {flow['destination']}:{flow['destination_port']}, answered "
                    f"by {flow['reply_source']}:{flow['reply_source_port']}"
                )

    def _named(self, address: str) -> str:
        names = {**self.names, self.web_ip: "the Service"}
        return f"{address} ({names[address]})" if address in names else address

    def count_the_spread(self) -> None:
        with self.phase(f"{TRIES} requests, and who answers"):
            self.spread = self._tally(f"http://{self.web_ip}/hostname", TRIES)
            for name in WEB:
                self.tell(f"{name}  {self.spread[name]:3}  {'#' * self.spread[name]}")

    def _tally(self, url: str, count: int) -> Counter[str]:
        loop = f"for i in $(seq {count}); do curl -sS --max-time 2 {url} 2>&1; echo; done"
        return Counter(self.session.run_in(ALICE, "sh", "-c", loop).stdout.split("\n")[:-1])

    def come_from_outside(self) -> None:
        with self.phase("From outside, through a port of any node: first Cluster, then Local"):
            url = f"http://{self.workers['worker-1']}:30080/clientip"
            self.seen: dict[str, Counter[str]] = {}
            for policy in ("Cluster", "Local"):
                if policy == "Local":
                    self.kubectl("patch", "service", "web", "-p", '{"spec":{"externalTrafficPolicy":"Local"}}')
                    self.session.wait_until(self._only_the_client, "the rules follow")
                answers = [self._ask(OUTSIDE, url).rpartition(":")[0] for _ in range(12)]
                self.seen[policy] = Counter(answers)
                self.tell(f"{policy:<8} the pods see {', '.join(sorted(self.seen[policy]))}")
            self.control_plane = self._ask(OUTSIDE, f"http://{self.workers['control-plane']}:30080/clientip")
            self.tell(f"Local, on control-plane, which has no endpoint: {self.control_plane or 'silence'}")
            self.kubectl("patch", "service", "web", "-p", '{"spec":{"externalTrafficPolicy":"Cluster"}}')

    def _only_the_client(self) -> bool:
        url = f"http://{self.workers['worker-1']}:30080/clientip"
        return self._ask(OUTSIDE, url).rpartition(":")[0] == self._client_ip()

    def _client_ip(self) -> str:
        found = re.search(r"inet (\d[\d.]+)", self.session.run_in(OUTSIDE, "ip", "-4", "addr", "show", "eth0").stdout)
        return found[1] if found else ""

    def stick(self) -> None:
        with self.phase("sessionAffinity: ClientIP"):
            self.stuck = self._tally(f"http://{self.sticky_ip}/hostname", 20)
            self.tell(f"20 requests, all to {', '.join(self.stuck)}")

    def lose_a_backend(self) -> None:
        with self.phase("web-2 dies"):
            began = time.monotonic()
            self.kubectl("delete", "pod", "web-2", "--force", "--grace-period=0")
            gone = next(ip for ip, name in self.names.items() if name == "web-2")
            self.session.wait_until(lambda: gone not in self._rules(), "no rule names it any more")
            self.took_s = time.monotonic() - began
            self.after = self._tally(f"http://{self.web_ip}/hostname", TRIES)
            self.tell(f"no rule on worker-1 names {gone} any more after {self.took_s:.2f} s")
            self.tell(f"{TRIES} requests: {', '.join(f'{name} {count}' for name, count in self.after.items())}")

    def _rules(self) -> str:
        return self.session.run_in("node/worker-1", "nft", "list", "table", "ip", "kube-proxy").stdout

    # --- checks of the walk ---------------------------------------------------------------------------------------

    def walk_checks(self) -> list[Check]:
        return [
            Check("only alice and her bridge see the Service's address", self.check_dnat),
            Check("conntrack knows both sides", self.check_conntrack),
            Check("nobody masquerades a pod that calls a ClusterIP", self.check_no_masquerade),
            Check("every backend answers", self.check_spread),
            Check("Cluster hides the client behind the node", self.check_cluster),
            Check("Local keeps the client's address", self.check_local),
            Check("Local is silent where there is no endpoint", self.check_silence),
            Check("affinity keeps to one backend", self.check_sticky),
            Check("a dead backend is nobody's destination", self.check_death),
        ]

    def check_dnat(self) -> str:
        places = {sighting.point for sighting in self.opening if sighting.destination == self.web_ip}
        translated = {s.point for s in self.opening if s.destination in self.names}
        if places - {ALICE, "node/worker-1:cni0"} or not translated:
            raise CheckFailed(
                f"{self.web_ip} was seen at {sorted(places)}", "nft list chain ip kube-proxy nat-prerouting"
            )
        return f"{self.web_ip} at {', '.join(sorted(places))}; a pod's address at {', '.join(sorted(translated))}"

    def check_conntrack(self) -> str:
        if not self.flows or self.flows[-1]["reply_source"] not in self.names:
            raise CheckFailed(f"{len(self.flows)} entries", "podnet conntrack node/worker-1")
        return f"{self.flows[-1]['destination']} is answered by {self.names[self.flows[-1]['reply_source']]}"

    def check_no_masquerade(self) -> str:
        sources = {sighting.source for sighting in self.opening}
        if sources != {self.session.pod_ip("alice")}:
            raise CheckFailed(f"sources seen: {sorted(sources)}", "chain masquerading in table ip kube-proxy")
        return f"{sources.pop()} at every point"

    def check_spread(self) -> str:
        if set(self.spread) != set(WEB):
            raise CheckFailed(f"{dict(self.spread)}", "kubectl get endpointslices")
        return ", ".join(f"{name} {self.spread[name]}" for name in WEB)

    def check_cluster(self) -> str:
        # web-1 is on that node, so its own address is seen there; the others see it as an address of the node, too.
        seen = set(self.seen["Cluster"])
        if self._client_ip() in seen or "" in seen:
            raise CheckFailed(f"the pods saw {sorted(seen)}", "the masquerade mark in the Service's external chain")
        return f"{', '.join(sorted(seen))}, an address of worker-1 that the answer comes back to"

    def check_local(self) -> str:
        if set(self.seen["Local"]) != {self._client_ip()}:
            raise CheckFailed(f"the pods saw {sorted(self.seen['Local'])}", "kubectl get service web -o yaml")
        return f"{self._client_ip()}, and only web-1 was asked"

    def check_silence(self) -> str:
        if self.control_plane:
            raise CheckFailed(f"control-plane answered {self.control_plane}", "nft list table ip kube-proxy there")
        return "dropped: a balancer in front sees it as down (healthCheckNodePort)"

    def check_sticky(self) -> str:
        if len(self.stuck) != 1:
            raise CheckFailed(
                f"{dict(self.stuck)}", "the affinity set of Service sticky in nft list table ip kube-proxy"
            )
        return f"20 of 20 to {next(iter(self.stuck))}"

    def check_death(self) -> str:
        if set(self.after) - {"web-1", "web-3"}:
            raise CheckFailed(f"{dict(self.after)}", "kubectl get endpointslices -o yaml")
        return f"{TRIES} of {TRIES} answered, {self.took_s:.2f} s after its death began"

    # --- exercises ------------------------------------------------------------------------------------------------

    def solve(self) -> None:
        super().solve()
        for name in ("shop-1", "bank-1", "door-1"):
            self.session.wait_ready("pod", name)

    def exercise_checks(self) -> list[Check]:
        return [
            Check("exercise 1: shop answers", lambda: self.check_answers("shop")),
            Check("exercise 2: bank answers", lambda: self.check_answers("bank")),
            Check("exercise 3: the doorman sees the client", self.check_door),
        ]

    def check_answers(self, name: str) -> str:
        url = f"http://{self._cluster_ip(name)}/hostname"
        deadline = time.monotonic() + 5  # rules follow within a moment, not at once
        while True:
            answer = self.session.run_in(ALICE, "curl", "-sS", "--max-time", "2", url)
            if answer.stdout.strip() == f"{name}-1":
                return f"{name}-1"
            if time.monotonic() > deadline:
                raise CheckFailed(
                    answer.stderr.strip() or answer.stdout.strip(),
                    f"kubectl get endpointslices -l kubernetes.io/service-name={name} -o yaml; kubectl describe service {name}",
                )
            time.sleep(0.2)

    def check_door(self) -> str:
        nodes = {n["metadata"]["name"]: n["status"]["addresses"][0]["address"] for n in self._nodes()}
        node = self.session.get("pod", "door-1")["spec"]["nodeName"]
        seen = self._ask(OUTSIDE, f"http://{nodes[node]}:30090/clientip").rpartition(":")[0]
        if seen != self._client_ip():
            raise CheckFailed(
                f"he saw {seen or 'nobody'}, the client is {self._client_ip()}",
                f"podnet conntrack node/{node}: who masqueraded?",
            )
        return seen


def first_syn(sightings: list[Sighting], service: str) -> list[Sighting]:
    """The packet that opens alice's connection to a Service, once a point, in order of time.

    NAT changes addresses and ports, not the sequence number: it tells her packet from a kubelet's probe of the same pods.
    """
    syns = [each for each in sightings if each.protocol == "tcp" and "[S]" in each.summary]
    sent = next((each for each in syns if each.point == ALICE and each.destination == service), None)
    if sent is None:
        return []
    seen: dict[str, Sighting] = {}
    for each in syns:
        if sequence(each) == sequence(sent):
            seen.setdefault(each.point, each)
    return list(seen.values())


def sequence(sighting: Sighting) -> str:
    """`41234 > 80 [S] seq 7 len 0` to `7`."""
    return sighting.summary.partition(" seq ")[2].partition(" ")[0]


def source_port(opening: list[Sighting]) -> int:
    """From which port alice asked; 0 when she was not seen."""
    return int(opening[0].summary.partition(" ")[0]) if opening else 0


if __name__ == "__main__":
    sys.exit(main(Services))

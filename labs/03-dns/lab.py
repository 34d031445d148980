#!/usr/bin/env python3
"""Lab 03, DNS: what a name costs, who answers, and what it looks like when nobody does. README.md explains it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape

from podnet.lab import Check, Lesson
from podnet.lab.checks import CheckFailed
from podnet.lab.lesson import console
from podnet.lab.lookups import DNSPacket, Lookup, decode_lookups, lookups
from podnet.lab.tour import main

ALICE, OUTSIDE = "pod/alice", "host/internet"
NAME = "www.example.com"
SEARCHES = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "dc1.example.net")
UNKNOWN = "never-heard-of.example.com"
FILTER = "port 53 or udp port 8472"
SYSTEM = "kube-system"


class DNS(Lesson):
    """Names of the cluster and of the world outside."""

    title = "Lab 03: DNS"
    summary = "what a name costs, who answers, and what it looks like when nobody does"

    def alice(self, *argv: str) -> str:
        """What a program in alice prints."""
        console.print(f"alice$ {' '.join(argv)}", style="dim")
        return self.session.run_in(ALICE, *argv).stdout

    @contextmanager
    def capturing(self, path: Path | None = None) -> Iterator[list[DNSPacket]]:
        """What goes past alice and past the world outside meanwhile; filled in at the end."""
        found: list[DNSPacket] = []
        path = path or self.pcap.with_suffix(".part.pcapng")
        with self.session.capture(ALICE, OUTSIDE, capture_filter=FILTER, path=path):
            yield found
        found += decode_lookups(path)
        if path != self.pcap:
            path.unlink()

    # --- the walk -----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        with self.phase("Apply alice, a Deployment and its two Services"):
            self.apply(self.folder() / "manifests")
            self.session.wait_ready("pod", "alice")
            self.session.wait_ready("deployment", "web")
            self.session.wait_ready("deployment", "coredns", SYSTEM)
            # The first answer may be a denial that was made before the Services were there.
            self.session.wait_until(
                lambda: len(self._short("web-headless.default.svc.cluster.local.")) == 3, "its names"
            )
            console.print(escape(self.alice("cat", "/etc/resolv.conf").rstrip()))

    def _short(self, *words: str) -> list[str]:
        return self.session.run_in(ALICE, "dig", "+short", *words).stdout.split()

    def walk(self) -> None:
        self.look_outside()
        self.compare_services()
        self.remember_denials()
        self.kill_dns()

    def look_outside(self) -> None:
        with self.phase(f"Look up {NAME}, and count"):
            with self.capturing(self.pcap) as packets:
                self.found = self.alice("getent", "ahostsv4", NAME).split()[:1]
            self.cost = lookups(packets, ALICE)
            self.left = lookups(packets, OUTSIDE)
            show("seen at alice", self.cost)
            show("of these, left the cluster", self.left)
            with self.capturing() as packets:
                self.alice("getent", "ahostsv4", f"{NAME}.")
            self.absolute = lookups(packets, ALICE)
            show("with a final dot", self.absolute)

    def compare_services(self) -> None:
        with self.phase("A Service with an address, and one without"):
            self.cluster_ip = self._shown("web.default.svc.cluster.local.")
            self.headless = [self._shown("web-headless.default.svc.cluster.local.") for _ in range(2)]
            self.srv = self._shown("_http._tcp.web-headless.default.svc.cluster.local.", "SRV")

    def _shown(self, *words: str) -> list[str]:
        lines = self.alice("dig", "+short", *words).splitlines()
        for line in lines:
            console.print(f"  {line}")
        return lines

    def remember_denials(self) -> None:
        with self.phase(f"Ask six times for {UNKNOWN}, which is nobody"):
            with self.capturing() as packets:
                for _ in range(6):
                    self._short(f"{UNKNOWN}.")
            self.denied = lookups(packets, ALICE)
            self.denied_outside = lookups(packets, OUTSIDE)
            show("seen at alice", self.denied)
            show("of these, left the cluster", self.denied_outside)

    def kill_dns(self) -> None:
        with self.phase("No coredns any more"):
            self.web_ip = self.session.get("service", "web")["spec"]["clusterIP"]
            self.kubectl("-n", SYSTEM, "scale", "deployment/coredns", "--replicas=0")
            # Without their lameduck, which lasts five seconds and is not what is looked at here.
            words = ("delete", "pod", "-l", "k8s-app=kube-dns", "--grace-period=1", "--wait=false")
            self.session.kubectl("-n", SYSTEM, *words)
            self.session.wait_until(lambda: not self._servers(), "no server is left")
            self.session.wait_until(lambda: "refused" in self._dig_refused(), "nobody answers", 20)
            began = time.monotonic()
            self.refused = self._dig_refused()
            self.refused_s = time.monotonic() - began
            console.print(f"  {escape(self.refused.strip().splitlines()[0])} [dim]after {self.refused_s:.2f} s[/]")
            self.by_name = self.session.curl(ALICE, "http://web.default.svc.cluster.local./")
            self.by_address = self.session.curl(ALICE, f"http://{self.web_ip}/")
            console.print(f"  by name: {escape(self.by_name.stderr.strip())}")
            console.print(f"  by address: {'a page' if 'nginx' in self.by_address.stdout else 'nothing'}")
            self._block_dns()
            self.kubectl("-n", SYSTEM, "scale", "deployment/coredns", "--replicas=2")
            self.session.wait_ready("deployment", "coredns", SYSTEM)
            self.session.wait_until(lambda: self._short("web.default.svc.cluster.local.") == [self.web_ip], "names", 30)

    def _servers(self) -> list[object]:
        """Every pod of the add-on that is still there."""
        return self.session.list("pods", SYSTEM, "k8s-app=kube-dns")

    def _dig_refused(self) -> str:
        result = self.session.run_in(ALICE, "dig", "+tries=1", "+time=2", "web.default.svc.cluster.local.")
        return result.stdout + result.stderr

    def _block_dns(self) -> None:
        """The other death: a server that is there and says nothing, so that the resolver waits for it."""
        rules = "add table inet lab; add chain inet lab out { type filter hook prerouting priority -400; }; "
        rules += "add rule inet lab out udp dport 53 drop"
        self.session.run_in("node/worker-1", "nft", rules)
        try:
            began = time.monotonic()
            result = self.session.run_in(ALICE, "dig", "+tries=1", "+time=2", "web.default.svc.cluster.local.")
            self.silent, self.silent_s = result.stdout + result.stderr, time.monotonic() - began
        finally:
            self.session.run_in("node/worker-1", "nft", "delete table inet lab")
        first = next((line for line in self.silent.splitlines() if "timed out" in line or "no servers" in line), "?")
        console.print(f"  dropped on the way: {escape(first)} [dim]after {self.silent_s:.2f} s[/]")

    # --- the exercises --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        super().begin()
        self.wait_for_exercises()

    def solve(self) -> None:
        super().solve()
        # The server reads its Corefile again within 45 s; a lab does not want to wait.
        self.kubectl("-n", SYSTEM, "rollout", "restart", "deployment/coredns")
        self.session.kubectl("-n", SYSTEM, "rollout", "status", "deployment/coredns", "--timeout=60s")
        self.wait_for_exercises()
        self.session.wait_until(lambda: self._short("+search", "db-0.db") != [], "the names of the database", 30)

    def wait_for_exercises(self) -> None:
        """Until what was applied runs; whether it does what it should is for the checks."""
        self.session.wait_ready("deployment", "agent")
        for member in ("db-0", "db-1"):
            self.session.wait_until(lambda name=member: self._is_running(name), f"{member} runs", 60)

    def _is_running(self, pod: str) -> bool:
        pods = self.session.list("pods", selector="app=db")
        return any(p["metadata"]["name"] == pod and p["status"].get("phase") == "Running" for p in pods)

    # --- checks -----------------------------------------------------------------------------------------------------

    def walk_checks(self) -> list[Check]:
        return [
            Check("a name outside costs five lookups", self.check_five),
            Check("only the last two leave the cluster", self.check_left, needs=("a name outside costs five lookups",)),
            Check("a final dot makes it one", self.check_absolute),
            Check("a ClusterIP is one address, headless are all", self.check_headless),
            Check("SRV of a headless Service names every endpoint", self.check_srv),
            Check("a denial is remembered", self.check_denial),
            Check("without a server a lookup is refused at once", self.check_refused),
            Check("a silent server costs the whole timeout", self.check_silent),
            Check("addresses work without names", self.check_address),
        ]

    def exercise_checks(self) -> list[Check]:
        return [
            Check("the database's members have names", self.check_database),
            Check("the agent finds web", self.check_agent),
            Check("the server walks the search list", self.check_autopath),
        ]

    def check_five(self) -> str:
        names = [each.question.name for each in self.cost]
        wanted = [*(f"{NAME}.{domain}." for domain in SEARCHES), f"{NAME}."]
        if names != wanted or [each.rcode for each in self.cost] != ["NXDOMAIN"] * 4 + ["NOERROR"]:
            raise CheckFailed(
                f"{len(names)} lookups: {', '.join(names)}", "podnet exec pod/alice -- cat /etc/resolv.conf"
            )
        return f"{' '.join(each.rcode for each in self.cost)}: {self.found[0]}"

    def check_left(self) -> str:
        names = {each.question.name for each in self.left}
        if names - {f"{NAME}.{SEARCHES[-1]}.", f"{NAME}."}:
            raise CheckFailed(f"outside saw {sorted(names)}", "logs/podnet-internet.log in the cluster's directory")
        return f"{len(names)} names: {', '.join(sorted(names)) or 'none, they were in a cache'}"

    def check_absolute(self) -> str:
        if [each.question.name for each in self.absolute] != [f"{NAME}."]:
            raise CheckFailed(f"{len(self.absolute)} lookups", "did you write the final dot?")
        return "1 lookup"

    def check_headless(self) -> str:
        pods = sorted(pod["status"]["podIP"] for pod in self.session.list("pods", selector="app=web"))
        if self.cluster_ip != [self.web_ip] or any(sorted(each) != pods for each in self.headless):
            raise CheckFailed(f"{self.cluster_ip} and {self.headless}, pods {pods}", "kubectl get endpointslices")
        return f"{self.web_ip}; {', '.join(pods)}"

    def check_srv(self) -> str:
        if len(self.srv) != 3 or any(not line.startswith("0 33 80 ") for line in self.srv):
            raise CheckFailed(f"{self.srv}", "kubectl get service web-headless -o yaml: is the port named?")
        return self.srv[0]

    def check_denial(self) -> str:
        asked, outside = len(self.denied), len(self.denied_outside)
        if {each.rcode for each in self.denied} != {"NXDOMAIN"} or asked != 6 or outside > 2:
            raise CheckFailed(f"{asked} asked, {outside} left the cluster", "the cache in the Corefile")
        keeps = next((each.answer.negative_ttl for each in self.denied_outside if each.answer), None)
        return f"6 asked, {outside} left the cluster (two servers, a cache each); kept for {keeps} s"

    def check_refused(self) -> str:
        if "refused" not in self.refused or self.refused_s > 1.5:
            raise CheckFailed(
                f"{self.refused.strip()[-80:]} after {self.refused_s:.1f} s", "nft list ruleset on worker-1"
            )
        return f"connection refused after {self.refused_s:.2f} s: no endpoint, so the node says so"

    def check_silent(self) -> str:
        if self.silent_s < 1.9 or "refused" in self.silent:
            raise CheckFailed(f"an answer after {self.silent_s:.1f} s", "the rule that should drop it")
        return f"timed out after {self.silent_s:.1f} s; a resolver tries twice, five seconds each"

    def check_address(self) -> str:
        if self.by_name.exit_code == 0 or "nginx" not in self.by_address.stdout:
            raise CheckFailed("the page by name, or none by address", f"podnet curl pod/alice http://{self.web_ip}/")
        return f"http://{self.web_ip}/ answers, http://web/ does not: {self.by_name.stderr.strip()[:60]}"

    def check_database(self) -> str:
        found = {name: self._short("+search", f"{name}.db") for name in ("db-0", "db-1")}
        ips = {name: [self.session.pod_ip(name)] for name in found}
        if found != ips:
            raise CheckFailed(
                f"db-0.db is {found['db-0'] or 'nobody'}", "serviceName of the StatefulSet; kubectl get svc"
            )
        return ", ".join(f"{name}.db {ip[0]}" for name, ip in ips.items())

    def check_agent(self) -> str:
        pods = self.session.list("pods", selector="app=agent")
        if not pods:
            raise CheckFailed("there is no pod of the agent", "kubectl describe deployment agent")
        agent = f"pod/{pods[-1]['metadata']['name']}"
        answer = self.session.curl(agent, "http://web.default/")
        if "nginx" not in answer.stdout:
            raise CheckFailed(answer.stderr.strip(), f"podnet exec {agent} -- cat /etc/resolv.conf")
        return "a page from http://web.default/"

    def check_autopath(self) -> str:
        with self.capturing() as packets:
            self.session.run_in(ALICE, "getent", "ahostsv4", NAME)
        found = lookups(packets, ALICE)
        names = [each.question.name for each in found]
        if names != [f"{NAME}.{SEARCHES[0]}."] or found[0].rcode != "NOERROR":
            raise CheckFailed(
                f"{len(names)} lookups", "kubectl -n kube-system logs deploy/coredns; coredns.io/plugins/autopath"
            )
        answer = found[0].answer
        return f"1 lookup: {' -> '.join(answer.answers) if answer else ''}"


def show(title: str, found: Sequence[Lookup]) -> None:
    console.print(f"  {title}: {len(found)}", style="bold")
    for each in found:
        took = f"{(each.answer.time - each.question.time) * 1e3:6.2f} ms" if each.answer else "         "
        said = " ".join(each.answer.answers) if each.answer else ""
        console.print(f"    {took}  {each.question.type:<5}{each.question.name:<52} {each.rcode:<9} {said}")


if __name__ == "__main__":
    sys.exit(main(DNS))

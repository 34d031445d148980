#!/usr/bin/env python3
"""Lab 07, the control plane itself: three etcd members, the leader cut off, the majority lost. README.md explains it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from podnet import launch
from podnet.etcd import etcdctl_environment, read_members, restore
from podnet.lab import Check, Lesson
from podnet.lab.checks import CheckFailed
from podnet.lab.tour import main
from podnet.launch import ClusterError, ask

SNAPSHOT = "lab-07.db"
NUMBER = "271828"
NEAR = 25


class ControlPlane(Lesson):
    """Who decides, and what happens to the rest meanwhile."""

    title = "Lab 07: the control plane itself"
    summary = "three etcd members: cut the leader off, lose the majority, restore a snapshot"

    def prepare(self) -> None:
        with self.phase("Apply what must go on working"):
            self.apply(self.folder() / "manifests")
            self.session.wait_ready("deployment", "web")
            self.session.wait_ready("pod", "alice")
            self.web_ip = self.session.get("service", "web")["spec"]["clusterIP"]

    # --- etcdctl on a control-plane node --------------------------------------------------------------------------

    def etcdctl(self, node: str, *words: str, alone: bool = False) -> str:
        """What the real etcdctl prints on a node; "" when it fails. `alone`: only that node's member is asked."""
        members = read_members(self.session.paths)
        asked = tuple(member for member in members if member.name == node or not alone)
        environment = etcdctl_environment(asked, self.session.paths.pki_dir)
        env = [f"{name}={value}" for name, value in environment.items()]
        result = self.session.run_in(f"node/{node}", "env", *env, "etcdctl", "--command-timeout=1s", *words)
        return result.stdout if result.exit_code == 0 else ""

    def members(self, *, asked_on: str = "cp-1") -> dict[str, dict[str, Any]]:
        """Name → status of the members that answer when asked from a node."""
        asked = [member.name for member in read_members(self.session.paths)]
        found = {name: self._status(asked_on, name) for name in asked}
        return {name: status for name, status in found.items() if status is not None}

    def _status(self, asked_on: str, name: str) -> dict[str, Any] | None:
        members = read_members(self.session.paths)
        environment = etcdctl_environment(tuple(m for m in members if m.name == name), self.session.paths.pki_dir)
        env = [f"{key}={value}" for key, value in environment.items()]
        words = ["etcdctl", "--command-timeout=1s", "--dial-timeout=1s", "endpoint", "status", "-w", "json"]
        result = self.session.run_in(f"node/{asked_on}", "env", *env, *words)
        if result.exit_code:
            return None
        status: dict[str, Any] = json.loads(result.stdout)[0]["Status"]
        return status

    def leader(self) -> str:
        """The leader, as the members that can be reached from cp-1 see it."""
        found = self.members()
        return next((name for name, s in found.items() if s["leader"] == s["header"]["member_id"]), "")

    def lead(self, name: str) -> None:
        """Make a member the leader, so that the lab always looks alike."""
        self.session.wait_until(lambda: len(self.members()) == 3 and bool(self.leader()), "three members with a leader")
        if self.leader() != name:
            target = self.members()[name]["header"]["member_id"]
            self.etcdctl(self.leader(), "move-leader", f"{target:x}", alone=True)
            self.session.wait_until(lambda: self.leader() == name, f"{name} leads")

    def cable(self, name: str, *, up: bool) -> None:
        self.tell(f"$ podnet link {'up' if up else 'down'} {name} s1", style="dim")
        ask(self.session.directories, {"verb": "link", "a": name, "b": "s1", "up": up})

    def write(self, name: str, data: str = "1") -> bool:
        """Whether the API server takes a write."""
        try:
            self.session.kubectl("create", "configmap", name, f"--from-literal=number={data}", "--request-timeout=25s")
        except ClusterError as error:
            self.refusal = str(error)
            return False
        return True

    def serves(self) -> bool:
        return "nginx" in self.session.curl("pod/alice", f"http://{self.web_ip}/").stdout

    # --- the walk -------------------------------------------------------------------------------------------------

    def walk(self) -> None:
        self.look()
        self.cut_the_leader()
        self.lose_the_majority()

    def look(self) -> None:
        with self.phase("Three members, one leader"):
            self.lead("cp-2")
            self.first = self.members()
            for name, status in self.first.items():
                mark = "leader" if name == self.leader() else "follower"
                self.tell(f"{name}  {mark:<9} term {status['raftTerm']}  index {status['raftIndex']}")

    def cut_the_leader(self) -> None:
        with self.phase("The leader's cable is pulled out"):
            self.cable("cp-2", up=False)
            began = time.monotonic()
            self.wrote = self.write("after-the-cut")
            self.took_s = time.monotonic() - began
            self.second = self.members()
            self.new_leader = self.leader()
            self.tell(f"a write went through after {self.took_s:.1f} s; {self.new_leader or 'nobody'} leads now")
            self.alone = self.etcdctl("cp-2", "get", "/registry/core/configmaps/default/after-the-cut", alone=True)
            self.tell(
                f"cp-2, asked alone, says: {self.alone.strip() or 'nothing: without a majority it does not know'}"
            )
            self.cable("cp-2", up=True)
            self.session.wait_until(self._level, "cp-2 has caught up", 30)
            self.tell(f"cp-2 is back: term {self.third['cp-2']['raftTerm']}, index {self.third['cp-2']['raftIndex']}")

    def _level(self) -> bool:
        self.third = self.members()
        return len(self.third) == 3 and self._spread() <= NEAR

    def _spread(self) -> int:
        """How far the last is behind the first: they are asked one after the other, and the cluster writes meanwhile."""
        indexes = [status["raftIndex"] for status in self.third.values()]
        return max(indexes) - min(indexes)

    def lose_the_majority(self) -> None:
        with self.phase("Two of three are cut off"):
            for name in ("cp-2", "cp-3"):
                self.cable(name, up=False)
            self.minority = self.write("by-a-minority")
            self.tell(f"a write: {self.refusal.splitlines()[0] if not self.minority else 'taken'}")
            self.serving = self.serves()
            self.tell(f"alice asks web meanwhile: {'a page' if self.serving else 'nothing'}")
            for name in ("cp-2", "cp-3"):
                self.cable(name, up=True)
            self.session.wait_until(lambda: self.write("by-all-again"), "writes go on", 60)
            self.tell("with their cables in, writes go on")

    def walk_checks(self) -> list[Check]:
        return [
            Check("three members agree on one leader", self.check_first),
            Check("another one leads, in a later term", self.check_election),
            Check("a write goes through without the old leader", self.check_write),
            Check("who is alone does not answer", self.check_alone),
            Check("who comes back catches up", self.check_caught_up),
            Check("a minority decides nothing", self.check_minority),
            Check("Services go on without a control plane", self.check_serving),
        ]

    def check_first(self) -> str:
        leaders = {status["leader"] for status in self.first.values()}
        if len(self.first) != 3 or len(leaders) != 1:
            raise CheckFailed(f"{sorted(self.first)} answered", "podnet etcd ctl endpoint status -w table")
        return "cp-2 leads cp-1 and cp-3"

    def check_election(self) -> str:
        before, after = self.first["cp-1"]["raftTerm"], self.second["cp-1"]["raftTerm"]
        if self.new_leader not in ("cp-1", "cp-3") or after <= before:
            raise CheckFailed(
                f"{self.new_leader or 'nobody'} leads, term {after}", "logs/etcd-cp-1.log: elected leader"
            )
        return f"{self.new_leader}, term {before} became {after}"

    def check_write(self) -> str:
        if not self.wrote:
            raise CheckFailed(self.refusal, "logs/kube-apiserver.log")
        return f"{self.took_s:.1f} s after the cut: an election waits for a second of silence"

    def check_alone(self) -> str:
        if self.alone:
            raise CheckFailed(f"it said {self.alone.strip()[:60]}", "is its cable out? podnet link ls")
        return "a linearizable read needs a majority, too"

    def check_caught_up(self) -> str:
        if self._spread() > NEAR:
            raise CheckFailed(f"{self._spread()} entries behind", "podnet etcd ctl endpoint status -w table")
        return f"index {self.third['cp-2']['raftIndex']}, as far as the others"

    def check_minority(self) -> str:
        if self.minority:
            raise CheckFailed("the write was taken", "podnet link ls")
        return self.refusal.splitlines()[0].rpartition("error: ")[2][:90]

    def check_serving(self) -> str:
        if not self.serving:
            raise CheckFailed("alice got no page", "nft list table ip kube-proxy on her node")
        return "the rules are in the nodes; nobody asks etcd for a packet"

    # --- exercises ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        with self.phase("A snapshot, an accident, and a cable"):
            self.session.wait_until(lambda: len(self.members()) == 3, "three members", 30)
            self.write("precious", NUMBER)
            self.etcdctl("cp-1", "snapshot", "save", str(self.session.paths.state / SNAPSHOT), alone=True)
            self.kubectl("delete", "configmap", "precious")
            self.cable("cp-3", up=False)

    def solve(self) -> None:
        with self.phase("The exercises, solved"):
            self.cable("cp-3", up=True)
            self.tell("$ podnet down; podnet etcd restore …/lab-07.db; podnet up", style="dim")
            launch.down(self.session.spec.name)
            restore(read_members(self.session.paths), self.session.paths.state / SNAPSHOT)
            launch.up(self.session.spec, lambda _event: None)

    def exercise_checks(self) -> list[Check]:
        return [
            Check("exercise 1: three members answer", self.check_members),
            Check("exercise 2: precious is back as it was", self.check_precious),
        ]

    def check_members(self) -> str:
        found = sorted(self.members())
        if len(found) != 3:
            raise CheckFailed(
                f"{', '.join(found) or 'nobody'} answered", "podnet etcd ctl endpoint health; podnet link ls"
            )
        return ", ".join(found)

    def check_precious(self) -> str:
        found = {item["metadata"]["name"]: item for item in self.session.list("configmaps")}
        number = found.get("precious", {}).get("data", {}).get("number", "")
        if number != NUMBER:
            raise CheckFailed(
                f"its number is {number}" if number else "there is no ConfigMap precious",
                f"{SNAPSHOT} in the cluster's directory; podnet etcd --help",
            )
        return f"its number is {number}"


if __name__ == "__main__":
    sys.exit(main(ControlPlane))

#!/usr/bin/env python3
"""Lab 06, StatefulSets: members with names, and data that outlives them. README.md explains it."""

from __future__ import annotations

import sys
from typing import Any

from podnet.lab import Check, Lesson
from podnet.lab.checks import CheckFailed
from podnet.lab.tour import main
from podnet.launch import ClusterError

MEMBERS = ("db-0", "db-1", "db-2")


class StatefulSets(Lesson):
    """Names, volumes, and what stays."""

    title = "Lab 06: StatefulSets"
    summary = "members with names, and data that outlives its pods"

    def prepare(self) -> None:
        with self.phase("Apply a database of three members"):
            self.apply(self.folder() / "manifests")
            for name in (*MEMBERS, "alice"):
                self.session.wait_until(lambda name=name: self._is_ready(name), f"{name} is ready", 60)
            self.began = [pod["metadata"]["creationTimestamp"] for pod in map(self._pod, MEMBERS)]
            for name in MEMBERS:
                claim = self.session.get("persistentvolumeclaim", f"data-{name}")
                node = self._pod(name)["spec"]["nodeName"]
                self.tell(f"{name} on {node}, its data in {claim['spec']['volumeName']}")

    def _pod(self, name: str) -> dict[str, Any]:
        return self.session.get("pod", name)

    def _find(self, kind: str, name: str) -> dict[str, Any] | None:
        return next((obj for obj in self.session.list(kind) if obj["metadata"]["name"] == name), None)

    def _is_ready(self, name: str, not_uid: str = "") -> bool:
        """Whether a pod of that name is there and ready; `not_uid`: and is another one than that."""
        pod = self._find("pods", name)
        if pod is None:
            return False
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())
        return ready and pod["metadata"]["uid"] != not_uid

    def _sh(self, name: str, command: str) -> str:
        return self.session.run_in(f"pod/{name}", "sh", "-c", command).stdout

    def _kill(self, name: str) -> dict[str, Any]:
        """Delete a pod and wait for the next of its name; the pod that was."""
        before = self._pod(name)
        self.kubectl("delete", "pod", name)
        self.session.wait_until(lambda: self._is_ready(name, before["metadata"]["uid"]), f"{name} is ready again", 60)
        return before

    # --- the walk ------------------------------------------------------------------------------------------------

    def walk(self) -> None:
        self.kill_a_member()
        self.forbid_its_node()
        self.shrink_and_grow()
        self.delete_a_claim()

    def kill_a_member(self) -> None:
        with self.phase("Kill db-1"):
            self._sh("db-1", "echo 42 > /data/answer; echo 42 > /scratch/answer")
            self.before = self._kill("db-1")
            self.after = self._pod("db-1")
            self.data = self._sh("db-1", "cat /data/answer").strip()
            self.scratch = self._sh("db-1", "ls /scratch").strip()
            name = "db-1.db.default.svc.cluster.local."
            address = self.after["status"]["podIP"]

            def resolved() -> str:
                return self.session.run_in("pod/alice", "dig", "+short", name).stdout.strip()

            self.session.wait_until(lambda: resolved() == address, f"{name} is {address}")
            self.resolved = resolved()
            self.tell(
                f"/data/answer: {self.data or 'gone'}; /scratch: {self.scratch or 'empty'}; {name} is {self.resolved}"
            )

    def forbid_its_node(self) -> None:
        with self.phase("Cordon the node of db-1, and kill it again"):
            node = self.after["spec"]["nodeName"]
            self.kubectl("cordon", node)
            self.kubectl("delete", "pod", "db-1")

            def why() -> str:
                pod = self._find("pods", "db-1") or {"status": {}}
                conditions = pod["status"].get("conditions") or ()
                return next((c.get("message", "") for c in conditions if c["type"] == "PodScheduled"), "")

            self.session.wait_until(lambda: "volume" in why(), "the scheduler says why", 30)
            self.homeless = why()
            self.tell(self.homeless)
            self.kubectl("uncordon", node)
            self.session.wait_until(lambda: self._is_ready("db-1"), "db-1 is ready again", 60)
            self.home = self._pod("db-1")["spec"]["nodeName"]

    def shrink_and_grow(self) -> None:
        with self.phase("Shrink to one member, and grow again"):
            self._sh("db-2", "echo still here > /data/note")
            self.kubectl("scale", "statefulset/db", "--replicas=1")
            self.session.wait_until(lambda: len(self.session.list("pods", selector="app=db")) == 1, "one is left", 30)
            self.kept = [claim["metadata"]["name"] for claim in self.session.list("persistentvolumeclaims")]
            self.tell(f"claims: {', '.join(sorted(self.kept))}")
            self.kubectl("scale", "statefulset/db", "--replicas=3")
            self.session.wait_until(lambda: all(map(self._is_ready, MEMBERS)), "three are back", 60)
            self.note = self._sh("db-2", "cat /data/note").strip()
            self.tell(f"db-2: {self.note}")

    def delete_a_claim(self) -> None:
        with self.phase("Delete a claim that is in use"):
            self.kubectl("delete", "pvc", "data-db-2", "--wait=false")
            claim = self.session.get("persistentvolumeclaim", "data-db-2")
            self.protected = bool(claim["metadata"].get("deletionTimestamp"))
            self.readable = self._sh("db-2", "cat /data/note").strip()
            self.tell(f"Terminating, and db-2 still reads: {self.readable}")
            self._kill("db-2")
            self.fresh = self._sh("db-2", "cat /data/log").split()
            self.tell(f"the next db-2 has a new claim and a log of {len(self.fresh) // 2} line")

    def walk_checks(self) -> list[Check]:
        return [
            Check("members come one after the other", self.check_order),
            Check("data outlives the pod, scratch does not", self.check_data),
            Check("the name follows the new address", self.check_name),
            Check("a member goes where its data is", self.check_home),
            Check("claims outlive their members", self.check_kept),
            Check("a claim in use does not go", self.check_protected),
        ]

    def check_order(self) -> str:
        if self.began != sorted(self.began):
            raise CheckFailed(f"{', '.join(self.began)}", "podManagementPolicy")
        return "db-0, db-1, db-2"

    def check_data(self) -> str:
        if (self.data, self.scratch) != ("42", ""):
            raise CheckFailed(f"/data/answer {self.data!r}, /scratch {self.scratch!r}", "kubectl get pvc data-db-1")
        return "/data/answer is 42, /scratch is empty"

    def check_name(self) -> str:
        old, new = self.before["status"]["podIP"], self.after["status"]["podIP"]
        if self.resolved != new:
            raise CheckFailed(f"{self.resolved}, its pod has {new}", "kubectl get endpointslices")
        return f"{old} before, {new} after"

    def check_home(self) -> str:
        if self.home != self.before["spec"]["nodeName"]:
            raise CheckFailed(f"on {self.home}", "kubectl get pv -o yaml: nodeAffinity")
        return f"back on {self.home}, and nowhere else"

    def check_kept(self) -> str:
        if len(self.kept) < 3 or self.note != "still here":
            raise CheckFailed(f"{len(self.kept)} claims, db-2 read {self.note!r}", "kubectl get pvc")
        return "three claims for one member; db-2 found its note"

    def check_protected(self) -> str:
        if not self.protected or self.readable != "still here" or len(self.fresh) != 2:
            raise CheckFailed(
                f"read {self.readable!r}, then {self.fresh}", "kubectl get pvc data-db-2 -o yaml: finalizers"
            )
        return "Terminating until its pod had gone; then a new one, empty"

    # --- the exercises -------------------------------------------------------------------------------------------

    def solve(self) -> None:
        with self.phase("The exercises, solved"):
            # What may not be changed is made anew.
            self.kubectl("delete", "statefulset", "shop", "--ignore-not-found")
            self.kubectl("delete", "pod/shop-0", "--ignore-not-found")
            self.kubectl("delete", "pod/archive", "pvc/archive", "--ignore-not-found")
            self.apply(self.folder() / "solution")
            for name in ("shop-0", "archive", "cache-0", "cache-1"):
                self.session.wait_until(lambda name=name: self._is_ready(name), f"{name} is ready", 60)

    def exercise_checks(self) -> list[Check]:
        return [
            Check("exercise 1: the shop's data outlives its pod", self.check_shop),
            Check("exercise 2: the archive runs", self.check_archive),
            Check("exercise 3: a smaller cache has fewer claims", self.check_cache),
        ]

    def _need(self, *names: str) -> None:
        for name in names:
            try:
                self.session.wait_until(lambda name=name: self._is_ready(name), name, 15)
            except ClusterError:
                raise CheckFailed(f"{name} is not ready", f"kubectl describe pod {name}") from None

    def check_shop(self) -> str:
        self._need("shop-0")
        self._sh("shop-0", "echo sold > /data/book")
        self._kill("shop-0")
        book = self._sh("shop-0", "cat /data/book").strip()
        if book != "sold":
            raise CheckFailed(
                "the next shop-0 has no /data/book", "kubectl get pod shop-0 -o yaml: what is its volume?"
            )
        return "shop-0 died, /data/book did not"

    def check_archive(self) -> str:
        claim = self._find("persistentvolumeclaims", "archive")
        if claim is None:
            raise CheckFailed("there is no claim archive", "kubectl get pvc")
        classes = {one["metadata"]["name"] for one in self.session.list("storageclasses")}
        if claim["status"]["phase"] != "Bound" and claim["spec"].get("storageClassName") not in classes:
            raise CheckFailed(f"its claim is {claim['status']['phase']}", "kubectl describe pvc archive")
        self._need("archive")
        return f"its data is in {self.session.get('persistentvolumeclaim', 'archive')['spec']['volumeName']}"

    def check_cache(self) -> str:
        self._need("cache-0", "cache-1")
        self.kubectl("scale", "statefulset/cache", "--replicas=1")
        try:
            self.session.wait_until(lambda: self._claims("cache") == {"data-cache-0"}, "one claim is left", 5)
        except ClusterError:
            found = ", ".join(sorted(self._claims("cache")))
            raise CheckFailed(f"one member, and {found}", "kubectl explain statefulset.spec") from None
        finally:
            self.kubectl("scale", "statefulset/cache", "--replicas=2")
        return "data-cache-1 went with its member"

    def _claims(self, app: str) -> set[str]:
        return {
            claim["metadata"]["name"] for claim in self.session.list("persistentvolumeclaims", selector=f"app={app}")
        }


if __name__ == "__main__":
    sys.exit(main(StatefulSets))

#!/usr/bin/env python3
"""Lab 05, rollout and rollback under load, without a failed request. README.md explains it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from podnet.lab import Check, Lesson
from podnet.lab.checks import CheckFailed
from podnet.lab.lesson import console
from podnet.lab.tour import main
from podnet.launch import ClusterError

ALICE = "pod/alice"
STOP = "/tmp/enough"

# A new connection for each request, until a file says that it is enough; then how it went, as JSON.
CUSTOMER = """
import http.client, json, os, sys, time
address, stop = sys.argv[1:]
good, bad = [], []
while not os.path.exists(stop):
    began = time.time()
    connection = http.client.HTTPConnection(address, 80, timeout=2)
    try:
        connection.request("GET", "/hostname")
        answer = connection.getresponse()
        name = answer.read().decode()
        if answer.status != 200:
            raise OSError(answer.status)
        good.append((began, name))
    except (OSError, http.client.HTTPException) as error:
        bad.append((began, type(error).__name__ + ": " + str(error)))
    finally:
        connection.close()
    time.sleep(0.005)
os.unlink(stop)
print(json.dumps({"good": good, "bad": bad}))
"""


@dataclass(slots=True)
class Load:
    """Filled in when the load has ended: (time, pod that answered) and (time, what went wrong)."""

    good: list[tuple[float, str]] = field(default_factory=list)
    bad: list[tuple[float, str]] = field(default_factory=list)

    def pods(self) -> list[str]:
        """Who answered, in the order of their first answer."""
        return list(dict.fromkeys(name for _, name in self.good))


class Rollout(Lesson):
    """A Deployment that changes while it is used."""

    title = "Lab 05: rollout under load"
    summary = "a new version, a bad one, and the way back, while somebody keeps asking"

    def prepare(self) -> None:
        with self.phase("Apply web, its Service, and alice who will ask"):
            self.apply(self.folder() / "manifests")
            self.session.wait_ready("deployment", "web")
            self.session.wait_ready("pod", "alice")

    @contextmanager
    def load(self, service: str) -> Iterator[Load]:
        """Requests to a Service from alice, one after the other, as long as the block runs."""
        load = Load()
        address = self.session.get("service", service)["spec"]["clusterIP"]
        said: list[Any] = []

        def ask() -> None:
            said.append(self.session.run_in(ALICE, "python3", "-c", CUSTOMER, address, STOP, timeout_s=300))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield load
        finally:
            self.session.run_in(ALICE, "touch", STOP)
            thread.join()
        if not said or said[0].exit_code:
            raise ClusterError(f"the load did not run: {said[0].stderr if said else ''}")
        result = json.loads(said[0].stdout)
        load.good, load.bad = result["good"], result["bad"]

    def rolled_out(self, name: str) -> None:
        self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=90s")
        self.session.wait_until(lambda: not self._ending(name), f"the old pods of {name} are gone", 60)

    def _ending(self, name: str) -> list[str]:
        pods = self.session.list("pods", selector=f"app={name}")
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]

    # --- the walk -------------------------------------------------------------------------------------------------

    def walk(self) -> None:
        with self.phase("Version 2, while alice asks"), self.load("web") as self.update:
            self.kubectl("set", "env", "deployment/web", "VERSION=2")
            self.rolled_out("web")
        self._show(self.update)
        with self.phase("Version 3 has an image that does not exist"), self.load("web") as self.stuck:
            self.kubectl("set", "image", "deployment/web", "main=no-such-image:1")
            self.session.wait_until(lambda: "ImagePull" in self._why_waiting(), "it cannot be pulled")
            self.why = self._why_waiting()
            self.tell(self.why)
            self.available = self.session.get("deployment", "web")["status"].get("availableReplicas", 0)
        self._show(self.stuck)
        with self.phase("Back, while alice asks"), self.load("web") as self.back:
            console.print(self.kubectl("rollout", "history", "deployment/web").rstrip())
            self.kubectl("rollout", "undo", "deployment/web")
            self.rolled_out("web")
        self._show(self.back)

    def _show(self, load: Load) -> None:
        self.tell(f"{len(load.good)} answers from {len(load.pods())} pods, {len(load.bad)} failed")
        for _, words in load.bad[:3]:
            self.tell(words)

    def _why_waiting(self) -> str:
        for pod in self.session.list("pods", selector="app=web"):
            for status in pod["status"].get("containerStatuses", ()):
                waiting = status["state"].get("waiting", {})
                if "ImagePull" in waiting.get("reason", ""):
                    return f"{pod['metadata']['name']}: {waiting['reason']}: {waiting.get('message', '')}"
        return ""

    def walk_checks(self) -> list[Check]:
        return [
            Check("the update cost no request", lambda: self.check_load(self.update)),
            Check("every pod was replaced", self.check_replaced, needs=("the update cost no request",)),
            Check("a bad version does not become Ready, and the old one goes on", self.check_stuck),
            Check("the way back cost no request", lambda: self.check_load(self.back)),
            Check("web runs version 2 again", self.check_version),
        ]

    def check_load(self, load: Load) -> str:
        if load.bad or not load.good:
            words = load.bad[0][1] if load.bad else "nobody asked"
            raise CheckFailed(
                f"{len(load.bad)} of {len(load.bad) + len(load.good)} failed: {words}", "kubectl get endpointslices -w"
            )
        return f"{len(load.good)} requests"

    def check_replaced(self) -> str:
        names = self.update.pods()
        if len(names) < 8:
            raise CheckFailed(f"only {', '.join(names)} answered", "kubectl get replicasets")
        return f"4 old pods and {len(names) - 4} new ones answered"

    def check_stuck(self) -> str:
        if self.available < 4 or self.stuck.bad:
            raise CheckFailed(
                f"{self.available} of 4 available, {len(self.stuck.bad)} requests failed", "maxUnavailable"
            )
        return f"4 of 4 available, {len(self.stuck.good)} requests answered"

    def check_version(self) -> str:
        spec = self.session.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]
        if spec["env"][0]["value"] != "2" or "agnhost" not in spec["image"]:
            raise CheckFailed(f"{spec['image']}, VERSION {spec['env'][0]['value']}", "kubectl rollout history")
        return "revision 2 became revision 4: a rollback is an update"

    # --- exercises ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        super().begin()
        with self.phase("Somebody updates the bank"):
            self.rolled_out("bank")
            self.kubectl("set", "image", "deployment/bank", "main=nginks:1.27")
            self.session.wait_ready("deployment", "shop")

    def solve(self) -> None:
        with self.phase("The exercises, solved"):
            self.apply(self.folder() / "solution" / "shop.yaml")
            self.rolled_out("shop")
            self.kubectl("rollout", "undo", "deployment/bank")
            self.rolled_out("bank")

    def exercise_checks(self) -> list[Check]:
        return [
            Check("exercise 1: an update of the shop costs no request", self.check_shop),
            Check("exercise 2: the bank runs what worked", self.check_bank),
        ]

    def check_shop(self) -> str:
        """Update it, and count: the check is the experiment."""
        before = {pod["metadata"]["name"] for pod in self.session.list("pods", selector="app=shop")}
        with self.load("shop") as load:
            self.session.kubectl("rollout", "restart", "deployment/shop")
            self.session.kubectl("rollout", "status", "deployment/shop", "--timeout=90s")
            self.session.wait_until(lambda: not self._ending("shop"), "the old pods are gone", 60)
            self.session.wait_until(lambda: not before & self._names("shop"), "all are new", 60)
        if load.bad:
            words = sorted({words for _, words in load.bad})
            raise CheckFailed(
                f"{len(load.bad)} of {len(load.bad) + len(load.good)} failed: {'; '.join(words)[:120]}",
                "kubectl get pods,endpointslices -w: who is sent requests before it can answer, and who after its end?",
            )
        return f"{len(load.good)} requests"

    def _names(self, app: str) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.session.list("pods", selector=f"app={app}")}

    def check_bank(self) -> str:
        deployment = self.session.get("deployment", "bank")
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        status = deployment["status"]
        if image != "nginx" or status.get("updatedReplicas") != 2 or status.get("availableReplicas") != 2:
            raise CheckFailed(
                f"{image}: {status.get('updatedReplicas', 0)} updated, {status.get('availableReplicas', 0)} available",
                "kubectl rollout history deployment/bank; kubectl rollout --help",
            )
        revision = deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        return f"{image}, revision {revision}"


if __name__ == "__main__":
    sys.exit(main(Rollout))

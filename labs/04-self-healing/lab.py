#!/usr/bin/env python3
"""Lab 04, self-healing: kill pods, processes, a node, the scheduler, the API server. README.md explains it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from podnet import launch
from podnet.lab import Check, Lesson
from podnet.lab.checks import CheckFailed
from podnet.lab.lesson import console
from podnet.lab.tour import main
from podnet.launch import ClusterError

ALICE, NODE = "pod/alice", "worker-2"
SCHEDULER, API_SERVER = "kube-scheduler/control-plane", "kube-apiserver/control-plane"


class SelfHealing(Lesson):
    """Whatever dies, what is wanted comes back."""

    title = "Lab 04: self-healing"
    summary = (
        "kill pods, processes, a node, the scheduler, the API server, and watch what comes back, and what does not"
    )

    def prepare(self) -> None:
        with self.phase("Apply web and its Service, alice who asks, and lonely, whom nobody looks after"):
            self.apply(self.folder() / "manifests")
            self.session.wait_ready("deployment", "web")
            for name in ("alice", "lonely"):
                self.session.wait_ready("pod", name)

    # --- what is looked at ----------------------------------------------------------------------------------------

    def pods(self, app: str) -> dict[str, dict[str, Any]]:
        """Those that are not being deleted, by name."""
        found = self.session.list("pods", selector=f"app={app}")
        return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}

    def running(self, app: str, *, not_on: str = "") -> set[str]:
        """Names of the Ready ones."""
        return {
            name
            for name, pod in self.pods(app).items()
            if pod["spec"].get("nodeName") != not_on
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
        }

    def restarts(self, name: str) -> int:
        statuses = self.session.get("pod", name)["status"].get("containerStatuses") or [{}]
        return int(statuses[0].get("restartCount", 0))

    def timed(self, condition: Any, what: str, timeout_s: float = 60.0) -> float:
        """Wait, tell how long it took, and return that."""
        began = time.monotonic()
        self.session.wait_until(condition, what, timeout_s)
        seconds = time.monotonic() - began
        self.tell(f"{seconds:5.1f} s  {what}")
        return seconds

    def answers(self) -> bool:
        address = self.session_address
        return "nginx" in self.session.curl(ALICE, f"http://{address}/").stdout

    def node_ready(self) -> bool:
        conditions = self.session.get("node", NODE)["status"]["conditions"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    # --- how it is broken -----------------------------------------------------------------------------------------

    def node(self, action: str) -> None:
        console.print(f"$ podnet node {action} {NODE}", style="dim")
        launch.ask(self.session.directories, {"verb": "node", "action": action, "name": NODE})

    def signal(self, component: str, number: int) -> None:
        launch.ask(self.session.directories, {"verb": "restart-component", "name": component, "signal": int(number)})

    @contextmanager
    def frozen(self, component: str) -> Iterator[None]:
        """Stopped as by a debugger: there, and deaf."""
        console.print(f"$ kill -STOP {component.partition('/')[0]}", style="dim")
        self.signal(component, signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(component, signal.SIGCONT)

    def restarted(self, component: str) -> int:
        found = launch.ask(self.session.directories, {"verb": "status"})["components"]
        return int(next(c["restarts"] for c in found if c["name"] == component))

    # --- the walk -------------------------------------------------------------------------------------------------

    def walk(self) -> None:
        self.session_address = self.session.get("service", "web")["spec"]["clusterIP"]
        self.kill_a_pod()
        self.kill_a_process()
        self.kill_a_node()
        self.freeze_the_scheduler()
        self.freeze_the_api_server()

    def kill_a_pod(self) -> None:
        with self.phase("Delete a pod of web"):
            before = self.running("web")
            victim = min(before)
            self.kubectl("delete", "pod", victim, "--wait=false")
            self.pod_s = self.timed(lambda: len(self.running("web")) == 4, "four are Ready again")
            self.new_pods = self.running("web") - before

    def kill_a_process(self) -> None:
        with self.phase("Kill the process in lonely"):
            uid = self.session.get("pod", "lonely")["metadata"]["uid"]
            self.session.run_in("pod/lonely", "sh", "-c", "kill 1")
            self.timed(lambda: self.restarts("lonely") == 1, "it runs again")
            pod = self.session.get("pod", "lonely")
            self.same_pod = pod["metadata"]["uid"] == uid
            self.last_exit = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"]
            self.tell(f"the same pod, its container ended with {self.last_exit} and was started anew")

    def kill_a_node(self) -> None:
        with self.phase(f"Cut the power of {NODE}"):
            began = time.monotonic()
            self.node("crash")
            self.timed(lambda: not self.node_ready(), f"{NODE} is NotReady")
            self.timed(lambda: self._nodes_of_web() == {"worker-1"}, "its endpoints have left the Service")
            self.timed(lambda: len(self.running("web", not_on=NODE)) == 4, "four pods of web are Ready elsewhere")
            self.heal_s = time.monotonic() - began
            self.asked = self.answers()
        with self.phase(f"{NODE} comes back"):
            self.node("restart")
            self.timed(self.node_ready, f"{NODE} is Ready")
            self.timed(lambda: not self._left_on_node(), "what was replaced is gone from it")
            self.lonely_gone = not self._exists("lonely")

    def _nodes_of_web(self) -> set[str]:
        slices = self.session.list("endpointslices", selector="kubernetes.io/service-name=web")
        endpoints = [endpoint for one in slices for endpoint in one.get("endpoints") or ()]
        return {endpoint["nodeName"] for endpoint in endpoints if endpoint["conditions"].get("ready") is not False}

    def _left_on_node(self) -> list[str]:
        pods = self.session.list("pods")
        return [
            pod["metadata"]["name"]
            for pod in pods
            if pod["spec"].get("nodeName") == NODE and "deletionTimestamp" in pod["metadata"]
        ]

    def _exists(self, name: str) -> bool:
        return any(pod["metadata"]["name"] == name for pod in self.session.list("pods"))

    def freeze_the_scheduler(self) -> None:
        with self.phase("The scheduler does not think any more"):
            with self.frozen(SCHEDULER):
                self.kubectl("scale", "deployment/web", "--replicas=5")
                self.session.wait_until(lambda: len(self.pods("web")) == 5, "a fifth pod")
                fifth = next(pod for pod in self.pods("web").values() if not pod["spec"].get("nodeName"))
                self.homeless = str(fifth["metadata"]["name"])
                self.tell(f"{self.homeless} has no node; the other four go on: {self.answers()}")
                self.four_went_on = len(self.running("web")) == 4
            self.timed(lambda: len(self.running("web")) == 5, "the scheduler thinks again, and it runs")
        with self.phase("Kill the scheduler"):
            count = self.restarted(SCHEDULER)
            self.signal(SCHEDULER, signal.SIGKILL)
            self.timed(lambda: self.restarted(SCHEDULER) > count, "another scheduler runs")
            self.kubectl("scale", "deployment/web", "--replicas=6")
            self.timed(lambda: len(self.running("web")) == 6, "a sixth pod runs")

    def freeze_the_api_server(self) -> None:
        with self.phase("The API server does not answer any more"):
            victim = min(self.running("web"))
            with self.frozen(API_SERVER):
                try:
                    self.kubectl("get", "pods", "--request-timeout=1s")
                    self.api_said = ""
                except ClusterError as error:
                    self.api_said = str(error).splitlines()[-1]
                self.tell(self.api_said)
                self.asked_without_api = self.answers()
                self.tell(f"alice still gets her page: {self.asked_without_api}")
            self.timed(lambda: victim in self.running("web"), "the API server answers again, nothing has changed")
        with self.phase("Kill the API server"):
            before = {name: pod["metadata"]["uid"] for name, pod in self.pods("web").items()}
            count = self.restarted(API_SERVER)
            self.signal(API_SERVER, signal.SIGKILL)
            self.session.wait_until(lambda: self.restarted(API_SERVER) > count, "another API server")
            self.timed(self._api_answers, "another one answers")
            self.kept = before == {name: pod["metadata"]["uid"] for name, pod in self.pods("web").items()}

    def _api_answers(self) -> bool:
        try:
            return bool(self.session.list("pods"))
        except (ClusterError, OSError):
            return False

    def walk_checks(self) -> list[Check]:
        return [
            Check("a deleted pod is replaced by another one", self.check_pod),
            Check("a dead process is started again in the same pod", self.check_process),
            Check("what a dead node ran runs elsewhere", self.check_node),
            Check("a pod that nobody wanted is gone for good", self.check_lonely),
            Check("without a scheduler new pods wait, old ones go on", self.check_scheduler),
            Check("without an API server the network goes on", self.check_api),
            Check("a killed API server forgets nothing", self.check_store),
        ]

    def check_pod(self) -> str:
        if len(self.new_pods) != 1:
            raise CheckFailed(f"new: {sorted(self.new_pods)}", "kubectl describe replicaset -l app=web")
        return f"{self.new_pods.pop()}, Ready after {self.pod_s:.1f} s"

    def check_process(self) -> str:
        if not self.same_pod or self.last_exit != 7:
            raise CheckFailed(f"exit code {self.last_exit}", "kubectl describe pod lonely")
        return "exit code 7, restartCount 1"

    def check_node(self) -> str:
        if self.heal_s > 60 or not self.asked:
            raise CheckFailed(f"{self.heal_s:.0f} s, answered: {self.asked}", "kubectl get nodes; kubectl get events")
        return f"{self.heal_s:.0f} s after the power was cut"

    def check_lonely(self) -> str:
        if not self.lonely_gone:
            raise CheckFailed("lonely is still there", "kubectl get pod lonely -o yaml")
        return "no controller, no replacement"

    def check_scheduler(self) -> str:
        if not self.homeless or not self.four_went_on:
            raise CheckFailed("the fifth pod had a node", "podnet status: is the scheduler stopped?")
        return f"{self.homeless} waited"

    def check_api(self) -> str:
        if not self.asked_without_api or not self.api_said:
            raise CheckFailed(
                f"kubectl said {self.api_said!r}, alice got her page: {self.asked_without_api}", "podnet curl"
            )
        return "kubectl timed out, the Service answered"

    def check_store(self) -> str:
        if not self.kept:
            raise CheckFailed("pods have changed", "kubectl get pods; logs/kube-apiserver.log")
        return "the same pods, with the same UIDs"

    # --- exercises ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        super().begin()
        for name in ("clerk", "twins"):
            self.session.wait_ready("deployment", name)
        self.session.wait_until(lambda: len(self.running("guard")) == 1, "the guard", 30)

    def solve(self) -> None:
        super().solve()
        for name in ("guard", "clerk", "twins"):
            self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")

    def exercise_checks(self) -> list[Check]:
        return [
            Check("exercise 1: there is always a guard", self.check_guard),
            Check("exercise 2: a clerk that hangs is started anew", self.check_clerk),
            Check("exercise 3: no node's death takes both twins", self.check_twins),
        ]

    def check_guard(self) -> str:
        """Delete it, and look: the check is the experiment."""
        before = self.pods("guard")
        for name in before:
            self.session.kubectl("delete", "pod", name, "--wait=false")
        try:
            self.session.wait_until(lambda: bool(self.running("guard") - set(before)), "another guard", 10)
        except ClusterError as error:
            raise CheckFailed(
                "it was deleted, and nobody came", "kubectl get pods,replicasets: who owns whom?"
            ) from error
        return ", ".join(sorted(self.running("guard") - set(before)))

    def check_clerk(self) -> str:
        """Make it hang, and ask."""
        names = sorted(self.running("clerk"))
        if not names:
            raise CheckFailed("no clerk is Ready", "kubectl describe pods -l app=clerk")
        pod = self.session.get("pod", names[0])
        count, url = self.restarts(names[0]), f"http://{pod['status']['podIP']}:8080/hostname"
        # Everybody in the pod but its first process, which no signal from inside can stop.
        self.session.run_in(f"pod/{names[0]}", "sh", "-c", "kill -STOP -1")
        try:
            self.session.wait_until(lambda: self.restarts(names[0]) > count, "it is started anew", 15)
            self.session.wait_until(lambda: names[0] in self.session.curl(ALICE, url).stdout, "it answers", 15)
        except ClusterError as error:
            raise CheckFailed(
                "it hangs, and still runs", "kubectl get pods; kubectl explain pod.spec.containers"
            ) from error
        return f"{names[0]} was started anew"

    def check_twins(self) -> str:
        found = {name: str(pod["spec"].get("nodeName")) for name, pod in self.pods("twins").items()}
        if len(found) != 2 or len(set(found.values())) != 2:
            where = ", ".join(f"{name} on {node}" for name, node in sorted(found.items()))
            raise CheckFailed(where or "there are none", "kubectl get pods -l app=twins -o wide")
        return ", ".join(sorted(found.values()))


if __name__ == "__main__":
    sys.exit(main(SelfHealing))

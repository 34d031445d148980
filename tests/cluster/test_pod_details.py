"""The finer points of pods and their storage on a booted cluster: what upstream's users find in status and events.

All pods of `WORLD` are created at once and looked at one after the other, so that their waits overlap.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

WAIT_S = 60.0
NAMESPACE = "details"
SLEEP = "trap 'exit 0' TERM; sleep 1000 & wait"
SHARED = [{"name": "shared", "mountPath": "/shared"}]


def pod(name, *containers, **spec):
    body = {"terminationGracePeriodSeconds": 1, "containers": [*containers], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def sh(script, name="c", **more):
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], **more}


def writes_on_the_node(name):
    """A directory of the node that outlives the pod."""
    path = f"/run/podnet/{name}"
    return {"volumes": [{"name": "shared", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]}


def runs(*command, **more):
    return {"exec": {"command": [*command]}, "periodSeconds": 1, "failureThreshold": 1, **more}


def fills(name):
    return sh("yes x | tr -d '\\n' | head -c 4096 > /dev/termination-log", name)


LONG = "{ yes a | tr -d '\\n' | head -c 1000; yes b | tr -d '\\n' | head -c 4096; } > /tmp/why; exit 1"
WRITE = "for d in /tmp /var/tmp; do head -c 1m /dev/zero > $d/half; done; " + SLEEP
NEVER = {"restartPolicy": "Never"}
CONFIG = {"env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "k"}}}]}
KEY = {"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "half", "key": "k"}}}]}
TRAP = "trap '{}; echo {} >> /shared/log; exit 0' TERM; sleep 1000 & wait"


def sidecar(name, **more):
    return sh(TRAP.format("true", name), name, restartPolicy="Always", volumeMounts=SHARED, **more)


WORLD = [
    pod("long", sh(LONG, terminationMessagePath="/tmp/why"), **NEVER),
    pod("shares", *(fills(f"c{number}") for number in range(4)), **NEVER),
    pod("tail", sh("seq 1000; exit 1", terminationMessagePolicy="FallbackToLogsOnError"), **NEVER),
    pod("quiet", sh("seq 3; exit 0", terminationMessagePolicy="FallbackToLogsOnError"), **NEVER),
    pod("killed", sh("sh -c 'kill -9 $$$$'; exit $?"), **NEVER),
    pod("bad-name", {"name": "c", "image": "Not/A_Name"}),
    pod("no-pull", {"name": "c", "image": "example.com/nobody/has:this", "imagePullPolicy": "Never"}),
    pod("no-map", sh("echo $K; " + SLEEP, **CONFIG)),
    pod("no-key", sh(SLEEP, **KEY)),
    pod("no-root", sh(SLEEP, securityContext={"runAsNonRoot": True})),
    pod("init-error", sh(SLEEP), initContainers=[sh("exit 7", "i")], **NEVER),
    pod("init-loop", sh(SLEEP), initContainers=[sh("exit 7", "i")]),
    pod(
        "again",
        sh("test -e /shared/x || { touch /shared/x; exit 3; }", volumeMounts=SHARED),
        restartPolicy="OnFailure",
        volumes=[{"name": "shared", "emptyDir": {}}],
    ),
    pod(
        "stops",
        sh(TRAP.format("sleep 1", "main"), "main", volumeMounts=SHARED),
        initContainers=[
            sidecar("first", lifecycle={"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /shared/log"]}}}),
            sidecar("second"),
        ],
        **writes_on_the_node("stops") | {"terminationGracePeriodSeconds": 20},
    ),
    pod(
        "side-unready",
        sh(SLEEP),
        initContainers=[sh(SLEEP, "side", restartPolicy="Always", readinessProbe=runs("false"))],
    ),
    pod("bad-start", sh(SLEEP, lifecycle={"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 9"]}}})),
    pod(
        "http-stop",
        {
            "name": "c",
            "image": "python",
            "command": ["sh", "-c", "exec python3 -m http.server 80 2>/shared/log"],
            "volumeMounts": SHARED,
            "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/bye"}}},
        },
        **writes_on_the_node("http-stop") | {"terminationGracePeriodSeconds": 5},
    ),
    pod(
        "gated",
        sh(
            "sleep 2; touch /tmp/up; " + SLEEP,
            startupProbe=runs("test", "-e", "/tmp/up", failureThreshold=60),
            livenessProbe=runs("test", "-e", "/tmp/up"),
            readinessProbe=runs("test", "-e", "/tmp/up"),
        ),
    ),
    pod("tcp", sh(SLEEP, livenessProbe={"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1})),
    pod(
        "grpc",
        {
            "name": "c",
            "image": "agnhost",
            "args": ["grpc-health-checking", "--port=5000"],
            "livenessProbe": {"grpc": {"port": 5000, "service": "other"}, "periodSeconds": 1, "failureThreshold": 2},
        },
    ),
    pod(
        "hurried",
        sh("trap '' TERM; sleep 1000 & wait; wait", livenessProbe=runs("false", terminationGracePeriodSeconds=1)),
        terminationGracePeriodSeconds=600,
    ),
    pod("crashing", sh("exit 1")),
    pod(
        "fills",
        sh("head -c 3m /dev/zero > /shared/big; " + SLEEP, volumeMounts=SHARED),
        volumes=[{"name": "shared", "emptyDir": {"sizeLimit": "1Mi"}}],
    ),
    pod("writes", sh(WRITE, resources={"limits": {"ephemeral-storage": "1Mi"}})),
    pod(
        "inside",
        sh(
            "stat -c %a /deep; " + SLEEP,
            env=[{"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            volumeMounts=[{"name": "v", "mountPath": "/deep", "subPathExpr": "of/$(ME)"}],
        ),
        volumes=[{"name": "v", "emptyDir": {}}],
    ),
    pod(
        "nameless",
        sh(SLEEP, volumeMounts=[{"name": "v", "mountPath": "/deep", "subPathExpr": "of/$(NOBODY)"}]),
        volumes=[{"name": "v", "emptyDir": {}}],
    ),
    pod("other-user", sh(SLEEP, securityContext={"runAsUser": 0})),
]


class World:
    def __init__(self, cluster):
        self.cluster = cluster

    def kubectl(self, *words, **more):
        return self.cluster.kubectl("-n", NAMESPACE, *words, **more)

    def create(self, *objects):
        self.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects]}))

    def get(self, what, name):
        return json.loads(self.kubectl("get", what, name, "-o", "json").stdout)

    def until(self, name, found, what):
        """The first version of a pod of which `found` is true."""

        def look():
            seen = self.get("pod", name)
            return seen if found(seen) else None

        return self.cluster.wait(look, f"pod {name}: {what}", WAIT_S)

    def ended(self, name):
        seen = self.until(name, lambda p: p["status"]["phase"] in ("Succeeded", "Failed"), "its end")
        return [c["state"]["terminated"] for c in seen["status"]["containerStatuses"]]

    def waiting(self, name, *reasons):
        """The waiting state of the first container that has one of these reasons."""

        def states(seen):
            lists = ("initContainerStatuses", "containerStatuses")
            entries = [c["state"].get("waiting", {}) for key in lists for c in seen["status"].get(key, ())]
            return next((entry for entry in entries if entry.get("reason") in reasons), None)

        return states(self.until(name, states, f"waits for {reasons}"))

    def event(self, name, reason, text=""):
        def look():
            chosen = f"involvedObject.name={name},reason={reason}"
            found = json.loads(self.kubectl("get", "events", "--field-selector", chosen, "-o", "json").stdout)
            return [e["message"] for e in found["items"] if text in e["message"]]

        return self.cluster.wait(look, f"event {reason} of {name}: {text}", WAIT_S)[0]

    def ready(self, *names):
        self.kubectl("wait", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s", *(f"pod/{name}" for name in names))

    def shown(self, name):
        """The STATUS column."""
        return self.kubectl("get", "pod", name, "--no-headers").stdout.split()[2]

    def restarted(self, name):
        return self.until(name, lambda p: restarts(p) >= 1, "a restart")

    def left_on_node(self, name):
        """Delete a pod; what it has written to its directory on the node."""
        node = self.get("pod", name)["spec"]["nodeName"]
        self.kubectl("delete", "pod", name, f"--timeout={WAIT_S:.0f}s")
        return self.cluster.exec(f"node/{node}", "cat", f"/run/podnet/{name}/log").stdout


def restarts(seen):
    return sum(c["restartCount"] for c in seen["status"].get("containerStatuses", ()))


@pytest.fixture(scope="module")
def world(cluster):
    cluster.kubectl("create", "namespace", NAMESPACE)
    made = World(cluster)
    made.kubectl("create", "secret", "generic", "half", "--from-literal=other=1")
    made.create(*WORLD)
    yield made
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_termination_messages_have_limits(world):
    assert world.ended("long")[0]["message"] == "b" * 4096
    assert [end["message"] for end in world.ended("shares")] == ["x" * 3072] * 4
    tail = world.ended("tail")[0]["message"]
    assert tail.endswith("\n999\n1000\n")
    assert len(tail) <= 2048
    assert len(tail.splitlines()) == 80
    assert "message" not in world.ended("quiet")[0]


def test_exit_codes_of_signals(world):
    end = world.ended("killed")[0]
    assert (end["exitCode"], end["reason"]) == (137, "Error")


def test_what_cannot_be_started_says_why(world):
    message = world.waiting("bad-name", "InvalidImageName")["message"]
    assert message == world.event("bad-name", "InspectFailed")
    assert message.startswith('Failed to apply default image tag "Not/A_Name": ')
    assert message.endswith(' parse image name "Not/A_Name": invalid reference format')
    assert world.shown("bad-name") == "InvalidImageName"
    assert "Never" in world.waiting("no-pull", "ErrImageNeverPull")["message"]
    key = world.waiting("no-key", "CreateContainerConfigError")["message"]
    assert key == f"couldn't find key k in Secret {NAMESPACE}/half"
    assert (
        "container has runAsNonRoot and image will run as root"
        in (world.waiting("no-root", "CreateContainerConfigError")["message"])
    )
    assert world.waiting("no-map", "CreateContainerConfigError")["message"] == 'configmap "late" not found'
    assert world.event("no-map", "Failed") == 'Error: configmap "late" not found'
    world.kubectl("create", "configmap", "late", "--from-literal=k=here")
    world.ready("no-map")
    assert world.kubectl("logs", "no-map").stdout == "here\n"


def test_init_containers_that_fail(world):
    seen = world.until("init-error", lambda p: p["status"]["phase"] == "Failed", "its end")
    assert seen["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
    assert world.shown("init-error") == "Init:Error"
    message = world.waiting("init-loop", "CrashLoopBackOff")["message"]
    assert message.startswith("back-off ")
    assert "0s restarting failed container=i pod=init-loop_details(" in message
    assert world.shown("init-loop") == "Init:CrashLoopBackOff"
    world.ended("again")
    assert restarts(world.get("pod", "again")) == 1


def test_sidecars_end_after_the_rest_in_reverse(world):
    world.ready("stops")
    # All hooks run at once; of the signals the sidecars' come last, the last to start first.
    assert world.left_on_node("stops").split() == ["hook", "main", "second", "first"]


def test_a_sidecars_probe_counts_for_the_pod(world):
    seen = world.until("side-unready", lambda p: "running" in p["status"]["containerStatuses"][0]["state"], "running")
    told = {c["type"]: c for c in seen["status"]["conditions"]}
    assert (told["Ready"]["status"], told["Initialized"]["status"]) == ("False", "True")
    assert told["ContainersReady"]["message"] == "containers with unready status: [side]"
    assert world.shown("side-unready") == "Running"


def test_hooks(world):
    assert "PostStartHook failed" in world.event("bad-start", "FailedPostStartHook")
    assert world.event("bad-start", "Killing") == "FailedPostStartHook"
    world.waiting("bad-start", "PostStartHookError", "CrashLoopBackOff")
    world.ready("http-stop")
    assert "GET /bye" in world.left_on_node("http-stop")


def test_probes_that_fail_and_one_that_holds_the_others_back(world):
    assert "Liveness probe failed: dial tcp" in world.event("tcp", "Unhealthy")
    world.restarted("tcp")
    assert "Liveness probe failed" in world.event("grpc", "Unhealthy")
    world.restarted("grpc")
    assert world.event("grpc", "Killing") == "Container c failed liveness probe, will be restarted"
    ended = world.restarted("hurried")["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert ended["exitCode"] == 137
    world.ready("gated")
    assert restarts(world.get("pod", "gated")) == 0


def test_back_off_doubles(world):
    def waits(seen):
        return seen["status"]["containerStatuses"][0]["state"].get("waiting", {}).get("message", "")

    seen = world.until("crashing", lambda p: restarts(p) >= 2 and waits(p), "a second restart that failed")
    delay = {2: "20s", 3: "40s", 4: "1m20s"}[restarts(seen)]
    assert waits(seen).startswith(f"back-off {delay} restarting failed container=c pod=crashing_details(")
    assert "Back-off restarting failed container c in pod crashing_details(" in world.event("crashing", "BackOff")


def volume(name, size, modes="ReadWriteOnce", **spec):
    body = {
        "capacity": {"storage": size},
        "accessModes": modes.split(),
        "hostPath": {"path": f"/run/podnet/{name}"},
        "storageClassName": "by-hand",
        **spec,
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": body}


def claim(name, size, modes="ReadWriteOnce", **spec):
    requests = {"requests": {"storage": size}}
    body = {"accessModes": modes.split(), "resources": requests, "storageClassName": "by-hand", **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": body}


def test_who_keeps_too_much_on_the_disk_is_evicted(world):
    for name, why in (
        ("fills", 'Usage of EmptyDir volume "shared" exceeds the limit "1Mi". '),
        ("writes", "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "),
    ):
        found = world.until(name, lambda p: p["status"]["phase"] == "Failed", "its eviction")
        assert (found["status"]["reason"], found["status"]["message"]) == ("Evicted", why)
        assert world.event(name, "Evicted") == why


def test_a_sub_path_is_as_open_as_its_volume(world):
    world.ready("inside")
    world.cluster.wait(lambda: world.kubectl("logs", "inside").stdout == "777\n", "its mode", WAIT_S)
    assert world.waiting("nameless", "CreateContainerConfigError")["message"] == "missing value for NOBODY"


def test_claims_find_the_volume_that_fits_best(world):
    volumes = {"v-large": "50Gi", "v-small": "1Gi", "v-medium": "5Gi", "v-named": "5Gi", "v-shared": "9Gi"}
    kept = {"v-named": {"claimRef": {"namespace": NAMESPACE, "name": "by-name"}}}
    world.create(
        *(
            volume(n, s, "ReadWriteMany" if n == "v-shared" else "ReadWriteOnce", **kept.get(n, {}))
            for n, s in volumes.items()
        )
    )
    try:
        bindings = {"medium": "v-medium", "many": "v-shared", "by-name": "v-named", "wanted": "v-large"}
        world.create(
            claim("medium", "2Gi"),
            claim("many", "1Gi", "ReadWriteMany"),
            claim("by-name", "1Gi"),
            claim("wanted", "1Gi", volumeName="v-large"),
            claim("too-much", "3Gi", volumeName="v-small"),
            claim("taken", "1Gi", volumeName="v-named"),
        )
        for name in bindings:
            world.kubectl("wait", f"pvc/{name}", "--for=jsonpath={.status.phase}=Bound", f"--timeout={WAIT_S:.0f}s")
        assert {name: world.get("pvc", name)["spec"]["volumeName"] for name in bindings} == bindings
        small = world.event("too-much", "VolumeMismatch")
        assert small == 'Cannot bind to requested volume "v-small": requested PV is too small'
        assert world.event("taken", "FailedBinding") == 'volume "v-named" already bound to a different claim.'
        assert {world.get("pvc", name)["status"]["phase"] for name in ("too-much", "taken")} == {"Pending"}
        # A volume in use stays until its claim goes.
        world.kubectl("delete", "pv", "v-large", "--wait=false")
        assert world.get("pv", "v-large")["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
        assert world.kubectl("get", "pv", "v-large", "--no-headers").stdout.split()[4] == "Terminating"
        world.kubectl("delete", "pvc", "wanted", f"--timeout={WAIT_S:.0f}s")
        world.kubectl("wait", "pv/v-large", "--for=delete", f"--timeout={WAIT_S:.0f}s")
    finally:
        world.kubectl("delete", "pvc", "--all", "--wait=false")
        world.kubectl("delete", "pv", *volumes, "--wait=false", check=False)


def test_places_of_the_node_by_their_type(world):
    home = world.cluster.home
    (home / "file").write_text("text")
    (home / "dir").mkdir(exist_ok=True)
    fits = {"Directory": "dir", "File": "file", "FileOrCreate": "new", "CharDevice": "/dev/null", "": "any"}
    wrong = {
        ("Directory", "file"): "is not a directory",
        ("Socket", "file"): "is not a socket file",
        ("BlockDevice", "/dev/null"): "is not a block device",
        ("CharDevice", "dir"): "is not a character device",
    }

    def volumes(pairs):
        return [
            {"name": f"v{number}", "hostPath": {"path": str(home / path), **({"type": kind} if kind else {})}}
            for number, (kind, path) in enumerate(pairs)
        ]

    mounts = [{"name": f"v{number}", "mountPath": f"/v{number}"} for number in range(len(fits))]
    world.create(
        pod("places", sh(SLEEP, volumeMounts=mounts), volumes=volumes(fits.items())),
        *(pod(f"wrong-{n}", sh(SLEEP), volumes=volumes([pair])) for n, pair in enumerate(wrong)),
    )
    world.ready("places")
    assert world.kubectl("exec", "places", "--", "cat", "/v1").stdout == "text"
    for number, text in enumerate(wrong.values()):
        assert text in world.event(f"wrong-{number}", "FailedMount", "hostPath type check failed")


def in_terminal(cluster, *words):
    """What a command of podnet prints and returns when this side is a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "podnet", *words], env=cluster.env, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    said = b""
    try:
        while True:
            said += os.read(master, 65536)
    except OSError:  # its last user has closed it
        pass
    os.close(master)
    return process.wait(timeout=60), said.decode().replace("\r\n", "\n")


def test_a_terminal_is_one_inside_the_pod_too(world):
    world.ready("other-user")
    script = "tty; test -c $(tty) && echo again > $(tty); stat -c %u $(tty); ps -o tty= -p $$; exit 5"
    words = ("exec", "-c", world.cluster.name, "-n", NAMESPACE, "-t")
    code, said = in_terminal(world.cluster, *words, "pod/other-user", "--", "sh", "-c", script)
    assert (code, said.split()) == (5, ["/dev/pts/0", "again", "0", "pts/0"])
    code, said = in_terminal(world.cluster, *words, "pod/other-user", "--", "no-such-program")
    assert (code, said) == (127, "podnet: no-such-program: not found in $PATH\n")
    code, said = in_terminal(world.cluster, *words, "pod/nobody", "--", "true")
    assert code == 1
    assert "no running pod details/nobody" in said
    code, said = in_terminal(world.cluster, *words, "node/worker-1", "--", "sh", "-c", "test -t 0 && stty size")
    assert (code, said.split()) == (0, ["0", "0"])

"""kube-proxy under change: another mode while the cluster runs, rules that vanish, Services that come and go."""

from __future__ import annotations

import re
import textwrap

import pytest

NODES = ("control-plane", "worker-1", "worker-2")

WEB = """
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  nodeName: worker-2
  containers:
  - {name: c, image: python, command: [python3, -c, "%s"]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: worker-1
  containers: [{name: c, image: python, command: [sleep, "3600"]}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {type: NodePort, selector: {app: echo}, ports: [{port: 7}]}
"""

# Answers each line of a connection with the same line.
ECHO = "import socketserver as s;s.ThreadingTCPServer(('',7),type('E',(s.StreamRequestHandler,),{'handle':lambda x:[x.wfile.write(l) for l in x.rfile]})).serve_forever()"

# One connection for as long as there is input: each line goes through it and comes back.
TALK = textwrap.dedent(
    """
    import socket, sys
    connection = socket.create_connection((sys.argv[1], 7), timeout=10)
    file = connection.makefile("rw", newline="\\n")
    for line in sys.stdin:
        file.write(line); file.flush()
        print(file.readline(), end="", flush=True)
    """
)


@pytest.fixture(scope="module")
def arena(boot_cluster):
    """A cluster of its own: its rules come to harm."""
    cluster = boot_cluster()
    cluster.apply(WEB % ECHO)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/echo", "pod/client", "--timeout=60s")
    yield cluster
    cluster.down()


def rules(cluster, node):
    """What kube-proxy has in a node, of either mode."""
    both = "nft list table ip kube-proxy 2>/dev/null; echo ====; iptables-save"
    nft, _, iptables = cluster.exec(f"node/{node}", "sh", "-c", both).stdout.partition("====\n")
    return {
        "nftables": nft,
        "iptables": "\n".join(line for line in iptables.splitlines() if "KUBE" in line),
    }


def normal(text):
    """Rules without what counts packets, and in an order of their own: elements of sets come as they like."""
    return sorted(re.sub(r"(counter )?packets \d+ bytes \d+|\[\d+:\d+\]", "", text).replace(",", "\n").split("\n"))


def service_ip(cluster):
    return cluster.kubectl_json("get", "service", "echo")["spec"]["clusterIP"]


def reaches(cluster, target="pod/client"):
    said = cluster.exec(target, "python3", "-c", TALK, service_ip(cluster), input="hello\n", check=False)
    return said.stdout == "hello\n"


def test_switching_modes_keeps_connections_and_leaves_no_old_rule(arena, start_in_room):
    talk = start_in_room(arena, "pod/client", "python3", "-c", TALK, service_ip(arena))

    def still_talks(word):
        talk.stdin.write(word + "\n")
        talk.stdin.flush()
        assert talk.stdout.readline() == word + "\n", "the connection from before lives on"

    still_talks("begin")
    for mode, other in (("iptables", "nftables"), ("nftables", "iptables")):
        arena.podnet("proxy", "mode", mode, "-c", arena.name)
        assert arena.podnet("proxy", "mode", "-c", arena.name).stdout.strip() == mode
        for node in NODES:
            found = rules(arena, node)
            assert found[mode]
            assert not found[other], f"{node} has rules of {other}"
        still_talks(mode)
        assert reaches(arena), "new connections, too"
    before = {node: normal(rules(arena, node)["nftables"]) for node in NODES}
    arena.podnet("proxy", "mode", "none", "-c", arena.name)
    for node in NODES:
        assert not any(rules(arena, node).values())
    still_talks("none")
    assert not reaches(arena)
    arena.podnet("proxy", "mode", "nftables", "-c", arena.name)
    assert {node: normal(rules(arena, node)["nftables"]) for node in NODES} == before
    assert reaches(arena)


def test_a_mode_that_does_not_exist_is_refused(arena):
    said = arena.podnet("proxy", "mode", "ipvs", "-c", arena.name, check=False)
    assert (said.returncode, "unknown proxy mode 'ipvs'" in said.stderr) == (2, True)


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_rules_that_were_flushed_by_hand_come_back(arena, mode):
    arena.podnet("proxy", "mode", mode, "-c", arena.name)
    before = normal(rules(arena, "worker-1")[mode])
    arena.exec("node/worker-1", "nft", "flush", "ruleset")
    arena.wait(lambda: normal(rules(arena, "worker-1")[mode]) == before, "the rules are there again", 30)
    assert reaches(arena)


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_two_hundred_services_come_and_go_while_others_are_used(arena, mode, start_in_room):
    """No rule of them stays, and the Service in use is never anything but itself."""
    arena.podnet("proxy", "mode", mode, "-c", arena.name)
    before = {node: normal(rules(arena, node)[mode]) for node in NODES}
    many = "---".join(
        f"""
apiVersion: v1
kind: Service
metadata: {{name: many-{number}, labels: {{many: "yes"}}}}
spec:
  type: {"NodePort" if number % 2 else "ClusterIP"}
  selector: {{app: {"echo" if number % 3 else "nobody"}}}
  ports: [{{name: a, port: 7}}, {{name: b, port: {1000 + number}, targetPort: 7, protocol: {"UDP" if number % 5 == 0 else "TCP"}}}]
"""
        for number in range(200)
    )
    loop = textwrap.dedent(
        """
        import json, select, socket, sys
        count, wrong = 0, []
        while not select.select([sys.stdin], [], [], 0.01)[0]:
            word = f"word {count}\\n".encode()
            try:
                with socket.create_connection((sys.argv[1], 7), timeout=5) as connection:
                    connection.sendall(word)
                    answer = connection.makefile("rb").readline()
                if answer != word:
                    wrong.append(repr(answer))
            except OSError as error:
                wrong.append(repr(error))
            count += 1
        print(count, wrong)
        """
    )
    talk = start_in_room(arena, "pod/client", "python3", "-c", loop, service_ip(arena))
    arena.kubectl("create", "-f", "-", input=many)
    arena.wait(lambda: "many-199" in rules(arena, "worker-1")[mode], "the last of them is there", 60)
    arena.kubectl("delete", "service", "-l", "many=yes", "--wait=false")
    arena.wait(lambda: {node: normal(rules(arena, node)[mode]) for node in NODES} == before, "all of it is gone", 60)
    said, errors = talk.communicate("enough\n", timeout=30)
    count, _, wrong = said.partition(" ")
    assert wrong.strip() == "[]", errors
    assert int(count) > 50

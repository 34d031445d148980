"""Pod to pod across nodes, against the same path built by hand with `ip`: the control plane must cost nothing.

Both are driven by iperf3, turn and turn about, in many short runs: the figure is the median of the ratios of runs that
stood side by side, so that a machine which is slow for a while is slow for both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import NoReturn

from podnet import room
from podnet.bench.clusters import bench_cluster, deployment
from podnet.bench.rows import Row, median
from podnet.lab.session import LabSession

ROUNDS = 7
SECONDS = 1
# Two namespaces as nodes on one bridge, a bridge and a pod each, VXLAN between: what podnet builds, typed by hand.
BY_HAND = """
set -e
ip link add name u0 type bridge; ip link set u0 up
for n in 1 2; do
  ip netns add n$n; ip netns add p$n
  ip link add name n$n-u type veth peer name eth0 netns n$n
  ip link set n$n-u master u0 up
  ip -n n$n addr add 192.168.9.$n/24 dev eth0; ip -n n$n link set eth0 up; ip -n n$n link set lo up
  ip netns exec n$n sysctl -qw net.ipv4.ip_forward=1
  ip -n n$n link add name cni0 type bridge; ip -n n$n link set cni0 mtu 1450
  ip -n n$n addr add 10.9.$n.1/24 dev cni0; ip -n n$n link set cni0 up
  ip -n n$n link add name veth0 mtu 1450 type veth peer name eth0 mtu 1450 netns p$n
  ip -n n$n link set veth0 master cni0 up; ip netns exec n$n bridge link set dev veth0 hairpin on
  ip -n p$n addr add 10.9.$n.2/24 dev eth0; ip -n p$n link set eth0 up; ip -n p$n link set lo up
  ip -n p$n route add default via 10.9.$n.1
  ip -n n$n link add name vx type vxlan id 1 local 192.168.9.$n dev eth0 dstport 8472 nolearning
  ip -n n$n link set vx address 02:00:00:00:00:0$n mtu 1450 up
  ip -n n$n addr add 10.9.$n.0/32 dev vx
done
for n in 1 2; do
  m=$((3 - n))
  ip -n n$n neigh replace 10.9.$m.0 lladdr 02:00:00:00:00:0$m dev vx nud permanent
  ip netns exec n$n bridge fdb replace 02:00:00:00:00:0$m dev vx dst 192.168.9.$m
  ip -n n$n route replace 10.9.$m.0/24 via 10.9.$m.0 dev vx onlink
done
"""


# What every node with Services or masquerading has besides: one NAT hook, and with it connection tracking.
NAT_HOOK = """
for n in 1 2; do
  ip netns exec n$n nft 'add table ip t; add chain ip t p { type nat hook postrouting priority 100; }'
done
"""


def datapath_rows() -> list[Row]:
    """Throughput in Gb/s of one TCP stream."""
    with bench_cluster() as lab:
        lab.kubectl("apply", "-f", "-", stdin=deployment("flow", 2, "nicolaka/netshoot"))
        lab.wait_ready("deployment", "flow")
        pods = sorted(lab.list("pods", selector="app=flow"), key=lambda pod: pod["metadata"]["name"])
        if pods[0]["spec"]["nodeName"] == pods[1]["spec"]["nodeName"]:
            raise RuntimeError("the scheduler put both pods on one node")
        ours, theirs, tracked = [], [], []
        for _ in range(ROUNDS):
            ours.append(
                _through_pods(lab, pods[0]["metadata"]["name"], pods[1]["metadata"]["name"], pods[1]["status"]["podIP"])
            )
            theirs.append(_by_hand(BY_HAND))
            tracked.append(_by_hand(BY_HAND + NAT_HOOK))
    return [
        Row(
            "datapath",
            "pod to pod TCP across nodes",
            median(ours),
            "Gb/s",
            None,
            False,
            "same path by hand with ip",
            median(theirs),
            True,
        ),
        Row("datapath", "pod to pod TCP / by hand", _ratio(ours, theirs), "", 0.97, False, "by hand", 1.0, True),
        Row(
            "datapath",
            "… / by hand with a NAT hook (conntrack)",
            _ratio(ours, tracked),
            "",
            0.97,
            False,
            "by hand",
            1.0,
            True,
        ),
    ]


def _ratio(values: list[float], references: list[float]) -> float:
    return median([value / reference for value, reference in zip(values, references, strict=True)])


def _through_pods(lab: LabSession, client: str, server: str, address: str) -> float:
    lab.run_in(
        f"pod/{server}",
        "sh",
        "-c",
        "iperf3 -s -1 -D >/dev/null 2>&1; while ! nc -z 127.0.0.1 1 2>/dev/null && ! ss -ltn | grep -q :5201; do :; done",
    )
    result = lab.run_in(f"pod/{client}", "iperf3", "-c", address, "-t", str(SECONDS), "-J")
    return _gigabits(result.stdout)


def _by_hand(build: str) -> float:
    """Build the path in a room of its own, measure, let the kernel sweep it away."""
    read_fd, write_fd = os.pipe()

    def main() -> NoReturn:
        script = (
            f"{build}\nip netns exec p2 iperf3 -s -1 -D >/dev/null 2>&1\n"
            "for i in $(seq 200); do ip netns exec p2 ss -ltn | grep -q :5201 && break; done\n"
            f"ip netns exec p1 iperf3 -c 10.9.2.2 -t {SECONDS} -J"
        )
        result = subprocess.run(["sh", "-c", script], stdout=write_fd, stderr=subprocess.PIPE, check=False)
        if result.returncode:
            sys.stderr.write(result.stderr.decode(errors="replace"))
        os._exit(0)

    pid = room.start_room(main, "by-hand")
    start = room.process_start_time(pid)
    os.close(write_fd)
    try:
        with os.fdopen(read_fd) as out:
            return _gigabits(out.read())
    finally:
        room.kill_room(pid, start)


def _gigabits(text: str) -> float:
    try:
        return float(json.loads(text)["end"]["sum_received"]["bits_per_second"]) / 1e9
    except (ValueError, KeyError) as err:
        raise RuntimeError(f"iperf3 did not measure: {text[:200]}") from err

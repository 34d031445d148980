"""Pod to pod across nodes, against the same path built by hand with `ip`: the control plane must cost nothing.

Both are driven by iperf3, turn and turn about, in many short runs: the figure is the median of the ratios of runs that
stood side by side, so that a machine which is slow for a while is slow for both.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

from podnet.bench import iperf
from podnet.bench.clusters import apply, bench_cluster, pod
from podnet.bench.programs import need_programs
from podnet.bench.rooms import run_in_room
from podnet.bench.rows import Row, Settings, median, median_ratio

ROUNDS = 7
_BY_HAND_TIMEOUT_S = 60.0
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


def datapath_rows(settings: Settings) -> Iterator[Row]:
    """Throughput in Gb/s of one TCP stream."""
    need_programs("iperf3", "ip", "nft", "ss")
    settings.note("datapath: booting a cluster")
    with bench_cluster() as lab:
        containers = {"main": ["iperf3", "-s"]}
        apply(lab, pod("flow-1", "worker-1", containers) + pod("flow-2", "worker-2", containers))
        for name in ("flow-1", "flow-2"):
            lab.wait_ready("pod", name)
        iperf.wait_serves(lab, "pod/flow-2")
        address = lab.pod_ip("flow-2")
        ours, theirs, tracked = [], [], []
        for number in range(ROUNDS):
            settings.note(f"datapath: round {number + 1} of {ROUNDS}")
            ours.append(iperf.through(lab, "pod/flow-1", address))
            theirs.append(by_hand(BY_HAND))
            tracked.append(by_hand(BY_HAND + NAT_HOOK))
    name = "pod to pod TCP across nodes"
    hand = "same path by hand with ip"
    yield Row("datapath", name, median(ours), "Gb/s", None, False, hand, median(theirs), True)
    name = "pod to pod TCP / by hand"
    yield Row("datapath", name, median_ratio(ours, theirs), "", 0.97, False, "by hand", 1.0, True)
    name = "pod to pod TCP / by hand with a NAT hook (conntrack)"
    yield Row("datapath", name, median_ratio(ours, tracked), "", 0.97, False, "by hand", 1.0, True)


def by_hand(build: str, seconds: int = iperf.SECONDS) -> float:
    """Build the path in a room of its own, measure, let the kernel sweep it away."""

    def work(say: Callable[[object], None]) -> None:
        script = (
            f"{build}\nip netns exec p2 iperf3 -s -1 -D >/dev/null 2>&1\n"
            "for i in $(seq 200); do ip netns exec p2 ss -ltn | grep -q :5201 && break; done\n"
            f"ip netns exec p1 iperf3 -c 10.9.2.2 -t {seconds} -J"
        )
        result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        say(result.stdout if result.returncode == 0 else result.stdout + result.stderr)

    return iperf.gigabits("".join(map(str, run_in_room(work, "by-hand", _BY_HAND_TIMEOUT_S))))

"""The programs that benchmarks drive, and where to get one that is missing."""

from __future__ import annotations

import os
import shutil

from podnet.bench.rows import BenchError

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
PACKAGES = {
    "dnsperf": "dnsperf",
    "iperf3": "iperf3",
    "ip": "iproute2",
    "iptables-restore": "iptables",
    "nft": "nftables",
    "ss": "iproute2",
    "taskset": "util-linux",
}


def missing_programs(*names: str) -> str:
    """What is not installed, empty when all are. An ordinary user's PATH may leave out where administrators' are."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), _SBIN])
    return ", ".join(name for name in names if shutil.which(name, path=path) is None)


def need_programs(*names: str) -> None:
    """Raise BenchError when one is missing, with the command that installs it."""
    missing = missing_programs(*names)
    if missing:
        packages = " ".join(dict.fromkeys(PACKAGES[name] for name in missing.split(", ")))
        raise BenchError(f"not installed: {missing}", f"sudo apt install {packages}")

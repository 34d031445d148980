"""The listings from which explanations are tested are what this kernel prints for the rules of today.

Anew, as root: PODNET_UPDATE_GOLDEN=1 pytest tests/kernel/proxy/test_explain_kernel.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from podnet.proxy.explain.service import explain_service
from podnet.proxy.iptables.backend import IptablesBackend
from podnet.proxy.nftables.backend import NftablesBackend
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.linux.syscalls import create_netns, delete_netns, in_netns

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "proxy"))

from explain_cases import CASES

pytestmark = pytest.mark.kernel
BACKENDS = {
    "nftables": (NftablesBackend, ["nft", "list", "table", "ip", "kube-proxy"]),
    "iptables": (IptablesBackend, ["iptables-save", "-c"]),
}


@pytest.fixture
def netns(tmp_path):
    path = str(tmp_path / "node")
    create_netns(path)
    yield path
    delete_netns(path)


@pytest.mark.parametrize("mode", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_recorded_listings_are_what_the_kernel_prints(case, mode, netns):
    backend, program = BACKENDS[mode]
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed: apt install nftables iptables")
    kernel = LinuxKernel()
    try:
        backend(kernel, netns).sync(case.model())
        with in_netns(netns):
            listing = subprocess.run(program, check=True, text=True, capture_output=True).stdout
    finally:
        kernel.close()
    listing = re.sub(r"^#.*\n", "", listing, flags=re.MULTILINE)  # when, and by which version
    path = case.listing_file(mode)
    if os.environ.get("PODNET_UPDATE_GOLDEN"):
        path.write_text(listing)
    # Elements come in an order of the kernel's own, and iptables of another version writes other words: what is said
    # of a listing is compared.
    live, recorded = explain_service(case.material(mode, listing)), explain_service(case.material(mode))
    for port, known in zip(live.ports, recorded.ports, strict=True):
        assert [step.sentence for step in port.steps] == [step.sentence for step in known.steps]
        assert port.endpoints == known.endpoints

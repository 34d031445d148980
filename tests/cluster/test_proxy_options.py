"""Options of the proxy that a cluster's spec sets, on a booted cluster, in nftables mode and switched to iptables."""

from __future__ import annotations

import pytest
from services_world import BALANCER_IP, BOTH, EXTERNAL_IP, addresses_of, balancer, new_world, web


@pytest.fixture(scope="module")
def masquerading(boot_cluster):
    world = new_world(boot_cluster, "nftables", masqueradeAll=True)
    yield world
    world.cluster.down()


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_masquerade_all_hides_pods_from_endpoints_of_a_cluster_ip(masquerading, mode):
    """A pod is seen as its node; under externalTrafficPolicy Local the outside client keeps its address all the same."""
    world = masquerading
    world.cluster.podnet("proxy", "mode", mode, "-c", world.cluster.name)
    balancer(world, "all", externalTrafficPolicy="Local", externalIPs=[EXTERNAL_IP])
    world.run(web("web-3", "worker-1", "solo"))
    address = world.service("solo", selector={"app": "solo"})["spec"]["clusterIP"]
    try:
        for source, node in (("c-1", "worker-1"), ("c-2", "worker-2"), ("web-3", "worker-1")):
            world.answered(source, address, {"web-3"}, 4)
            assert world.seen_as(source, address) in addresses_of(world, node), source
        with world.routed(EXTERNAL_IP, "worker-1"), world.routed(BALANCER_IP, "worker-1"):
            for where in (EXTERNAL_IP, BALANCER_IP):
                world.answered("host/client", where, {"web-1"}, 4)
                assert world.seen_as("host/client", where) not in addresses_of(world, "worker-1"), where
        for where in (EXTERNAL_IP, BALANCER_IP):
            world.answered("c-2", where, BOTH, 16)
            assert world.seen_as("c-2", where) == world.ip("c-2"), where
    finally:
        world.clean()

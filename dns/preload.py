"""Import all that a coredns container runs, in the process from which containers are forked.

In a container neither this checkout nor its virtual environment exists: a coredns pod is a fork of the node's warm
interpreter, and shares these modules' memory with the kubelet and with the other pods of the node.
"""

from __future__ import annotations

import importlib.util


def preload() -> None:
    """Every module of the server and of its plugins."""
    from podnet.dns import registry

    for name in ("podnet.dns.main", "podnet.controlplane.client.informer", "podnet.controlplane.client.rest"):
        importlib.import_module(name)
    for directive in registry.ORDER:
        name = f"podnet.dns.plugins.{directive}"
        if importlib.util.find_spec(name) is not None:  # `root` has no module
            importlib.import_module(name)

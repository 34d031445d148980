"""`/coredns`: the cluster's DNS server, with the flags of the real one.

The server is a room of its own above this one. It is not imported here but found: the process from which containers are
forked has imported it (`podnet.dns.preload`), and no file of it exists in the container.
"""

from __future__ import annotations

import importlib
import sys

_SERVER = "podnet.dns.main"


def main(argv: list[str]) -> int:
    """`coredns [-conf FILE] [-dns.port PORT]`: serves until SIGTERM."""
    try:
        server = importlib.import_module(_SERVER)
    except ImportError:
        print(f"{argv[0]}: podnet's DNS server runs as the main process of a container only", file=sys.stderr)
        return 1
    server.main(argv[1:])
    return 0

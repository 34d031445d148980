"""`/coredns`: a reserved name. The cluster's DNS server is a component of podnet and runs outside pods."""

from __future__ import annotations

import sys


def main(argv: list[str]) -> int:
    """Says so, exit code 1."""
    name = argv[0].rpartition("/")[2]
    print(
        f"{name}: podnet's DNS server is not a container yet: see `podnet status` for the cluster's own",
        file=sys.stderr,
    )
    return 1

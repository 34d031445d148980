"""`agnhost pause`: print "Paused" and sleep until a signal."""

from __future__ import annotations

from podnet.controlplane.kubelet.images.programs import pause


def main(argv: list[str]) -> int:
    """Exit code 0 after SIGINT or SIGTERM."""
    print("Paused", flush=True)
    return pause.main(argv)

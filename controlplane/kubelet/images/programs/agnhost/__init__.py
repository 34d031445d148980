"""`/agnhost`: the image of the Kubernetes network tests, as its subcommands behave.

One module a subcommand, imported only when it is asked for: `connect` must start in milliseconds.
Source: test/images/agnhost of Kubernetes (its README and its behaviour).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

SUBCOMMANDS = {
    "connect": "connect",
    "dns-server-list": "resolver",
    "dns-suffix": "resolver",
    "entrypoint-tester": "entrypoint_tester",
    "etc-hosts": "resolver",
    "grpc-health-checking": "grpc_health",
    "liveness": "liveness",
    "logs-generator": "logs_generator",
    "netexec": "netexec",
    "no-snat-test": "no_snat_test",
    "no-snat-test-proxy": "no_snat_test",
    "pause": "pause",
    "port-forward-tester": "port_forward_tester",
    "porter": "porter",
    "serve-hostname": "serve_hostname",
    "tcp-reset": "tcp_reset",
    "test-webserver": "test_webserver",
}
UNSUPPORTED = [
    "audit-proxy",
    "crd-conversion-webhook",
    "fake-gitserver",
    "guestbook",
    "inclusterclient",
    "mounttest",
    "net",
    "nettest",
    "openidmetadata",
    "resource-consumer-controller",
    "sample-device-plugin",
    "webhook",
]


def main(argv: list[str]) -> int:
    """`agnhost <subcommand> <flags>`."""
    from podnet.controlplane.kubelet.images.programs.flags import FlagError

    if len(argv) < 2 or argv[1] in ("-h", "--help", "help"):
        print("Usage:\n  app [command]\n\nAvailable Commands:\n  " + "\n  ".join(sorted(SUBCOMMANDS)))
        return 0
    if argv[1] == "--version":
        print("app version 2.47 (podnet)")
        return 0
    name = argv[1]
    _end_on_sigterm()
    if name in UNSUPPORTED:
        print(f"Error: podnet's agnhost does not have the command {name!r}", file=sys.stderr)
        return 1
    if name not in SUBCOMMANDS:
        print(f'Error: unknown command "{name}" for "app"\nRun \'app --help\' for usage.', file=sys.stderr)
        return 1
    try:
        return _module_main(name)(argv[1:])
    except FlagError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def _end_on_sigterm() -> None:
    """As a Go program: SIGTERM ends it with code 2 even where it is PID 1, unless the subcommand handles it."""
    import os
    import signal

    signal.signal(signal.SIGTERM, lambda *_: os._exit(2))


def preload() -> None:
    """Import every subcommand."""
    for name in SUBCOMMANDS:
        _module_main(name)


def _module_main(name: str) -> Callable[[list[str]], int]:
    run: Callable[[list[str]], int] = importlib.import_module(f"{__name__}.{SUBCOMMANDS[name]}").main
    return run

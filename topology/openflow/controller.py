"""The OpenFlow controller, a process: `python -m podnet.topology.openflow.controller --port 6653 --hosts FILE`.

os-ken 4 has no launcher any more, so this is one: it runs os-ken's OpenFlow handler and the learning switch (`app`) in
native threads.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

OFP_PORT = 6653


def main(argv: list[str] | None = None) -> None:
    """Serve until killed."""
    arguments = argparse.ArgumentParser(prog="podnet-openflow-controller")
    arguments.add_argument("--port", type=int, default=OFP_PORT, help="the port on 127.0.0.1 that switches connect to")
    arguments.add_argument("--hosts", type=Path, required=True, help="JSON: what `LearningSwitch.read_hosts` takes")
    options = arguments.parse_args(argv)
    # Before os_ken is imported: native threads, not eventlet's, which patches half of the standard library.
    os.environ["OSKEN_HUB_TYPE"] = "native"
    try:
        from os_ken import cfg
        from os_ken.base import app_manager
    except ImportError as error:
        raise SystemExit(f"openflow switches need os-ken: pip install 'podnet[sdn]' ({error})") from error
    from podnet.topology.openflow.app import LearningSwitch

    LearningSwitch.read_hosts(options.hosts)
    signal.signal(signal.SIGHUP, lambda _number, _frame: LearningSwitch.read_hosts(options.hosts))
    cfg.CONF(
        args=["--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", str(options.port)],
        project="podnet",
        default_config_files=[],
    )
    app_manager.AppManager.run_apps(["os_ken.controller.ofp_handler", "podnet.topology.openflow.app"])


if __name__ == "__main__":
    main(sys.argv[1:])

"""The plugin while the node's daemon is down, in a process of its own, on the same leases.

The rule: taking away must always work, or a node that is being cleaned up leaks addresses for ever; giving can wait.
So DEL, GC, CHECK and VERSION do their whole job here, ADD answers "try again later" (11) and STATUS "not available" (50),
after the same validation as ever. Source: CNI SPEC 1.1.0 section 2 (DEL, STATUS, error codes).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from podnet.cni import request
from podnet.cni.netconf import parse_netconf
from podnet.cni.plugin import Node, Plugin
from podnet.cni.removal import LinkRemover
from podnet.cni.request import Request, Response
from podnet.cni.store import LeaseStore
from podnet.cni.types import PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CNIError
from podnet.topology.kernel import Kernel
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.paths import NodePaths


def refusal(call: Request) -> CNIError | None:
    """What a call gets because the daemon is down; None when it can be answered all the same."""
    verb = call.env.get("CNI_COMMAND", "")
    if verb not in ("ADD", "STATUS"):
        return None
    try:
        request.required_env(call.env)
        if verb == "ADD":
            request.parse_attachment(call.env)
        parse_netconf(request.parse_stdin(call.stdin), call.env.get("CNI_ARGS", ""))
    except CNIError as error:
        return error
    code = TRY_AGAIN_LATER if verb == "ADD" else PLUGIN_NOT_AVAILABLE
    msg = "try again later: the CNI daemon is not running" if verb == "ADD" else "the CNI daemon is not running"
    return CNIError(code, msg)


async def answer_offline(call: Request, paths: NodePaths, kernel: Kernel) -> Response:
    """Answer one call without the daemon."""
    refused = refusal(call)
    if refused is not None:
        return request.error_answer(refused, call.stdin)
    try:
        store = LeaseStore(paths.cni_state_dir)
    except CNIError as error:
        return request.error_answer(error, call.stdin)
    with contextlib.closing(store), LinkRemover(kernel) as remover:
        node = Node(kernel, store, paths.subnet_env, remover.remove, time.monotonic)
        with contextlib.closing(Plugin(node)) as plugin:
            return await plugin.handle(call)


def main(argv: Sequence[str]) -> None:
    """Run as `python -IS -c ... <state> <run>`, exec'd by the launcher with its own environment and input."""
    state, run = argv
    env = {key: value for key, value in os.environ.items() if key.startswith("CNI_")}
    stdin = sys.stdin.buffer.read() if env.get("CNI_COMMAND") else b""
    response = asyncio.run(answer_offline(Request(env, stdin), NodePaths(Path(state), Path(run)), LinuxKernel()))
    sys.stdout.buffer.write(response.stdout)
    sys.stderr.buffer.write(response.stderr)
    sys.exit(response.exit_code)

"""Run a program inside the cluster and collect what it prints: a question to the supervisor, no terminal involved."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass

from podnet import launch, wire
from podnet.directories import ClusterDirectories
from podnet.launch import ClusterError


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """How a program inside the cluster ended."""

    exit_code: int
    stdout: str
    stderr: str


def collect(directories: ClusterDirectories, target: str, *argv: str, timeout_s: float = 60.0) -> ProgramResult:
    """Run a program in a pod, node or host. Raises ClusterError when it could not even be started."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull, "rb") as null:
        with launch.connect(directories) as sock:
            sock.settimeout(timeout_s)
            wire.send(
                sock,
                {"verb": "exec", "target": target, "argv": list(argv)},
                (null.fileno(), out.fileno(), err.fileno()),
            )
            answer = next((a for a in wire.messages(sock) if a.get("done")), {"error": "the supervisor hung up"})
        if answer.get("error"):
            raise ClusterError(f"{target}: {answer['error']}")
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return ProgramResult(int(answer["exit"]), texts[0], texts[1])

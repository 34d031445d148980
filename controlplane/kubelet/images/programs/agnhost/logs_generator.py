"""`agnhost logs-generator -t 10 -d 5s`: so many log lines in that time, numbered, as kubectl's log tests read them."""

from __future__ import annotations

import random
import sys
import threading
import time

from podnet.controlplane.kubelet.images.programs.flags import parse_flags

_METHODS = ("GET", "PUT", "POST")
_NAMESPACES = ("default", "kube-system", "ns")


def main(argv: list[str]) -> int:
    """`--log-lines-total`/-t and `--run-duration`/-d."""
    defaults = {"log-lines-total": 0, "run-duration": 0.0}
    values, _ = parse_flags(argv[1:], defaults, short={"t": "log-lines-total", "d": "run-duration"})
    total, duration_s = int(values["log-lines-total"]), float(values["run-duration"])
    if total <= 0:
        print(f"Invalid total number of lines: {total}", file=sys.stderr)
        return 1
    if duration_s <= 0:
        print(f"Invalid duration: {duration_s}", file=sys.stderr)
        return 1
    pause = threading.Event()
    for number in range(total):
        print(line(number, time.time()), flush=True)
        pause.wait(duration_s / total)
    return 0


def line(number: int, now_s: float) -> str:
    """`I0102 15:04:05.000000 1 logs_generator.go:76] 0 GET /api/v1/namespaces/ns/pods/abc 200`."""
    t = time.gmtime(now_s)
    stamp = f"I{t.tm_mon:02d}{t.tm_mday:02d} {time.strftime('%H:%M:%S', t)}.{int(now_s % 1 * 1e6):06d}"
    name = "".join(random.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(4))
    path = f"/api/v1/namespaces/{random.choice(_NAMESPACES)}/pods/{name}"
    return f"{stamp}       1 logs_generator.go:76] {number} {random.choice(_METHODS)} {path} {random.randint(200, 599)}"

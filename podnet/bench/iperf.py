"""iperf3 between two pods: a server that stays, and one short run after the other to an address of it."""

from __future__ import annotations

import json

from podnet.bench.rows import BenchError
from podnet.lab.session import LabSession

PORT = 5201
SECONDS = 1
TRIES = 20
_LIMIT_S = 10


def wait_serves(lab: LabSession, target: str) -> None:
    """Until iperf3 listens in a pod."""
    lab.wait_until(
        lambda: f":{PORT}" in lab.run_in(target, "ss", "-Hltn", "sport", "=", f":{PORT}").stdout, "iperf3 listens"
    )


def through(lab: LabSession, client: str, address: str, seconds: int = SECONDS) -> float:
    """Gb/s of one TCP stream from a pod to an address. A server that is still busy with the run before is asked again."""
    said = ""
    for _ in range(TRIES):
        words = ("timeout", str(seconds + _LIMIT_S), "iperf3", "-c", address, "-t", str(seconds), "-J")
        said = lab.run_in(client, *words).stdout
        if "busy" not in said:
            break
    return gigabits(said)


def gigabits(text: str) -> float:
    """What the receiver measured, from the JSON of an iperf3 client.

    >>> gigabits('{"end": {"sum_received": {"bits_per_second": 2.5e9}}}')
    2.5
    """
    try:
        result = json.loads(text)
        found = float(result["end"]["sum_received"]["bits_per_second"]) / 1e9
    except (ValueError, KeyError, TypeError) as err:
        raise BenchError(f"iperf3 did not measure: {' '.join(text.split())[:200] or 'it said nothing'}") from err
    if found <= 0:
        raise BenchError("iperf3 measured nothing: no byte arrived")
    return found

"""One probe of one container instance, as a state machine.

Pure. A result changes only after `successThreshold` successes or `failureThreshold` failures in a row. Before that a
readiness probe counts as failed, a liveness probe as succeeded, a startup probe as undecided. After a failed liveness or
startup probe nothing is asked any more: the container is about to be killed.
Source: kubernetes.io/docs/concepts/workloads/pods/probes and kubelet's prober worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from podnet.controlplane.kubelet.timestamps import SECOND_NS

ProbeKind = Literal["startup", "liveness", "readiness"]

KINDS: tuple[ProbeKind, ...] = ("startup", "liveness", "readiness")


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """The numbers of a Probe with the API's defaults; `handler` is the probe's JSON."""

    kind: ProbeKind
    handler: Mapping[str, Any]
    initial_delay_s: int = 0
    timeout_s: int = 1
    period_s: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    grace_period_s: int | None = None


@dataclass(frozen=True, slots=True)
class ProbeState:
    """`result` is what counts (None: undecided), `streak` how often `last` came in a row."""

    result: bool | None
    last: bool | None = None
    streak: int = 0


def parse_probe(container: Mapping[str, Any], kind: ProbeKind) -> ProbeSpec | None:
    """The container's probe of that kind, if it has one."""
    probe = container.get(f"{kind}Probe")
    if not probe:
        return None
    return ProbeSpec(
        kind=kind,
        handler=probe,
        initial_delay_s=int(probe.get("initialDelaySeconds") or 0),
        timeout_s=int(probe.get("timeoutSeconds") or 1),
        period_s=int(probe.get("periodSeconds") or 10),
        success_threshold=int(probe.get("successThreshold") or 1),
        failure_threshold=int(probe.get("failureThreshold") or 3),
        grace_period_s=probe.get("terminationGracePeriodSeconds"),
    )


def initial_state(kind: ProbeKind) -> ProbeState:
    """Before the first answer."""
    return ProbeState({"startup": None, "liveness": True, "readiness": False}[kind])


def advance(spec: ProbeSpec, state: ProbeState, *, success: bool) -> ProbeState:
    """The state after one more answer."""
    streak = state.streak + 1 if state.last is success else 1
    threshold = spec.success_threshold if success else spec.failure_threshold
    moved = replace(state, last=success, streak=streak)
    return replace(moved, result=success) if streak >= threshold else moved


def is_over(spec: ProbeSpec, state: ProbeState) -> bool:
    """No more probing of this instance: started, or condemned."""
    if spec.kind == "startup":
        return state.result is not None
    return spec.kind == "liveness" and state.result is False


def first_probe_ns(spec: ProbeSpec, started_at_ns: int) -> int:
    """When the first probe is due."""
    return started_at_ns + spec.initial_delay_s * SECOND_NS

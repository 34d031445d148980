"""Why containers wait, and for how long: from failures and back-offs to the words of the API.

Pure. Right after a failure the API shows the failure itself (ErrImagePull, RunContainerError); once the user has had
time to see it, the wait that it causes (ImagePullBackOff, CrashLoopBackOff), as upstream's next sync does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.backoff import BackoffEntry, go_duration, next_entry
from podnet.controlplane.kubelet.pod_actions import ContainerWait, StartFailure
from podnet.controlplane.kubelet.timestamps import SECOND_NS

SHOW_FAILURE_NS = 5 * SECOND_NS
CONFIG_RETRY_NS = 10 * SECOND_NS

_IMAGE_REASONS = {"ErrImagePull", "RegistryUnavailable"}
# InvalidImageName: no pull was ever tried that could back off, so it stays what is shown.
_CONFIG_REASONS = {"CreateContainerConfigError", "ErrImageNeverPull", "InvalidImageName"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """One container's waiting state; `event` is the BackOff event that goes with it ("": none)."""

    reason: str
    message: str
    event: str = ""


def is_config_failure(failure: StartFailure) -> bool:
    """True for a failure that a change of configuration may mend at any time."""
    return failure.reason in _CONFIG_REASONS


def after_failure(failure: StartFailure, entry: BackoffEntry | None) -> tuple[StartFailure, BackoffEntry | None]:
    """(the failure with its retry time, the back-off entry from now on)."""
    if is_config_failure(failure):
        return replace(failure, retry_at_ns=failure.at_ns + CONFIG_RETRY_NS), entry
    entry = next_entry(entry, failure.at_ns, failure.at_ns)
    return replace(failure, retry_at_ns=failure.at_ns + entry.delay_ns), entry


def waiting_reasons(
    pod: Object, waits: Iterable[ContainerWait], failures: Mapping[str, StartFailure], now_ns: int
) -> dict[str, Waiting]:
    """By container name, for those that wait."""
    reasons: dict[str, Waiting] = {}
    for wait in waits:
        if wait.until_ns <= now_ns:
            continue
        failure = failures.get(wait.name)
        if failure is not None and (is_config_failure(failure) or now_ns < failure.at_ns + SHOW_FAILURE_NS):
            reasons[wait.name] = Waiting(failure.reason, failure.message)
        elif failure is not None and failure.reason in _IMAGE_REASONS:
            reasons[wait.name] = _image_back_off(pod, wait.name, failure)
        else:
            reasons[wait.name] = _crash_loop(pod, wait)
    for name, failure in failures.items():
        reasons.setdefault(name, Waiting(failure.reason, failure.message))
    return reasons


def _image_back_off(pod: Object, name: str, failure: StartFailure) -> Waiting:
    container = pod_spec.container_named(pod, name) or {}
    text = f'Back-off pulling image "{container.get("image", "")}"'
    return Waiting("ImagePullBackOff", f"{text}: {failure.reason}: {failure.message}", text)


def _crash_loop(pod: Object, wait: ContainerWait) -> Waiting:
    where = f"{pod_spec.full_name(pod)}({pod_spec.uid(pod)})"
    return Waiting(
        "CrashLoopBackOff",
        f"back-off {go_duration(wait.delay_ns)} restarting failed container={wait.name} pod={where}",
        f"Back-off restarting failed container {wait.name} in pod {where}",
    )

"""Why a container waits: from a failure to the words that `kubectl get pods` prints."""

from __future__ import annotations

from typing import Any

import pytest

from podnet.controlplane.kubelet.backoff import BackoffEntry
from podnet.controlplane.kubelet.pod_actions import ContainerWait, StartFailure
from podnet.controlplane.kubelet.waiting import after_failure, is_config_failure, waiting_reasons

S = 1_000_000_000
NOW = 1000 * S
POD: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
    "spec": {"containers": [{"name": "app", "image": "nope:v1"}]},
}


def failure(reason: str, ago_s: int, retry_in_s: int) -> StartFailure:
    return StartFailure(0, NOW - ago_s * S, reason, "it failed", NOW + retry_in_s * S)


@pytest.mark.parametrize(
    ("failed", "reason", "message"),
    [
        pytest.param(
            None, "CrashLoopBackOff", "back-off 20s restarting failed container=app pod=web_shop(u)", id="crash"
        ),
        pytest.param(failure("ErrImagePull", 1, 9), "ErrImagePull", "it failed", id="pull-just-failed"),
        pytest.param(
            failure("ErrImagePull", 6, 4),
            "ImagePullBackOff",
            'Back-off pulling image "nope:v1": ErrImagePull: it failed',
            id="pull-failed",
        ),
        pytest.param(failure("RunContainerError", 1, 9), "RunContainerError", "it failed", id="run-just-failed"),
        pytest.param(
            failure("RunContainerError", 6, 4),
            "CrashLoopBackOff",
            "back-off 20s restarting failed container=app pod=web_shop(u)",
            id="run-failed",
        ),
        pytest.param(
            failure("CreateContainerConfigError", 8, 2), "CreateContainerConfigError", "it failed", id="config-stays"
        ),
        pytest.param(failure("ErrImageNeverPull", 8, 2), "ErrImageNeverPull", "it failed", id="never-pull-stays"),
        pytest.param(failure("InvalidImageName", 8, 2), "InvalidImageName", "it failed", id="invalid-name-stays"),
    ],
)
def test_reasons(failed: StartFailure | None, reason: str, message: str) -> None:
    failures = {} if failed is None else {"app": failed}
    waiting = waiting_reasons(POD, [ContainerWait("app", NOW + 9 * S, 20 * S)], failures, NOW)["app"]
    assert (waiting.reason, waiting.message) == (reason, message)
    assert bool(waiting.event) is reason.endswith("BackOff")


def test_a_wait_that_is_over_has_no_reason() -> None:
    assert waiting_reasons(POD, [ContainerWait("app", NOW, 20 * S)], {}, NOW) == {}


def test_the_retries_of_a_failure() -> None:
    first, entry = after_failure(failure("ErrImagePull", 0, 0), None)
    assert first.retry_at_ns == NOW + 10 * S
    second, entry = after_failure(failure("ErrImagePull", 0, 0), entry)
    assert second.retry_at_ns == NOW + 20 * S
    config, after = after_failure(failure("CreateContainerConfigError", 0, 0), entry)
    assert config.retry_at_ns == NOW + 10 * S
    assert after == entry == BackoffEntry(20 * S, NOW)
    assert is_config_failure(config)
    assert not is_config_failure(first)

"""The probe state machine: thresholds, first answers, ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.kubelet.probes.state import (
    KINDS,
    ProbeKind,
    ProbeSpec,
    advance,
    first_probe_ns,
    initial_state,
    is_over,
    parse_probe,
)


def results(kind: ProbeKind, answers: str, success: int = 1, failure: int = 3) -> list[bool | None]:
    spec = ProbeSpec(kind, {}, success_threshold=success, failure_threshold=failure)
    state = initial_state(kind)
    out = []
    for answer in answers:
        state = advance(spec, state, success=answer == "+")
        out.append(state.result)
        if is_over(spec, state):
            break
    return out


T, F, N = True, False, None


@pytest.mark.parametrize(
    ("kind", "answers", "success", "failure", "expected"),
    [
        pytest.param("readiness", "+", 1, 3, [T], id="ready-at-once"),
        pytest.param("readiness", "-+", 1, 3, [F, T], id="ready-at-the-second"),
        pytest.param("readiness", "++", 2, 3, [F, T], id="ready-after-two"),
        pytest.param("readiness", "+-+", 2, 3, [F, F, F], id="successes-in-a-row"),
        pytest.param("readiness", "+---", 1, 3, [T, T, T, F], id="unready-after-three"),
        pytest.param("readiness", "+--+---", 1, 3, [T, T, T, T, T, T, F], id="failures-in-a-row"),
        pytest.param("liveness", "--", 1, 3, [T, T], id="alive-until-the-threshold"),
        pytest.param("liveness", "---+", 1, 3, [T, T, F], id="dead-is-the-end"),
        pytest.param("startup", "--+", 1, 3, [N, N, T], id="started"),
        pytest.param("startup", "---", 1, 3, [N, N, F], id="never-started"),
        pytest.param("startup", "+---", 1, 3, [T], id="started-is-the-end"),
    ],
)
def test_results(kind: ProbeKind, answers: str, success: int, failure: int, expected: list[bool | None]) -> None:
    assert results(kind, answers, success, failure) == expected


@given(st.sampled_from(KINDS), st.text(alphabet="+-", max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_a_result_never_changes_before_its_threshold(kind: ProbeKind, answers: str, success: int, failure: int) -> None:
    before = initial_state(kind).result
    for index, result in enumerate(results(kind, answers, success, failure)):
        if result is not before:
            threshold, sign = (success, "+") if result else (failure, "-")
            assert answers[: index + 1].endswith(sign * threshold)
        before = result


def test_defaults() -> None:
    spec = parse_probe({"livenessProbe": {"httpGet": {"port": 80}, "terminationGracePeriodSeconds": 7}}, "liveness")
    assert spec is not None
    assert (spec.initial_delay_s, spec.timeout_s, spec.period_s) == (0, 1, 10)
    assert (spec.success_threshold, spec.failure_threshold, spec.grace_period_s) == (1, 3, 7)
    assert parse_probe({}, "readiness") is None


def test_the_first_probe_waits_for_the_initial_delay() -> None:
    assert first_probe_ns(ProbeSpec("liveness", {}, initial_delay_s=5), 10**9) == 6 * 10**9

"""Cron schedules against a slow but obvious search, and what a CronJob does when its time comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_objects import owner

from podnet.controlplane.api.timestamps import format_time, parse_time
from podnet.controlplane.controllers.cronjob.plan import BY_HAND, excess_jobs, latest_due, plan_cron_job
from podnet.controlplane.controllers.cronjob.schedule import Schedule, ScheduleError, parse_schedule

BERLIN = ZoneInfo("Europe/Berlin")


def following(expression: str, after: str, zone: Any = UTC) -> str | None:
    moment = parse_schedule(expression).next_after(parse_time(after), zone)
    return None if moment is None else format_time(moment)


NEXT = [
    pytest.param("*/15 * * * *", "2026-01-01T00:07:30Z", "2026-01-01T00:15:00Z", id="quarters"),
    pytest.param("*/15 * * * *", "2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z", id="strictly after"),
    pytest.param("0 9 * * mon-fri", "2026-01-02T10:00:00Z", "2026-01-05T09:00:00Z", id="over the weekend"),
    pytest.param("0 0 1 1 *", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", id="next year"),
    pytest.param("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z", id="leap day"),
    pytest.param("0 0 30 2 *", "2026-01-01T00:00:00Z", None, id="never"),
    pytest.param("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", id="a day or a weekday"),
    pytest.param("0 0 */2 * 5", "2026-01-03T00:00:00Z", "2026-01-05T00:00:00Z", id="a step is no star"),
    pytest.param("@hourly", "2026-01-01T00:00:01Z", "2026-01-01T01:00:00Z", id="hourly"),
    pytest.param("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z", id="weekly is Sunday"),
    pytest.param("@every 1h30m", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z", id="every"),
    pytest.param("5/20 3 * jan,MAR ?", "2026-01-31T23:00:00Z", "2026-03-01T03:05:00Z", id="lists, names, open step"),
]


@pytest.mark.parametrize(("expression", "after", "expected"), NEXT)
def test_next(expression: str, after: str, expected: str | None) -> None:
    assert following(expression, after) == expected


ZONES = [
    pytest.param("0 9 * * *", "2026-01-01T00:00:00Z", "2026-01-01T08:00:00Z", id="winter"),
    pytest.param("0 9 * * *", "2026-07-01T00:00:00Z", "2026-07-01T07:00:00Z", id="summer"),
    pytest.param("30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z", id="a time that is skipped"),
    pytest.param("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", id="a time that comes twice"),
    pytest.param("0 * * * *", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", id="every real hour"),
]


@pytest.mark.parametrize(("expression", "after", "expected"), ZONES)
def test_time_zones(expression: str, after: str, expected: str) -> None:
    assert following(expression, after, BERLIN) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-3 * * * *",
        "*/0 * * * *",
        "x * * * *",
        "@never",
        "@every soon",
        "1-2-3 * * * *",
        "* * * * * *",
    ],
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse_schedule(text)


def test_a_zone_in_the_schedule() -> None:
    assert parse_schedule("CRON_TZ=Asia/Tokyo 0 0 * * *").zone_name == "Asia/Tokyo"


FIELDS = [st.integers(0, 59), st.integers(0, 23), st.integers(1, 28), st.integers(1, 12), st.integers(0, 6)]
EXPRESSIONS = st.tuples(*(st.one_of(st.just("*"), st.just("*"), field.map(str)) for field in FIELDS)).map(" ".join)


@given(EXPRESSIONS, st.integers(1_700_000_000, 1_900_000_000))
def test_next_is_the_first_that_matches(expression: str, after: int) -> None:
    schedule = parse_schedule(expression)
    found = schedule.next_after(after)
    minute = datetime.fromtimestamp(after // 60 * 60, UTC)
    for _ in range(3000):  # about two days
        minute += timedelta(minutes=1)
        if _matches(schedule, minute):
            assert found == minute.timestamp()
            return
    assert found is None or found > minute.timestamp()
    if found is not None:
        assert _matches(schedule, datetime.fromtimestamp(found, UTC))


def _matches(schedule: Schedule, moment: datetime) -> bool:
    day, weekday = moment.day in schedule.days, (moment.weekday() + 1) % 7 in schedule.weekdays
    days = day and weekday if schedule.any_day or schedule.any_weekday else day or weekday
    return (
        days and moment.month in schedule.months and moment.hour in schedule.hours and moment.minute in schedule.minutes
    )


CREATED = parse_time("2026-01-01T00:00:30Z")
MINUTELY = parse_schedule("* * * * *")


def cron_job(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec": {}}}}
    body = owner("CronJob", "tick", schedule="* * * * *", jobTemplate=template, **spec)
    body["metadata"]["creationTimestamp"] = format_time(CREATED)
    return {**body, "status": status or {}}


def run(name: str, kind: str = "", at: float = CREATED) -> dict[str, Any]:
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": format_time(at)}] if kind else []
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {"metadata": metadata, "status": {"startTime": format_time(at), "conditions": conditions}}


def plan(body: dict[str, Any], jobs: list[Any], now: float) -> Any:
    return plan_cron_job(body, jobs, MINUTELY, UTC, now)


def test_nothing_is_due_yet() -> None:
    early = plan(cron_job(), [], CREATED + 10)
    assert (early.start, early.recheck_s) == (None, 20.0)


def test_the_job_of_a_time_is_named_for_it() -> None:
    due = plan(cron_job(), [], CREATED + 31)
    assert due.start["metadata"]["name"] == f"tick-{int(CREATED + 30) // 60}"
    assert due.start["metadata"]["labels"] == {"a": "b"}
    assert due.start["metadata"]["annotations"] == {
        "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T00:01:00Z"
    }


def test_only_the_latest_missed_time_is_made_up_for() -> None:
    assert latest_due(cron_job(), MINUTELY, UTC, CREATED + 600) == (CREATED + 570, 10)
    late, missed = latest_due(cron_job(), MINUTELY, UTC, CREATED + 86400 * 400)
    assert (late, missed) == (CREATED + 86400 * 400 - 30, 101)
    (event,) = plan(cron_job(), [], CREATED + 86400).events
    assert event[1] == "TooManyMissedTimes"


def test_a_starting_deadline_forgets_what_is_too_old() -> None:
    daily = parse_schedule("@daily")
    body = cron_job(startingDeadlineSeconds=60)
    assert plan_cron_job(body, [], daily, UTC, CREATED + 86400).start is not None
    assert plan_cron_job(body, [], daily, UTC, CREATED + 86400 + 100).start is None


POLICIES = [
    pytest.param("Allow", True, 0, id="allow"),
    pytest.param("Forbid", False, 0, id="forbid"),
    pytest.param("Replace", True, 1, id="replace"),
]


@pytest.mark.parametrize(("policy", "starts", "stops"), POLICIES)
def test_concurrency(policy: str, starts: bool, stops: int) -> None:
    due = plan(cron_job(concurrencyPolicy=policy), [run("tick-1")], CREATED + 31)
    assert (due.start is not None, len(due.stop)) == (starts, stops)


def test_a_job_made_by_hand_is_nobodys_turn() -> None:
    by_hand = run("by-hand")
    by_hand["metadata"]["annotations"] = {BY_HAND: "manual"}
    for policy in ("Forbid", "Replace"):
        due = plan(cron_job(concurrencyPolicy=policy), [by_hand], CREATED + 31)
        assert (due.start is not None, due.stop, due.status.get("active")) == (True, [], None)
        assert due.events == [
            ("Warning", "UnexpectedJob", "Saw a job that the controller did not create or forgot: by-hand")
        ]
    assert excess_jobs(cron_job(failedJobsHistoryLimit=0), [{**by_hand, **run("x", "Failed")}]) != []


def test_suspended_means_no_start() -> None:
    assert plan(cron_job(suspend=True), [], CREATED + 600).start is None


def test_a_time_is_acted_upon_once() -> None:
    name = f"tick-{int(CREATED + 30) // 60}"
    again = plan(cron_job(), [run(name)], CREATED + 31)
    assert again.start is None
    assert again.status["lastScheduleTime"] == format_time(CREATED + 30)
    assert plan(cron_job(again.status), [], CREATED + 40).start is None


def test_history_and_ended_jobs() -> None:
    jobs = [run(f"s{n}", "Complete", CREATED + n) for n in range(5)] + [run("f0", "Failed"), run("f1", "Failed")]
    assert [job["metadata"]["name"] for job in excess_jobs(cron_job(), jobs)] == ["s0", "s1", "f0"]
    body = cron_job({"active": [{"uid": "uid-s4", "name": "s4"}, {"uid": "gone", "name": "gone"}]}, suspend=True)
    after = plan(body, jobs, CREATED + 31)
    assert "active" not in after.status
    assert after.status["lastSuccessfulTime"] == format_time(CREATED + 4)
    assert after.events == [("Normal", "SawCompletedJob", "Saw completed job: s4, condition: Complete")]

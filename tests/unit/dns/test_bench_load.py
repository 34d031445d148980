"""The DNS bench measures right answers or nothing; the figures are for `podnet bench`."""

from __future__ import annotations

import shutil

import pytest

from podnet.dns.bench import Measurement, measure, rows_of
from podnet.dns.bench_kubernetes import bench_change, bench_corefile, mixes, serve_cluster
from podnet.dns.bench_load import (
    Asked,
    LoadResult,
    Mix,
    WrongAnswerError,
    _is_right,
    check_answers,
    read_dnsperf,
    running,
)
from podnet.dns.config import parse_config
from podnet.dns.message import NXDOMAIN

DNSPERF = """
  Queries sent:         39257
  Queries completed:    39249 (99.98%)
  Queries lost:         8 (0.02%)

  Response codes:       NOERROR 39240 (99.98%), SERVFAIL 9 (0.02%)
  Average packet size:  request 55, response 1655
  Run time (s):         1.000535
  Queries per second:   39228.013013
"""
HEADER = bytes.fromhex("0001 8580 0001 0001 0000 0000")
ONE = Asked("a.b", frozenset(("10.0.0.1",)))


@pytest.fixture(scope="module")
def server():
    """The port of a server with 5 Services, in a process of its own."""
    with running(serve_cluster, 5) as (port, _pid):
        yield port


@pytest.mark.parametrize("mix", mixes(5), ids=lambda mix: mix.name)
def test_every_mix_is_answered_as_it_says(server, mix):
    assert check_answers(server, mix) > 40


def test_a_headless_name_without_room_is_refused_as_cut_short(server):
    headless = next(mix for mix in mixes(5) if mix.edns)
    with pytest.raises(WrongAnswerError, match=r"many\.ns0\.svc\.cluster\.local: the answer is cut short"):
        check_answers(server, Mix(headless.name, headless.asked))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked("svc-0.ns0.svc.cluster.local", frozenset(("10.9.9.9",))), "not its 1 addresses"),
        (Asked("svc-0.ns0.svc.cluster.local"), "1 records, not its 0"),
        (Asked("svc-0.ns0.svc.cluster.local", rcode=NXDOMAIN), "NOERROR, not NXDOMAIN"),
        (Asked("gone.ns0.svc.cluster.local"), "NXDOMAIN, not NOERROR"),
    ],
    ids=["other address", "too many", "there", "not there"],
)
def test_a_wrong_answer_is_no_figure(server, asked, said):
    with pytest.raises(WrongAnswerError, match=said):
        check_answers(server, Mix("wrong", (asked,)))


@pytest.mark.parametrize(
    ("data", "asked", "right"),
    [
        (HEADER, ONE, True),
        (HEADER[:2] + b"\x87" + HEADER[3:], ONE, False),
        (HEADER[:2] + b"\x05" + HEADER[3:], ONE, False),
        (HEADER[:3] + b"\x83" + HEADER[4:], ONE, False),
        (HEADER[:3] + b"\x83" + HEADER[4:6] + b"\0\0" + HEADER[8:], Asked("a.b", rcode=NXDOMAIN), True),
        (HEADER[:6] + b"\0\2" + HEADER[8:], ONE, False),
        (HEADER[:5], ONE, False),
    ],
    ids=["right", "cut short", "a query", "other code", "absent", "two answers", "rubbish"],
)
def test_a_timed_answer_is_judged_by_its_header(data, asked, right):
    assert _is_right(data, asked) is right


def test_dnsperf_is_read_with_all_that_went_amiss():
    assert read_dnsperf(DNSPERF, 0, 1655) == (39228.013013, 17)
    assert read_dnsperf(DNSPERF, 2, 1655) == (39228.013013, 8 + 39240)


def test_dnsperf_given_short_answers_is_no_figure():
    with pytest.raises(WrongAnswerError, match="answers of 1655 bytes, right ones have 3000"):
        read_dnsperf(DNSPERF, 0, 3000)
    with pytest.raises(ValueError, match="dnsperf says nothing of"):
        read_dnsperf("Segmentation fault", 0, 10)


def test_the_corefile_is_the_clusters_own_with_nothing_left_out_that_answers():
    servers = parse_config(bench_corefile(1053, 1054), environ={}, port=53)
    assert len(servers) == 2
    text = bench_corefile(1053, 1054)
    for line in ("kubernetes cluster.local", "cache 30", "loadbalance", "forward . 127.0.0.1:1054", "errors"):
        assert line in text
    assert "resolv.conf" not in text


def test_a_server_that_cannot_start_is_an_error():
    with pytest.raises(ChildProcessError, match="ended before it listened"), running(_ends):
        pytest.fail("it runs")


def _ends(connection):
    connection.close()


def test_rows_of_a_mix():
    got = LoadResult(50_000.0, 0.5, 2.0, 0, 30.0)
    rate, p50, p99 = rows_of("x", got, 100_000.0, has_budget=True)
    assert (rate.value, rate.budget, rate.at_most, rate.reference_value) == (50_000.0, 45_000.0, False, 100_000.0)
    assert (p50.budget, p99.budget) == (None, 10.0)
    assert {row.budget for row in rows_of("x", got, 1.0, has_budget=False)} == {None}


def test_without_dnsperf_the_row_says_how_to_get_it_and_changes_are_measured(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    load, change = measure((5,))
    assert load == Measurement(
        "queries a second", None, "/s", 45_000.0, False,
        error="not installed: dnsperf, taskset (sudo apt install dnsperf util-linux)",
    )  # fmt: skip
    assert change.value > 0


def test_a_small_run_has_every_row():
    if shutil.which("dnsperf") is None:
        pytest.skip("dnsperf is not installed: sudo apt install dnsperf")
    rows = list(measure((5,), seconds=0.3))
    if any(row.error for row in rows):
        assert "a core each" in rows[0].error
        return
    assert len(rows) == 3 * 4 + 3
    assert all(row.value > 0 for row in rows if row.name != "5 Services: queries lost or answered amiss")


def test_changes_reach_the_zone():
    assert bench_change(3, rounds=9) > 0

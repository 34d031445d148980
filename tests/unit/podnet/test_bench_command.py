"""`podnet bench` without measuring anything: rows, ratios, sizes, tables, options, failures and interrupts."""

from __future__ import annotations

import doctest
import json
import os
import signal
import warnings

import pytest
from rich.text import Text

from podnet.bench import GROUPS, Row, Settings, iperf, parse_sizes, rows, run_groups
from podnet.bench.iperf import gigabits
from podnet.bench.programs import need_programs
from podnet.bench.rows import BenchError, attempt, median_ratio, percentile
from podnet.dns import bench_load
from podnet.launch import ClusterError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer's, of click
    from podnet.cli import bench_table
    from podnet.cli.bench import bench
    from podnet.cli.bench_table import figure, lines_of, reference_of, summary
    from podnet.cli.output import Format

ROWS = [
    Row("services", "full load of 5000 Services, nftables", 1234.5, "ms", None, True, "nft of the same text", 1200.0, True),
    Row("services", "Service / direct throughput, iptables, median of 7 pairs", 0.93, "", 0.95, False, "direct", 1.0, True),
    Row("services", "endpoint change to served on every node, 100 Services, p99", 36.6, "ms", 250.0),
    Row("boot", "podnet up to a Deployment that runs", 3.3, "s", 5.0, True, "k3d 19.9 s; kind 33.0", 19.94),
    Row("dns", "queries a second", None, "/s", error="not installed: dnsperf (sudo apt install dnsperf)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sizes"), [("5", (5,)), ("100,1000", (100, 1000)), (" 7, 5 ,7", (7, 5)), ("10000", (10_000,))]
)
def test_sizes(text, sizes):
    assert parse_sizes(text) == sizes


@pytest.mark.parametrize("text", ["", ",", "0", "-5", "1.5", "abc", "100,,5", "10001", "1_0", "٣", "5 5"])
def test_bad_sizes_say_which_word_is_bad(text):
    with pytest.raises(ValueError, match="is no number of Services from 1 to 10000"):
        parse_sizes(text)


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)], ids=["p50", "p99", "all", "none"]
)
def test_percentile_of_a_hundred(share, value):
    assert percentile(list(range(100, 0, -1)), share) == value


def test_percentile_of_few():
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_the_ratio_is_of_neighbouring_runs():
    # The machine was slow in the second pair, for both.
    assert median_ratio([10.0, 1.0, 9.0], [10.0, 2.0, 10.0]) == 0.9
    with pytest.raises(ValueError, match="argument 2 is longer"):
        median_ratio([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it said nothing"),
        ('{"error": "unable to connect to server: Connection refused"}', "Connection refused"),
        ('{"end": {}}', "did not measure"),
        ('{"end": {"sum_received": {"bits_per_second": 0}}}', "no byte arrived"),
        ("[]", "did not measure"),
    ],
)
def test_iperf3_that_does_not_measure_says_why(text, said):
    with pytest.raises(BenchError, match=said):
        gigabits(text)


def test_a_missing_program_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name, path="": None if name == "iperf3" else f"/usr/bin/{name}")
    need_programs("ip", "nft")
    with pytest.raises(BenchError, match="not installed: iperf3") as refused:
        need_programs("iperf3", "nft")
    assert refused.value.fix == "sudo apt install iperf3"


def test_a_part_that_fails_keeps_the_rows_before_it():
    def broken():
        yield ROWS[0]
        raise ClusterError("this step needs kubectl", "install kubectl")

    first, failed = attempt("services", "throughput", broken)
    assert first is ROWS[0]
    assert (failed.group, failed.name, failed.value) == ("services", "throughput", None)
    assert failed.error == "this step needs kubectl (install kubectl)"


def test_groups_get_the_settings(monkeypatch):
    notes, seen = [], []
    monkeypatch.setitem(GROUPS, "one", lambda settings: seen.append(settings.sizes) or [ROWS[0]])
    assert list(run_groups(["one"], Settings((5,), notes.append))) == [ROWS[0]]
    assert seen == [(5,)]
    assert notes == ["one"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(None, "ms", "-"), (0.0, "", "0"), (1234567.0, "/s", "1,234,567/s"), (0.968, "", "0.968"), (12.34, "s", "12.3 s"),
     (99.96, "ms", "100.0 ms"), (-0.5, "ms", "-0.500 ms"), (8.0, "", "8"), (1.0, "", "1.00")],
)  # fmt: skip
def test_figures(value, unit, text):
    assert figure(value, unit) == text


@pytest.mark.parametrize("module", [rows, iperf, bench_table, bench_load], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_references():
    assert reference_of(ROWS[0]) == "nft of the same text 1,200 ms"
    assert reference_of(ROWS[1]) == "direct"
    assert reference_of(ROWS[3]) == "k3d 19.9 s; kind 33.0 (published)"
    assert reference_of(ROWS[4]) == "not measured: not installed: dnsperf (sudo apt install dnsperf)"
    assert reference_of(ROWS[2]) == ""


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width):
    lines = [Text.from_markup(line).plain for line in lines_of(ROWS, width)]
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for row in ROWS:
        for word in f"{row.name} {reference_of(row)}".split():
            assert word in words
    assert words.count("yes") == 2
    assert words.count("NO") == 1


def test_the_summary_names_what_is_missed_and_what_failed():
    text = summary(ROWS)
    assert text.splitlines()[0] == "2 of 3 budgets hold"
    assert "missed: Service / direct throughput, iptables, median of 7 pairs, 0.930 (>= 0.95)" in text
    assert "not measured: queries a second" in text


@pytest.fixture
def measured(monkeypatch):
    """The verb, with groups that measure nothing; its exit code."""
    for name in list(GROUPS):
        monkeypatch.setitem(GROUPS, name, lambda settings, name=name: [Row(name, f"{settings.sizes}", 1.0, "s")])

    def run(*groups, sizes="", output=Format.TEXT):
        try:
            bench(list(groups), sizes, output)
        except SystemExit as end:
            return end.code
        return 0

    return run


@pytest.mark.parametrize(
    ("groups", "sizes", "said"),
    [
        (["nonsense"], "", "no such group: nonsense"),
        (["services"], "many", "--sizes many: 'many' is no number of Services from 1 to 10000"),
        ([], "0", "--sizes 0: '0' is no number of Services from 1 to 10000"),
        (["boot"], "5", "--sizes is for dns and services, not for boot"),
    ],
    ids=["group", "word", "zero", "group without sizes"],
)
def test_bad_usage_is_one_line_and_exit_code_2(measured, capsys, groups, sizes, said):
    assert measured(*groups, sizes=sizes) == 2
    first, *more = capsys.readouterr().err.splitlines()
    assert first == f"podnet: {said}"
    assert len(more) <= 1


def test_text_in_a_pipe_is_one_line_for_each_row(measured, monkeypatch, capsys):
    monkeypatch.setitem(GROUPS, "services", lambda _settings: ROWS[:3])
    assert measured("services", "boot") == 0
    got = capsys.readouterr()
    heading, *lines = got.out.splitlines()
    assert heading.split() == ["GROUP", "WHAT", "FIGURE", "BUDGET", "HOLDS", "RATIO", "REFERENCE"]
    assert [line.split()[0] for line in lines] == ["services"] * 3 + ["boot"]
    assert "\x1b" not in got.out + got.err
    assert "1 of 2 budgets hold" in got.err


def test_json_has_every_row(measured, capsys):
    assert measured("services", "boot", "services", sizes="5,7", output=Format.JSON) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["group"], row["name"]) for row in rows] == [("services", "(5, 7)"), ("boot", "(5, 7)")]
    assert {"value", "unit", "budget", "withinBudget", "reference", "referenceMeasured", "ratio", "error"} <= set(
        rows[0]
    )


def test_a_failed_group_is_exit_code_1_and_the_others_go_on(measured, monkeypatch, capsys):
    monkeypatch.setitem(GROUPS, "dns", lambda _settings: iter([ROWS[4]]))
    assert measured("dns", "boot", output=Format.JSON) == 1
    got = capsys.readouterr()
    assert [row["group"] for row in json.loads(got.out)] == ["dns", "boot"]
    assert "failed dns: queries a second: not installed: dnsperf" in got.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_tidies_up_once_and_keeps_the_figures(measured, monkeypatch, capsys, number, code):
    tidied = []

    def rows(_settings):
        yield ROWS[0]
        try:
            os.kill(os.getpid(), number)
            yield ROWS[1]
        finally:
            os.kill(os.getpid(), number)  # the impatient press it twice
            tidied.append(number)

    monkeypatch.setitem(GROUPS, "services", rows)
    # Whoever was started in the background of a shell ignores SIGINT.
    before = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    inherited = signal.signal(number, before)
    assert measured("services", output=Format.JSON) == code
    assert tidied == [number]
    got = capsys.readouterr()
    assert [row["name"] for row in json.loads(got.out)] == [ROWS[0].name]
    assert "interrupted" in got.err
    assert signal.signal(number, inherited) is before

"""The command line as shells use it: closed streams, pipes whose reader has gone, files that are none, words that are no
text. Each is one line and an exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def shell(tmp_path):
    """Run a line of shell in which `podnet` is the command, with a state directory of its own."""
    (tmp_path / "r").mkdir()
    (tmp_path / "podnet").write_text(f'#!/bin/sh\nexec {sys.executable} -m podnet "$@"\n')
    (tmp_path / "podnet").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name not in ("PODNET_CLUSTER", "TERM")}
    env = {
        **kept,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_STATE_HOME": str(tmp_path / "s"),
        "XDG_RUNTIME_DIR": str(tmp_path / "r"),
    }

    def run(line: str, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            env={**env, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    run.path = tmp_path
    return run


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(shell, closed):
    assert shell(f"podnet ls {closed}").returncode == 0
    assert shell(f"podnet status -c none {closed}").returncode == 1


@pytest.mark.parametrize("more", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"COLUMNS": "20"}])
def test_poor_terminals(shell, more):
    done = shell("podnet status -c none", **more)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "podnet: cluster 'none' is not running")
    assert shell("podnet lab ls", **more).returncode == 0


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("mkfifo f; podnet up -f f", 1, "podnet: f:1: empty"),
        ("podnet up -f /dev/zero", 1, "podnet: /dev/zero: larger than 8 MiB"),
        ("podnet up -f .", 1, "podnet: .: Is a directory"),
        ("echo 5 | podnet up -f -", 1, "podnet: -:1: must be a mapping, not the number 5"),
        ("printf '\\377' | podnet up -f -", 1, "podnet: -: is not UTF-8 text"),
        ("printf '? [a]\\n: b\\n' | podnet up -f -", 1, "podnet: -:1: a field's name must be a string, not a list"),
        ("podnet up -c ''", 1, "podnet: '' is no cluster name"),
        ("podnet up -c 'a b'", 1, "podnet: 'a b' is no cluster name"),
        ("podnet get pods -n \"$(printf '\\377')\"", 1, "podnet: "),
        ("podnet get pods -n ../x", 2, "podnet: invalid resource name '../x'"),
        ("podnet logs ../x", 2, "podnet: invalid resource name '../x'"),
        ("podnet delete pod a/b", 2, "podnet: invalid resource name 'a/b'"),
        ("podnet proxy mode bogus", 2, "podnet: unknown proxy mode 'bogus': use one of nftables, iptables, none"),
        ("podnet capture node/a", 2, "podnet: Missing option '--write' / '-w'.\n  fix: podnet capture --help"),
        ("podnet capture node/a -w new --seconds nan", 2, "podnet: nan is no number of seconds"),
        ("podnet nonsense", 2, "podnet: No such command 'nonsense'.\n  fix: podnet --help"),
        ("podnet node crash", 2, "podnet: Missing argument 'NAME'.\n  fix: podnet node crash --help"),
        ("podnet up --bogus", 2, "podnet: No such option '--bogus'."),
        ("podnet up --nodes x", 2, "podnet: Invalid value for '--nodes': "),
        ("podnet ls -o yaml", 2, "podnet: Invalid value for '--output' / '-o': 'yaml' is not one of 'text', 'json'."),
        ("podnet capture node/a -w new; test ! -e new || echo left >&2", 0, "podnet: cluster 'default' is not running"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith(("podnet ", "mkfifo")) else "",
)
def test_wrong_use_is_one_line_and_leaves_nothing(shell, line, code, said):
    done = shell(line)
    assert (done.returncode, done.stderr[: len(said)]) == (code, said)
    assert "left" not in done.stderr
    assert not (shell.path / "s").exists()


def test_a_capture_that_cannot_begin_empties_no_file(shell):
    shell("echo precious > old; podnet capture node/a -w old")
    assert (shell.path / "old").read_text() == "precious\n"


def test_purge_of_nothing_says_so(shell):
    done = shell("podnet down --purge -c none")
    assert (done.returncode, done.stdout) == (0, "there is no cluster 'none' to forget\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{{{", ":"), (b"", ":1: empty"), (b"\xff\x00", ": is not UTF-8 text"), (None, ": Is a directory")],
    ids=["no yaml", "empty", "no text", "a directory"],
)
def test_a_stored_cluster_file_that_is_broken_says_how_to_go_on(shell, content, reason):
    stored = shell.path / "s" / "podnet" / "x" / "cluster.yaml"
    stored.parent.mkdir(parents=True)
    if content is None:
        stored.mkdir()
    else:
        stored.write_bytes(content)
    done = shell("podnet up -c x")
    assert done.returncode == 1
    assert done.stderr.startswith(f"podnet: {stored}{reason}")
    assert "podnet down -c x --purge" in done.stderr


@pytest.mark.parametrize("group", ["", "node", "lab", "etcd", "proxy"])
def test_a_group_without_a_verb_shows_its_help(shell, group):
    done = shell(f"podnet {group}")
    assert (done.returncode, "Usage: podnet" in done.stdout + done.stderr) == (2, True)
    assert shell(f"podnet {group} --help").returncode == 0


def test_hints_name_the_cluster_only_where_they_must(shell):
    hint = f'{sys.executable} -c \'from podnet.cli.options import cluster_option as c; print([c("default"), c("a")])\''
    assert shell(hint).stdout == "['', ' -c a']\n"
    assert shell(hint, PODNET_CLUSTER="a").stdout == "[' -c default', '']\n"


def test_a_rate_below_one_bit_is_not_no_limit(shell):
    done = shell("podnet link set a b --rate 0.001")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "podnet: '0.001' is less than one bit a second")

"""docs/conformance.md names tests that prove behaviours: each of them exists, and each row says how it is proved."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance.md"
HOW = {"both", "cluster", "pure"}
CLUSTER_FIXTURES = ROOT / "tests" / "cluster" / "conftest.py"


def rows() -> list[tuple[str, str, str]]:
    """(behaviour, proof, how) of every row of every table."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] != "Behaviour":
            assert len(cells) == 3, line
            found.append((cells[0], cells[1], cells[2]))
    return found


@cache
def functions(path: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def skips(test: ast.AST) -> bool:
    calls = (node.func for node in ast.walk(test) if isinstance(node, ast.Call))
    return any(ast.unparse(call).rpartition(".")[2] in {"skip", "skipif", "xfail"} for call in calls)


ROWS = rows()


def test_the_page_has_its_tables():
    assert len(ROWS) > 50
    text = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    wanted = ["Where a packet goes", "Services", "EndpointSlices", "HostPorts", "The API server as a proxy", "DNS"]
    assert headings == wanted


@pytest.mark.parametrize(("behaviour", "proof", "how"), ROWS, ids=[row[0][:60] for row in ROWS])
def test_what_proves_a_behaviour_exists(behaviour, proof, how):
    if proof == "not covered":
        assert how == "-"
        return
    assert how in HOW
    named = re.findall(r"`([^`]+)::(\w+)`", proof)
    assert named
    assert not re.sub(r"`[^`]+`", "", proof).strip(), "tests and nothing else"
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert name in functions(path), f"{path} has no {name}"
        assert not skips(functions(path)[name]), f"{name} may be skipped"


@pytest.mark.parametrize("proof", sorted({row[1] for row in ROWS if row[2] == "both"}))
def test_what_runs_in_both_modes_is_parametrized_by_mode(proof):
    """By the world that is booted once a mode, or, where the mode changes while the cluster runs, by naming both."""
    for path, name in re.findall(r"`([^`]+)::(\w+)`", proof):
        if "world" in {argument.arg for argument in functions(path)[name].args.args}:
            assert 'scope="module", params=MODES' in CLUSTER_FIXTURES.read_text(encoding="utf-8")
        else:
            source = ast.unparse(functions(path)[name])
            assert {"nftables", "iptables"} <= set(re.findall(r"\w+", source)), f"{path}::{name}"

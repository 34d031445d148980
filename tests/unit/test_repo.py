"""Rules of the house that a machine can hold: sizes, docstrings, imports, READMEs."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("topology", "cni", "overlay", "proxy", "dns", "controlplane")
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70


def _sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).is_file() and not name.startswith(("tests/", "labs/"))]


SOURCES = _sources()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_file(path):
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= MAX_FILE_LINES, f"{lines} lines: is it two rooms?"
    tree = ast.parse(text)
    if text.strip():
        assert ast.get_docstring(tree), "a module says what it is"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} is {length} lines long"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _check_import(node)
    assert not re.search(r"#\s*(TODO|FIXME|XXX)", text)
    assert "NotImplementedError" not in text


def _check_import(node: ast.Import | ast.ImportFrom) -> None:
    """Rooms are imported as podnet.<room>: a top-level `dns` would be another module, or dnspython's."""
    if isinstance(node, ast.ImportFrom):
        names = [node.module or ""] if node.level == 0 else []
    else:
        names = [alias.name for alias in node.names]
    for name in names:
        assert name.split(".")[0] not in ROOMS, f"import {name}: write podnet.{name}"


@pytest.mark.parametrize("room", ROOMS)
def test_room_is_a_symlink_in_the_package(room):
    link = ROOT / "podnet" / room
    assert link.is_symlink()
    assert link.resolve() == ROOT / room


@pytest.mark.parametrize("room", ROOMS)
def test_room_has_a_readme_with_its_job(room):
    assert "Job" in (ROOT / room / "README.md").read_text(encoding="utf-8")


def test_there_are_sources_to_check():
    assert len(SOURCES) > 50

"""Every `podnet …` that a README tells a reader to type is one that the command line takes."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path

import click
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer's, of click
    import typer.main

    from podnet.cli.app import app

ROOT = Path(__file__).resolve().parents[3]
READMES = [ROOT / "README.md", *sorted((ROOT / "labs").rglob("README.md"))]
_ENDS = {"|", ">", ">>", "&", "&&", ";", "2>&1"}


def commands(text: str) -> list[str]:
    """Lines of console blocks after their `$`, and inline code; not what has a hole in it for the reader to fill."""
    blocks = re.findall(r"^```(?:console|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    typed = [line for block in blocks for line in re.findall(r"^(?:\$ )?(.*)$", block, re.MULTILINE)]
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    found = [" ".join(word.split()) for word in (*typed, *inline)]
    found += re.findall(r"\$\((podnet [^)]*)\)", text)
    return sorted({word for word in found if word.startswith("podnet ") and not re.search(r"[…\[{]| VERB|, ", word)})


CASES = [(path, line) for path in READMES for line in commands(path.read_text(encoding="utf-8"))]


def parse(line: str) -> None:
    """What the command line does with the words before it does anything else."""
    words = shlex.split(line, comments=True)[1:]
    words = words[: next((at for at, word in enumerate(words) if word in _ENDS), len(words))]
    command = typer.main.get_command(app)
    context = click.Context(command, info_name="podnet")
    while isinstance(command, click.Group):
        if words[0].startswith("-"):
            return
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        if not isinstance(command, click.Group):
            command.make_context(name, list(words), parent=context)
            return
        context = click.Context(command, info_name=name, parent=context)
        if not words:
            return


@pytest.mark.parametrize(("path", "line"), CASES, ids=[f"{path.parent.name}: {line}" for path, line in CASES])
def test_a_command_of_a_readme_is_taken(path, line):
    assert path.is_file()
    parse(line)


def test_the_reader_finds_what_there_is():
    assert len(CASES) > 60
    assert "podnet up" in [line for _, line in CASES]
    with pytest.raises(click.UsageError):
        parse("podnet link sideways a b")
    with pytest.raises(click.UsageError):
        parse("podnet nonsense")

"""Each folder's README tells of the files that are there: none is left out, and none is named that is gone; the cluster
files in prose are such as `podnet up -f` takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from podnet.topology.spec import load_cluster_spec

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("topology", "cni", "overlay", "proxy", "dns", "controlplane")
READMES = sorted(readme for room in ROOMS for readme in (ROOT / room).rglob("README.md"))
PROSE = [ROOT / "README.md", ROOT / "labs/README.md", *sorted((ROOT / "docs").rglob("*.md")), *READMES]


def words_of(readme: Path) -> set[str]:
    """What stands in backticks, word by word."""
    quoted = re.findall(r"`([^`\n]+)`", readme.read_text(encoding="utf-8"))
    return {word.strip("(),:;").rstrip("/") for text in quoted for word in text.split()}


def sources_of(folder: Path) -> list[Path]:
    """The sources of which this README has to tell: those of folders that have no README of their own."""
    entries = sorted(folder.iterdir())
    files = [entry for entry in entries if entry.suffix == ".py" and entry.name != "__init__.py"]
    return files + [
        entry for entry in entries if entry.is_dir() and not (entry / "README.md").exists() and any(entry.glob("*.py"))
    ]


def is_told(path: Path, words: set[str]) -> bool:
    names = {path.name, path.stem}
    if any(word in names or word.split("/")[0] in names for word in words):
        return True
    # a folder whose files are each told by name needs no line for itself
    return path.is_dir() and all(
        is_told(file, {word.split("/")[-1] for word in words}) for file in path.glob("*.py") if file.stem != "__init__"
    )


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_readme_tells_of_every_source_file_of_its_folder(readme):
    words = words_of(readme)
    left_out = [str(path.relative_to(ROOT)) for path in sources_of(readme.parent) if not is_told(path, words)]
    assert not left_out, f"name them in {readme.relative_to(ROOT)}, with what they are for"


@pytest.mark.parametrize("readme", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_readme_names_no_python_file_that_is_not_there(readme):
    gone = []
    for word in words_of(readme):
        if not re.fullmatch(r"[\w./-]+\.py", word) or "NN-name" in word:
            continue
        plain = word.split("::")[0]
        places = [readme.parent / plain, ROOT / plain, ROOT / "tests/cluster" / plain]
        if not any(place.exists() for place in places) and not any(ROOT.glob(f"[a-z]*/**/{Path(plain).name}")):
            gone.append(word)
    assert not gone


def cluster_files() -> list[tuple[str, str]]:
    found = []
    for path in PROSE:
        blocks = re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
        found += [(str(path.relative_to(ROOT)), block) for block in blocks if "kind: Cluster\n" in block]
    return found


@pytest.mark.parametrize(("where", "text"), cluster_files(), ids=lambda value: value if value.endswith(".md") else "")
def test_a_cluster_file_in_prose_is_one(where, text):
    assert load_cluster_spec(text, where).nodes


def test_there_is_prose_to_check():
    assert len(READMES) > 10
    assert cluster_files()

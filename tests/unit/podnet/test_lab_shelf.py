"""Labs are found by number or name, and what is not a lab says so; a check that meets the unexpected fails, and no more."""

from __future__ import annotations

import pytest

from podnet.controlplane.api.errors import not_found
from podnet.lab import Check, run_checks
from podnet.lab.shelf import LABS, find_lab, find_labs
from podnet.launch import ClusterError

LESSON = """
from podnet.lab import Lesson

class Mine(Lesson):
    title, summary = "Lab 09: mine", "a lab"
"""


@pytest.fixture
def shelf(tmp_path):
    for name in ("09-mine", "10-other", "notes", "1-short"):
        (tmp_path / name).mkdir()
    (tmp_path / "09-mine" / "lab.py").write_text(LESSON)
    (tmp_path / "10-other" / "lab.py").write_text("VALUE = 1\n")
    return tmp_path


def test_folders_with_a_number_are_labs(shelf):
    assert [(lab.number, lab.name, lab.cluster) for lab in find_labs(shelf)] == [
        ("09", "mine", "lab-09"),
        ("10", "other", "lab-10"),
    ]
    assert find_labs(shelf / "nowhere") == []


@pytest.mark.parametrize("text", ["9", "09", "mine", "09-mine", "lab-09"])
def test_a_lab_has_many_names(shelf, text):
    assert find_lab(text, shelf).path.name == "09-mine"


@pytest.mark.parametrize(
    ("text", "hint"), [("mien", "did you mean mine?"), ("zzz", "podnet lab ls shows them: 09-mine, 10-other")]
)
def test_a_typo_is_answered_with_what_may_have_been_meant(shelf, text, hint):
    with pytest.raises(ClusterError) as raised:
        find_lab(text, shelf)
    assert (str(raised.value), raised.value.fix) == (f"there is no lab {text!r}", hint)


def test_a_lesson_knows_its_folder_and_cluster(shelf):
    lesson = find_lab("mine", shelf).lesson()
    assert (lesson.title, lesson.folder()) == ("Lab 09: mine", (shelf / "09-mine").resolve())
    assert lesson.cluster_spec("x").name == "x"
    assert len(lesson.cluster_spec("x").nodes) == 3, "the default cluster"


def test_a_lab_py_without_a_lesson_is_refused(shelf):
    with pytest.raises(ClusterError, match="one subclass of Lesson was expected, 0 are there"):
        find_lab("other", shelf).lesson()
    (shelf / "10-other" / "lab.py").unlink()
    with pytest.raises(ClusterError, match=r"there is no lab\.py in it"):
        find_lab("other", shelf).lesson()


@pytest.mark.parametrize("lab", find_labs(), ids=lambda lab: lab.path.name)
def test_every_lab_of_the_house_is_a_lesson(lab):
    lesson = lab.lesson()
    assert lesson.title.startswith(f"Lab {lab.number}: ")
    assert lesson.cluster_spec(lab.cluster).name == lab.cluster
    assert lab.path.parent == LABS


@pytest.mark.parametrize(
    "error",
    [ClusterError("no running pod default/a"), not_found("pods", "a"), KeyError("podIP"), IndexError("0")],
    ids=["program", "object", "field", "item"],
)
def test_what_is_not_there_fails_a_check_and_the_others_go_on(error):
    def broken():
        raise error

    results = run_checks([Check("one", broken), Check("two", lambda: "fine")])
    assert [result.status for result in results] == ["fail", "pass"]
    assert results[0].look_at

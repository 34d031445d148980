"""The labs there are: folders of `labs/`, found by number or name."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import podnet
from podnet.lab.lesson import Lesson
from podnet.launch import ClusterError

LABS = Path(podnet.__file__).resolve().parents[1] / "labs"
_FOLDER = re.compile(r"(\d\d)-([a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class LabFolder:
    """One lab: `02`, `services`, and where it is."""

    number: str
    name: str
    path: Path

    @property
    def cluster(self) -> str:
        """The name of the cluster that `podnet lab run` boots."""
        return f"lab-{self.number}"

    def lesson(self) -> type[Lesson]:
        """Import its lab.py. Raises ClusterError when that is not a lesson."""
        module_name = f"podnet_lab_{self.number}"
        spec = importlib.util.spec_from_file_location(module_name, self.path / "lab.py")
        if spec is None or spec.loader is None or not (self.path / "lab.py").is_file():
            raise ClusterError(f"{self.path}: there is no lab.py in it")
        module = importlib.util.module_from_spec(spec)
        import sys

        sys.modules[module_name] = module  # dataclasses and inspect look for it there
        spec.loader.exec_module(module)
        found = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Lesson) and value.__module__ == module_name
        ]
        if len(found) != 1:
            raise ClusterError(f"{self.path / 'lab.py'}: one subclass of Lesson was expected, {len(found)} are there")
        return found[0]


def find_labs(root: Path = LABS) -> list[LabFolder]:
    """Every lab, by number."""
    if not root.is_dir():
        return []
    matches = ((entry, _FOLDER.fullmatch(entry.name)) for entry in sorted(root.iterdir()) if entry.is_dir())
    return [LabFolder(match[1], match[2], entry) for entry, match in matches if match]


def find_lab(text: str, root: Path = LABS) -> LabFolder:
    """A lab by `2`, `02`, `services` or `02-services`. Raises ClusterError, with what may have been meant."""
    labs = find_labs(root)
    for lab in labs:
        if text in (lab.number, lab.number.lstrip("0"), lab.name, lab.path.name, lab.cluster):
            return lab
    names = [lab.path.name for lab in labs]
    near = get_close_matches(text, [*names, *(lab.name for lab in labs)], n=1)
    hint = f"did you mean {near[0]}?" if near else f"podnet lab ls shows them: {', '.join(names)}"
    raise ClusterError(f"there is no lab {text!r}", hint)

"""What labs are made of: a session (a cluster of its own, programs inside it, captures) and checks that say why."""

from podnet.collect import ProgramResult
from podnet.lab.checks import Check, CheckResult, run_checks
from podnet.lab.lesson import Lesson
from podnet.lab.packets import Sighting, decode_capture
from podnet.lab.session import LabSession

__all__ = ["Check", "CheckResult", "LabSession", "Lesson", "ProgramResult", "Sighting", "decode_capture", "run_checks"]

"""A boot ends with the client that asked for it; a cluster that is up outlives every client."""

from __future__ import annotations

import os

from podnet import wire
from podnet.supervisor import Supervisor


def exit_code_after_client(path, progress, last_words):
    """Run a supervisor in a child whose only client follows the boot and is gone; then say `last_words`."""
    with wire.listen(path) as control:
        pid = os.fork()
        if pid == 0:
            try:
                Supervisor(control, progress=list(progress)).run()
            finally:
                os._exit(70)
        try:
            with wire.connect(path) as client:
                wire.send(client, {"verb": "progress"})
                assert next(iter(wire.messages(client))) == progress[0]
            if last_words:
                with wire.connect(path) as other:
                    wire.send(other, last_words)
                    answer = next(iter(wire.messages(other)))
                    assert answer["error"] == "unknown request 'nothing'"
                os.kill(pid, 15)
        except BaseException:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            raise
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_boot_ends_when_its_client_is_killed(tmp_path):
    assert exit_code_after_client(tmp_path / "control", [{"phase": "room"}], None) == 0


def test_a_cluster_that_is_up_goes_on_without_its_client(tmp_path):
    assert exit_code_after_client(tmp_path / "control", [{"phase": "room"}, {"done": True}], {"verb": "nothing"}) == 0


def test_a_boot_that_somebody_stops_says_so_to_who_waits_for_it(tmp_path):
    with wire.listen(tmp_path / "control") as control:
        pid = os.fork()
        if pid == 0:
            try:
                Supervisor(control, progress=[{"phase": "room"}]).run()
            finally:
                os._exit(70)
        with wire.connect(tmp_path / "control") as client, wire.connect(tmp_path / "control") as other:
            wire.send(client, {"verb": "progress"})
            answers = wire.messages(client)
            assert next(answers) == {"phase": "room"}
            wire.send(other, {"verb": "stop"})
            assert next(answers) == {"done": True, "error": "it was stopped while it booted"}
        assert os.waitpid(pid, 0)[1] == 0

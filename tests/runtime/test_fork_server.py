"""What a fork server does in its own process, and a member in its first and last moments."""

import pytest

from shoal.runtime import Code, Exited, LocalRuntime, Resources
from shoal.runtime.forking import can_fork

pytestmark = pytest.mark.skipif(not can_fork(), reason="forked members need Linux")

ONE = Resources()
RARE = "sched"


def test_the_end_of_a_member_is_an_interpreters_end(tmp_path):
    def leave_well(context, log):
        import atexit
        import sys
        import threading
        import time
        from pathlib import Path

        def late():
            time.sleep(0.1)
            Path(log).write_text("thread ")

        atexit.register(lambda: Path(log).write_text(Path(log).read_text() + "exit"))
        threading.Thread(target=late).start()
        sys.exit("no more")

    log = tmp_path / "log"
    code = Code.of(leave_well, {"log": str(log)}, preload=(RARE,))
    with LocalRuntime().gang({"worker": (code, 1, ONE)}) as gang:
        (end,) = (event for event in gang.events() if isinstance(event, Exited))

    assert (end.exit_code, log.read_text()) == (1, "thread exit")
    assert "no more" in end.failure.traceback_text


def test_members_draw_random_numbers_of_their_own(facts):
    first, second = facts(num=2, preload=("numpy",))

    assert first["random"][0] != second["random"][0]
    assert first["random"][1] != second["random"][1]


def test_what_a_member_prints_comes_out_in_order(start_python):
    supervisor = start_python(
        """
        import sys
        from shoal.runtime import Code, Exited, LocalRuntime, Resources

        def speak(context):
            print("one")
            print("two")

        with LocalRuntime().gang({"worker": (Code.of(speak, preload=("sched",)), 1, Resources())}) as gang:
            list(gang.events())
        """
    )

    assert supervisor.communicate(timeout=30) == ("one\ntwo\n", "")

"""What a member's process does around its entry."""

import os
import signal
import subprocess
import sys

import pytest

from shoal.runtime import Code, Exited, Report, Resources

ONE = Resources()


def reports(gang):
    return (event.message for event in gang.events() if isinstance(event, Report))


def test_the_wish_to_stop_is_seen_while_the_main_thread_is_in_c(runtime):
    def work(context):
        import ctypes
        import os
        import threading

        def watch():
            context.report("watching")
            context.stopping.wait()
            context.report("seen")
            os._exit(0)

        threading.Thread(target=watch).start()
        ctypes.CDLL(None).select(0, None, None, None, None)
        while True:
            ctypes.CDLL(None).sleep(600)

    with runtime.gang({"worker": (Code.of(work), 1, ONE)}) as gang:
        next(reports(gang))
        gang.stop(grace_s=60)
        said = list(gang.events())

    assert [event.message for event in said if isinstance(event, Report)] == ["seen"]


def test_the_wish_to_stop_is_seen_inside_uvloop(runtime):
    pytest.importorskip("uvloop")

    def work(context):
        import asyncio

        import uvloop

        async def run():
            stopped = asyncio.Event()
            asyncio.get_running_loop().add_reader(
                context.fileno(), lambda: context.receive_nowait() or (context.stopping.is_set() and stopped.set())
            )
            context.report("running")
            await stopped.wait()
            context.report("stopped")

        uvloop.run(run())

    with runtime.gang({"worker": (Code.of(work), 1, ONE)}) as gang:
        next(reports(gang))
        gang.stop(grace_s=60)
        said = list(gang.events())

    assert [event.message for event in said if isinstance(event, Report)] == ["stopped"]
    assert said[-1].exit_code == 0


def test_an_entry_that_is_no_longer_wanted_is_not_called(runtime, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_to_import.py").write_text(
        """
import os, signal, sys

os.kill(os.getpid(), signal.SIGTERM)
frame = sys._getframe()
while "context" not in frame.f_locals:
    frame = frame.f_back
frame.f_locals["context"].stopping.wait()

def work(context):
    context.report("called")
"""
    )
    code = Code(module="slow_to_import", path=None, qualname="work", config={})

    with runtime.gang({"worker": (code, 1, ONE)}) as gang:
        events = list(gang.events())

    assert [type(event).__name__ for event in events] == ["Started", "Exited"]
    assert events[-1].exit_code == 0


def test_a_segmentation_fault_leaves_its_stack(runtime):
    def crash(context):
        import ctypes

        ctypes.string_at(0)

    with runtime.gang({"worker": (Code.of(crash), 1, ONE)}) as gang:
        end = next(event for event in gang.events() if isinstance(event, Exited))

    assert end.signal == signal.SIGSEGV
    assert "in crash" in end.failure.traceback_text


def test_exit_with_words_keeps_the_words(runtime):
    def leave(context):
        raise SystemExit("no data left")

    with runtime.gang({"worker": (Code.of(leave), 1, ONE)}) as gang:
        end = next(event for event in gang.events() if isinstance(event, Exited))

    assert end.exit_code == 1
    assert "no data left" in end.failure.traceback_text


def test_an_error_that_is_no_exception_of_the_usual_kind_arrives(runtime):
    def work(context):
        raise KeyboardInterrupt("odd")

    with runtime.gang({"worker": (Code.of(work), 1, ONE)}) as gang:
        end = next(event for event in gang.events() if isinstance(event, Exited))

    assert "KeyboardInterrupt: odd" in end.failure.message


def test_the_advice_of_an_error_of_ours_takes_the_place_of_the_usual_one(runtime):
    def work(context):
        from shoal.base import InputError

        raise InputError("there is no such thing", next_step="ask for another")

    with runtime.gang({"worker": (Code.of(work), 1, ONE)}) as gang:
        (failure,) = (event.failure for event in gang.events() if isinstance(event, Exited))

    assert failure.message.endswith("InputError: there is no such thing")
    assert failure.next_step == "ask for another"


def test_a_member_sees_the_import_path_and_folder_of_its_supervisor(runtime, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("relative")

    def look(context):
        import sys
        from pathlib import Path

        context.report([str(Path.cwd()), sys.path[0], "shoal.runtime" in sys.path[1]])

    with runtime.gang({"worker": (Code.of(look), 1, ONE)}) as gang:
        assert next(reports(gang)) == [str(tmp_path), str(tmp_path / "relative"), False]


def test_a_member_holds_no_descriptor_of_its_supervisor(runtime):
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)

    def look(context):
        import os

        context.report([number for number in range(3, 64) if _is_open(os, number)])

    def _is_open(os, number):
        try:
            return bool(os.fstat(number))
        except OSError:
            return False

    with runtime.gang({"worker": (Code.of(look), 1, ONE)}) as gang:
        held = next(reports(gang))
    os.close(read_end)
    os.close(write_end)

    # The line to the supervisor, and both ends of the pipe for signals.
    assert len(held) == 3


def test_a_member_loads_little_before_the_code_of_its_user(run_python, tmp_path):
    (tmp_path / "task.py").write_text(
        "import sys\nbefore = set(sys.modules)\n\ndef work(context):\n    context.report(sorted(before))\n"
    )

    printed = run_python(
        """
        import task
        from shoal.runtime import Code, Report, Resources, open_runtime

        with open_runtime("local").gang({"worker": (Code.of(task.work), 1, Resources())}) as gang:
            print(*next(event for event in gang.events() if isinstance(event, Report)).message)
        """
    )

    # What any interpreter loads here, as one that measures coverage does, is not the member's doing.
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True)
    heavy = {"msgspec", "cloudpickle", "inspect", "dataclasses", "socket", "logging", "asyncio", "subprocess", "numpy"}
    assert not heavy & (set(printed.split()) - set(bare.stdout.split()))

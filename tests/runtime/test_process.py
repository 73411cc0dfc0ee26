"""Nothing of a member outlives its supervisor, and nothing of it stays behind in its supervisor."""

import os
import resource
import signal
import sys
import threading

import psutil
import pytest

from shoal.base import WorkerError
from shoal.runtime import Code, Exited, LocalRuntime, Report, Resources
from shoal.runtime.base import Member
from shoal.runtime.process import Child
from shoal.runtime.running import Launch
from shoal.testing import members

ONE = Resources()

SUPERVISOR = """
    import ctypes, sys
    from shoal.runtime import Code, Report, Resources, open_runtime
    from shoal.testing import members

    def hold_the_interpreter(context):
        context.report("ready")
        ctypes.PyDLL(None).sleep(600)

    entry = {"waits": members.ignore_stop, "holds": hold_the_interpreter}[sys.argv[1]]
    gang = open_runtime("local").gang({"worker": (Code.of(entry), 2, Resources())})
    reports = (event for event in gang.events() if isinstance(event, Report))
    next(reports), next(reports)
    print("ready", flush=True)
    if sys.argv[2] == "leave":
        sys.exit()
    next(reports)
"""


@pytest.mark.parametrize("entry", ["waits", "holds"])
def test_members_die_with_a_killed_supervisor(start_python, entry):
    supervisor = start_python(SUPERVISOR, entry, "stay")
    supervisor.stdout.readline()

    supervisor.kill()

    # Members hold the other end of this pipe: it ends with the last of them.
    assert supervisor.communicate(timeout=30) == ("", "")


def test_members_die_with_a_supervisor_that_ends_without_stopping_them(start_python):
    supervisor = start_python(SUPERVISOR, "waits", "leave")

    assert supervisor.communicate(timeout=30) == ("ready\n", "")


def test_ctrl_c_reaches_the_supervisor_alone_and_it_stops_its_members(start_python):
    supervisor = start_python(
        """
        import sys
        from shoal.runtime import Code, Exited, Resources, open_runtime
        from shoal.testing import members

        with open_runtime("local").gang({"worker": (Code.of(members.wait_for_stop), 2, Resources())}) as gang:
            try:
                for event in gang.events():
                    print("event", flush=True)
            except KeyboardInterrupt:
                pass
        print([event.exit_code for event in gang.events() if isinstance(event, Exited)])
        """
    )
    for _ in range(4):
        supervisor.stdout.readline()

    supervisor.send_signal(signal.SIGINT)

    assert supervisor.communicate(timeout=30) == ("[0, 0]\n", "")


def test_what_a_member_started_dies_with_it(runtime, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    read_end = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)

    def have_a_child(context, fifo):
        import subprocess

        # Both hold the fifo's other end until they are gone.
        os.open(fifo, os.O_WRONLY)
        subprocess.Popen(["sleep", "600"], stdout=os.open(fifo, os.O_WRONLY))
        os._exit(3)

    code = Code.of(have_a_child, {"fifo": str(tmp_path / "fifo")})
    with runtime.gang({"worker": (code, 1, ONE)}) as gang:
        end = next(event for event in gang.events() if isinstance(event, Exited))

    assert end.exit_code == 3
    os.set_blocking(read_end, True)
    assert os.read(read_end, 1) == b""
    os.close(read_end)


def test_fifty_gangs_leave_no_zombie_no_descriptor_and_no_thread(runtime):
    leave = Code.of(members.leave, {"code": 0})
    this = psutil.Process()
    list(runtime.gang({"worker": (leave, 1, ONE)}).events())
    before = (this.num_fds(), threading.active_count(), len(this.children()))

    for _ in range(17):
        with runtime.gang({"worker": (leave, 3, ONE)}) as gang:
            gang.stop(grace_s=0.0)

    assert (this.num_fds(), threading.active_count(), len(this.children())) == before


def test_a_member_that_prints_a_lot_never_waits_and_its_last_words_are_kept(runtime):
    def print_a_lot(context):
        import sys

        sys.stderr.write("x" * 5_000_000 + "the end")
        sys.stderr.flush()
        os._exit(1)

    with runtime.gang({"worker": (Code.of(print_a_lot), 1, ONE)}) as gang:
        end = next(event for event in gang.events() if isinstance(event, Exited))

    assert len(end.failure.traceback_text) == 64 * 1024
    assert end.failure.traceback_text.endswith("the end")


@pytest.mark.slow
def test_a_process_that_left_the_group_with_our_descriptors_does_not_hide_the_death(runtime):
    def leave_a_daemon(context):
        pid = os.fork()
        if not pid:
            os.setsid()
            signal.pause()
        context.report(pid)
        os._exit(4)

    with runtime.gang({"worker": (Code.of(leave_a_daemon), 1, ONE)}) as gang:
        pid = next(event.message for event in gang.events() if isinstance(event, Report))
        (end,) = gang.events()
    os.kill(pid, signal.SIGKILL)

    assert end.exit_code == 4


def test_stderr_goes_to_the_log_folder(tmp_path):
    runtime = LocalRuntime(log_folder=tmp_path / "logs")

    with runtime.gang({"worker": (Code.of(members.leave, {"code": 0}), 2, ONE)}) as gang:
        list(gang.events())

    assert {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()} == {
        "worker-0.log": "leaving with 0\n",
        "worker-1.log": "leaving with 0\n",
    }


def test_what_a_killed_member_printed_is_in_its_log(tmp_path):
    def shout(context):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGKILL)

    with LocalRuntime(log_folder=tmp_path).gang({"worker": (Code.of(shout), 1, ONE)}) as gang:
        list(gang.events())

    assert (tmp_path / "worker-0.log").read_text() == "to stdout\nto stderr\n"


def test_a_large_piece_of_code_reaches_its_member(runtime):
    table = b"\3" * 20_000_000

    def measure(context):
        context.report(len(table))

    with runtime.gang({"worker": (Code.of(measure), 2, ONE)}) as gang:
        assert [event.message for event in gang.events() if isinstance(event, Report)] == [20_000_000] * 2


def test_a_process_that_cannot_start_is_told_with_its_place():
    launch = Launch(
        member=Member("worker", 3), code=Code.of(members.echo), world_size=4, environment={"A": "\0"}, log_folder=None
    )
    before = psutil.Process().num_fds()

    with pytest.raises(WorkerError, match="cannot start worker 3") as caught:
        Child(launch)

    assert caught.value.rank == 3
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize("runtime", [LocalRuntime], indirect=True)
def test_running_out_of_files_is_told_and_leaves_nothing_open(runtime):
    this = psutil.Process()
    before = (this.num_fds(), len(this.children()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] + 14, hard))
    try:
        with pytest.raises(WorkerError, match=r"cannot start worker [1-9].*ulimit -n"):
            runtime.gang({"worker": (Code.of(members.echo), 20, ONE)})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (this.num_fds(), len(this.children())) == before


def test_a_death_is_seen_where_the_system_cannot_leave_an_id_taken(runtime, monkeypatch):
    monkeypatch.delattr(os, "waitid")

    with runtime.gang({"worker": (Code.of(members.fail, {"after": [1]}), 2, ONE)}) as gang:
        ends = [event for event in gang.events() if isinstance(event, Exited)]

    assert ["LookupError" in end.failure.message for end in ends] == [True, True]


def test_a_death_is_seen_where_somebody_else_reaps(runtime):
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with runtime.gang({"worker": (Code.of(members.fail, {"after": []}), 1, ONE)}) as gang:
            end = next(event for event in gang.events() if isinstance(event, Exited))
    finally:
        signal.signal(signal.SIGCHLD, previous)

    assert "LookupError" in end.failure.message

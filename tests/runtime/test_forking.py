"""Members that are forked from a process which has loaded what they need."""

import os
import signal
import socket
import threading
import time
from concurrent.futures import Future

import psutil
import pytest

from shoal.runtime import Code, Exited, LocalRuntime, Report, Resources, forking
from shoal.runtime.forking import Fork, ForkServer, can_fork, find_server
from shoal.testing import RuntimeContract, members

pytestmark = pytest.mark.skipif(not can_fork(), reason="forked members need Linux")

ONE = Resources()
# In the standard library, and loaded by nothing that a member needs.
RARE = "sched"


class TestForkedMembers(RuntimeContract):
    @pytest.fixture
    def runtime(self, forking_runtime):
        return forking_runtime


def test_members_find_loaded_what_their_code_names(facts):
    first, second = facts(num=2)

    assert first["is_loaded"]
    assert first["parent"] == second["parent"] != os.getpid()
    assert (first["words"], second["words"]) == (["worker", "0"], ["worker", "1"])


def test_the_next_gang_gets_the_same_server(facts):
    assert facts()[0]["parent"] == facts()[0]["parent"]


def test_a_variable_that_a_library_may_read_while_it_is_loaded_takes_another_server(facts):
    (before,), (after,) = facts(), facts(environment={"TEST_VARIABLE": "1"})

    assert after["parent"] != before["parent"]
    assert after["variables"]["TEST_VARIABLE"] == "1"


def test_other_limits_take_another_server(facts):
    import resource

    (before,) = facts()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        (after,) = facts()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert after["limits"][0] == before["limits"][0] - 1


def test_members_die_with_their_server_and_the_next_ones_get_another(facts):
    code = Code.of(members.echo, preload=(RARE,))
    with LocalRuntime().gang({"worker": (code, 2, ONE)}) as gang:
        (server,) = {psutil.Process(pid).ppid() for pid in gang.pids.values()}
        os.kill(server, signal.SIGKILL)
        ends = [event.signal for event in gang.events() if isinstance(event, Exited)]

    assert ends == [signal.SIGKILL, signal.SIGKILL]
    assert facts()[0]["parent"] != server


def test_a_server_that_dies_between_two_starts_is_replaced(facts):
    (before,) = facts()
    os.kill(before["parent"], signal.SIGKILL)

    assert facts()[0]["parent"] != before["parent"]


@pytest.mark.parametrize("entry", ["waits", "holds"])
def test_members_and_server_die_with_a_killed_supervisor(start_python, entry):
    supervisor = start_python(
        """
        import ctypes, sys
        from shoal.runtime import Code, Report, Resources, open_runtime
        from shoal.testing import members

        def hold_the_interpreter(context):
            context.report("ready")
            ctypes.PyDLL(None).sleep(600)

        entry = {"waits": members.ignore_stop, "holds": hold_the_interpreter}[sys.argv[1]]
        gang = open_runtime("local").gang({"worker": (Code.of(entry, preload=("sched",)), 2, Resources())})
        reports = (event for event in gang.events() if isinstance(event, Report))
        next(reports), next(reports)
        print("ready", flush=True)
        next(reports)
        """,
        entry,
    )
    supervisor.stdout.readline()
    processes = psutil.Process(supervisor.pid).children(recursive=True)

    supervisor.kill()

    assert supervisor.communicate(timeout=30) == ("", "")
    psutil.wait_procs(processes, timeout=30)
    assert len(processes) == 3
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_a_forked_copy_of_the_supervisor_leaves_its_servers_alone(run_python):
    printed = run_python(
        """
        import os
        from shoal.runtime import Code, Exited, LocalRuntime, Report, Resources, forking
        from shoal.testing import members

        def start():
            code = Code.of(members.leave, {"code": 0}, preload=("sched",))
            with LocalRuntime(log_folder=None).gang({"worker": (code, 1, Resources())}) as gang:
                return [event.exit_code for event in gang.events() if isinstance(event, Exited)]

        def quiet():
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

        quiet()
        start()
        if os.fork() == 0:
            os._exit(start() != [0])
        print(os.wait()[1], start())
        """
    )

    assert printed == "0 [0]\n"


def test_threads_that_start_members_at_once_each_get_their_own(facts):
    found = []
    threads = [threading.Thread(target=lambda: found.append(facts()[0]["parent"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1


def test_servers_that_nobody_uses_are_not_kept_for_long(facts):
    parents = {facts(environment={"TEST_VARIABLE": str(number)})[0]["parent"] for number in range(5)}

    servers = [child for child in psutil.Process().children() if child.pid in parents]
    gone, _ = psutil.wait_procs(servers, timeout=10) if len(servers) > 3 else ([], [])

    assert len(servers) - len(gone) <= 3


def test_a_closed_server_ends():
    server = ForkServer([RARE], dict(os.environ))
    process = psutil.Process(server.pid)

    server.close()

    process.wait(timeout=30)
    assert find_server([RARE], dict(os.environ)) is not server


def test_code_says_what_to_load():
    assert Code.of(members.echo, preload=[RARE]).preload == (RARE,)


def test_an_interrupted_start_leaves_no_process(monkeypatch):
    server = ForkServer([RARE], dict(os.environ))
    ours, theirs = socket.socketpair()
    waiting = Future.result

    def interrupt(self, *arguments):
        monkeypatch.setattr(Future, "result", waiting)
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        server.fork(Fork(arguments=["child"], line=theirs.fileno(), stderr=2, stdout=1))
    ours.close()
    theirs.close()

    deadline = time.monotonic() + 30
    while psutil.Process(server.pid).children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert psutil.Process(server.pid).children() == []
    assert server.is_idle
    server.close()


def test_a_server_that_cannot_be_started_leaves_nothing_open(monkeypatch):
    def refuse(request):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(forking, "spawn", refuse)
    before = psutil.Process().num_fds()

    with pytest.raises(BlockingIOError):
        ForkServer([RARE], dict(os.environ))

    assert psutil.Process().num_fds() == before


def test_what_a_member_starts_does_not_hold_its_line():
    def leave_a_daemon(context):
        import subprocess

        # Out of the group, so that it stays when the member is ended.
        daemon = subprocess.Popen(["sleep", "600"], start_new_session=True, close_fds=False, stdout=-3, stderr=-3)
        context.report(daemon.pid)

    code = Code.of(leave_a_daemon, preload=(RARE,))
    with LocalRuntime().gang({"worker": (code, 1, ONE)}) as gang:
        pid = next(event.message for event in gang.events() if isinstance(event, Report))
        held = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]  # noqa: PTH115, PTH208
    os.kill(pid, signal.SIGKILL)

    assert not any("socket" in target for target in held)

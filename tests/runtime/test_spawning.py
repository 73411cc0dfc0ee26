import sys
import threading

import pytest

from shoal.runtime import Code, Report, Resources
from shoal.runtime.spawning import Spawn, spawn
from shoal.testing import members


def request(*arguments):
    return Spawn(arguments=arguments, environment={"A": "b"}, keep=2, stderr=2)


def test_a_process_gets_its_environment_and_a_group_of_its_own():
    script = "import os, sys; sys.exit(0 if os.environ['A'] == 'b' and os.getpgrp() == os.getpid() else 1)"

    process = spawn(request(sys.executable, "-c", script))

    assert process.wait() == 0


def test_what_cannot_be_started_is_an_error_in_the_caller():
    with pytest.raises(FileNotFoundError):
        spawn(request("/no/such/program"))


def test_members_outlive_the_thread_that_asked_for_them(runtime):
    gangs = []
    starter = threading.Thread(
        target=lambda: gangs.append(runtime.gang({"worker": (Code.of(members.echo), 1, Resources())}))
    )
    starter.start()
    starter.join()

    with gangs[0] as gang:
        (member,) = gang.pids
        gang.send(member, "alive")

        assert next(event.message for event in gang.events() if isinstance(event, Report)) == "alive"


def test_a_forked_process_can_start_processes_of_its_own(run_python):
    printed = run_python(
        """
        import os, sys
        from shoal.runtime.spawning import Spawn, spawn

        def start():
            return spawn(Spawn(arguments=[sys.executable, "-c", "print(1)"], environment={}, keep=2, stderr=2)).wait()

        start()
        if os.fork() == 0:
            os._exit(start())
        print(os.wait()[1])
        """
    )

    assert printed.split() == ["1", "1", "0"]

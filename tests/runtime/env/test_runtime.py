import os
import signal
import subprocess
import sys

import psutil
import pytest

from shoal.base import ConfigError, InputError, UnsupportedError
from shoal.runtime import Code, Exited, Member, Report, Resources
from shoal.runtime.env.place import Place
from shoal.runtime.env.runtime import EnvRuntime
from shoal.testing import members
from shoal.testing.gang import LONG_S, DeathContract, MessageContract, next_report

ONE = Resources()


class TestEnvGang(MessageContract, DeathContract):
    """All that a gang promises but `add`."""


def test_the_outcome_of_rank_0_is_every_ranks(runtime, ranks):
    def work():
        with runtime.gang({"worker": (Code.of(members.introduce), 4, ONE)}) as gang:
            return {event.message["rank"] for event in gang.events() if isinstance(event, Report)}

    assert runtime.lead_or_serve(work) == {0, 1, 2, 3}
    assert [rank.communicate()[0].strip() for rank in ranks] == ["{0, 1, 2, 3}"] * 3


def test_an_error_of_rank_0_ends_every_rank(runtime, ranks):
    def work():
        raise LookupError("nothing there")

    with pytest.raises(LookupError):
        runtime.lead_or_serve(work)
    words = [rank.communicate()[0] for rank in ranks]

    assert all("WorkerError" in said and "LookupError: nothing there" in said for said in words)


def test_a_rank_that_is_killed_takes_its_member_along_and_is_told(runtime, ranks):
    with runtime.gang({"worker": (Code.of(members.ignore_stop), 4, ONE)}) as gang:
        for _ in range(4):
            next_report(gang)
        member = psutil.Process(gang.pids[Member("worker", 2)])
        ranks[1].kill()
        end = next(event for event in gang.events(LONG_S) if isinstance(event, Exited))
        member.wait(LONG_S)
        gang.stop(0.0)

    assert end.member == Member("worker", 2)
    assert "rank 2 ended" in end.failure.message


def test_a_member_can_be_killed_and_nobody_added(runtime):
    with runtime.gang({"worker": (Code.of(members.ignore_stop), 2, ONE)}) as gang:
        for _ in range(2):
            next_report(gang)
        gang.kill(Member("worker", 1))
        end = next(event for event in gang.events(LONG_S) if isinstance(event, Exited))
        with pytest.raises(UnsupportedError, match="launcher"):
            gang.add("worker")
        gang.stop(0.0)

    assert (end.member, end.signal) == (Member("worker", 1), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_any_rank_lets_all_members_end_in_order(runtime, ranks, number):
    said = []

    def work():
        with runtime.gang({"worker": (Code.of(members.wait_for_stop), 4, ONE)}) as gang:
            for _ in range(4):
                next_report(gang)
            ranks[2].send_signal(number)
            try:
                list(gang.events(LONG_S))
            except KeyboardInterrupt:
                gang.stop(LONG_S)
                said.extend(event.message for event in gang.events() if isinstance(event, Report))
                raise

    with pytest.raises(KeyboardInterrupt, match="asked to stop by SIGTERM"):
        runtime.lead_or_serve(work)

    assert said == ["stopping"] * 4
    assert all("AskedToStopError" in rank.communicate()[0] for rank in ranks)


def test_a_rank_whose_supervisor_was_killed_says_so(start_python, place, ranks):
    leader = start_python(
        f"""
        from shoal.runtime import Code, Resources
        from shoal.runtime.env.place import Place
        from shoal.runtime.env.runtime import EnvRuntime
        from shoal.testing import members
        gang = EnvRuntime({place!r}).gang({{"worker": (Code.of(members.ignore_stop), 4, Resources())}})
        print(*gang.pids.values(), flush=True)
        list(gang.events())
        """
    )
    processes = [psutil.Process(int(pid)) for pid in leader.stdout.readline().split()]

    leader.kill()

    assert len(processes) == 4
    assert all("lost rank 0" in rank.communicate(timeout=LONG_S)[0] for rank in ranks)
    assert psutil.wait_procs(processes, timeout=LONG_S)[1] == []


def test_what_given_processes_cannot_do_is_refused():
    runtime = EnvRuntime(Place(rank=0, size=2, address="127.0.0.1", port=1, job="test"))

    with pytest.raises(ConfigError, match="cannot start 3 members: the job has 2 processes"):
        runtime.gang({"worker": (Code.of(members.echo), 3, ONE)})
    with pytest.raises(UnsupportedError, match="a pool of 2"):
        runtime.pool(2)
    with pytest.raises(UnsupportedError, match="a service of 1 x replica"):
        runtime.service(Code.of(members.echo), 1)


def test_members_find_the_job_where_its_master_is():
    assert EnvRuntime(Place(rank=1, size=2, address="10.0.0.7", port=1, job="test")).address == "10.0.0.7"


def test_only_rank_0_starts_gangs():
    runtime = EnvRuntime(Place(rank=1, size=2, address="127.0.0.1", port=1, job="test"))

    with pytest.raises(InputError, match="rank 1 cannot start a gang"):
        runtime.gang({"worker": (Code.of(members.echo), 1, ONE)})


@pytest.mark.slow
def test_torchrun_starts_a_job_that_shoal_joins(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "from shoal.runtime import Code, Report, Resources, open_runtime\n"
        "from shoal.testing import members\n"
        "runtime = open_runtime('env')\n"
        "def work():\n"
        "    with runtime.gang({'worker': (Code.of(members.introduce), 3, Resources())}) as gang:\n"
        "        return sorted(event.message['rank'] for event in gang.events() if isinstance(event, Report))\n"
        # In one piece, as the three ranks write to one pipe.
        "print(f'{runtime.place.rank} {runtime.lead_or_serve(work)}\\n', end='')\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", str(script)]

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )

    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"{rank} [0, 1, 2]" for rank in range(3)]

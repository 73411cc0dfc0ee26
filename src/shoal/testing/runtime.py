"""What every runtime promises, as tests: subclass `RuntimeContract` and supply the `runtime` fixture."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from shoal.base import InputError, WorkerError
from shoal.runtime import Backoff, Code, Exited, Member, Report, Runtime, Service, Started
from shoal.testing import members
from shoal.testing.gang import LONG_S, ONE, GangContract, next_report

AT_ONCE = Backoff(initial_s=0.0, maximum_s=0.0)


class PoolContract:
    """Functions that run elsewhere."""

    def test_a_pool_runs_functions_with_what_they_need(self, runtime: Runtime) -> None:
        """Also one with a closure, which has no name in any module; results belong to their futures."""
        offset = 10

        def shifted(value: int, *, by: int) -> int:
            return value + by + offset

        with runtime.pool(2) as pool:
            futures = [pool.submit(shifted, value, by=100) for value in range(20)]

            assert [future.result() for future in futures] == [value + 110 for value in range(20)]

    def test_a_pool_keeps_to_its_size(self, runtime: Runtime) -> None:
        """No more processes than asked for, whatever waits."""
        with runtime.pool(2) as pool:
            pids = {future.result() for future in [pool.submit(members.own_pid) for _ in range(20)]}

        assert 1 <= len(pids) <= 2
        assert os.getpid() not in pids

    def test_a_task_that_raises_fails_its_future_alone(self, runtime: Runtime) -> None:
        """The error keeps the traceback, and the exception itself as its cause."""
        with runtime.pool(1) as pool:
            bad, good = pool.submit(members.divide, 1, 0), pool.submit(members.divide, 4, 2)
            error = bad.exception()

            assert good.result() == 2
        assert isinstance(error, WorkerError)
        assert isinstance(error.__cause__, ZeroDivisionError)
        assert "in divide" in error.traceback_text

    def test_a_worker_that_dies_fails_its_future_and_is_replaced(self, runtime: Runtime) -> None:
        """What waited behind it runs on another."""
        with runtime.pool(1) as pool:
            bad, good = pool.submit(members.die), pool.submit(members.divide, 4, 2)

            assert good.result() == 2
            with pytest.raises(WorkerError, match="SIGKILL"):
                bad.result()

    def test_a_task_that_leaves_its_process_fails_its_future(self, runtime: Runtime) -> None:
        """`sys.exit(0)` is no result."""
        with runtime.pool(1) as pool:
            assert isinstance(pool.submit(members.exit_with, 0).exception(), WorkerError)

    def test_a_large_result_arrives_whole(self, runtime: Runtime) -> None:
        """Tens of megabytes."""
        with runtime.pool(1) as pool:
            assert pool.submit(members.large_result).result() == b"\2" * members.LARGE_BYTES

    def test_a_result_of_a_local_class_is_of_that_class(self, runtime: Runtime) -> None:
        """Code that travelled by value comes home as what it was."""

        class Local:
            pass

        with runtime.pool(1) as pool:
            assert isinstance(pool.submit(Local).result(), Local)

    def test_what_cannot_travel_is_refused_at_submit(self, runtime: Runtime) -> None:
        """Not later, in some worker."""
        with runtime.pool(1) as pool, pytest.raises(InputError, match="another process"):
            pool.submit(print, threading.Lock())

    def test_a_closed_pool_takes_nothing(self, runtime: Runtime) -> None:
        """Closing finishes what was submitted, first."""
        pool = runtime.pool(1)
        future = pool.submit(members.divide, 4, 2)
        pool.close()

        assert future.done()
        with pytest.raises(InputError, match="closed pool"):
            pool.submit(members.divide, 4, 2)

    def test_cancelling_a_pool_leaves_no_future_open(self, runtime: Runtime, tmp_path: Path) -> None:
        """What waits is cancelled; what runs ends with its worker."""
        with runtime.pool(1) as pool:
            running = pool.submit(members.never_end, str(tmp_path / "begun"))
            waiting = pool.submit(members.divide, 4, 2)
            pool.close(cancel=True)

            assert isinstance(running.exception(), WorkerError)
            with pytest.raises(CancelledError):
                waiting.result()


class ServiceContract:
    """Members that come back."""

    def test_a_dead_replica_comes_back_and_is_announced(self, runtime: Runtime) -> None:
        """Same member, another process; the others are left alone."""
        with runtime.service(Code.of(members.echo), 2, ONE, AT_ONCE) as service:
            before = dict(service.pids())
            os.kill(before[1], signal.SIGKILL)
            events = list(_until_started(service, times=3))
            service.send(1, "back?")
            answer = next_report(service)
            after = dict(service.pids())

        assert [type(event) for event in events] == [Started, Started, Exited, Started]
        assert events[-2].member == Member("replica", 1)
        assert answer == Report(Member("replica", 1), "back?")
        assert after[0] == before[0]
        assert after[1] != before[1]
        assert isinstance(events[-1], Started)
        assert (events[-1].member, events[-1].pid) == (Member("replica", 1), after[1])
        assert service.restarts == 1

    def test_a_replica_can_be_killed_and_comes_back(self, runtime: Runtime) -> None:
        """By its rank, wherever it runs; a rank that there is not is a mistake."""
        with runtime.service(Code.of(members.echo), 2, ONE, AT_ONCE) as service:
            before = dict(service.pids())
            service.kill(1)
            events = list(_until_started(service, times=3))
            after = dict(service.pids())
            with pytest.raises(InputError, match="replica 7"):
                service.kill(7)

        (end,) = [event for event in events if isinstance(event, Exited)]
        assert (end.member, end.pid, end.signal) == (Member("replica", 1), before[1], signal.SIGKILL)
        assert after[0] == before[0]
        assert after[1] != before[1]

    def test_a_replica_that_returns_comes_back_too(self, runtime: Runtime) -> None:
        """A service's member has no business to end."""
        with runtime.service(Code.of(members.introduce), 1, ONE, AT_ONCE) as service:
            events = list(_until_started(service, times=3))

        assert [type(event) for event in events] == [Started, Report, Exited] * 2 + [Started]

    def test_replicas_can_be_added_and_removed(self, runtime: Runtime) -> None:
        """New ranks follow the old ones; the highest go first and stay away."""
        with runtime.service(Code.of(members.echo), 1, ONE, AT_ONCE, name="server") as service:
            service.add(2)
            grown = sorted(service.pids())
            service.remove(2)
            shrunk = sorted(service.pids())
            with pytest.raises(InputError, match="server 2"):
                service.send(2, "gone")
            service.stop()
            ends = [event for event in service.events() if isinstance(event, Exited)]

        assert grown == [0, 1, 2]
        assert shrunk == [0]
        assert [end.failure for end in ends] == [None] * 3

    def test_a_stopped_service_stays_stopped(self, runtime: Runtime) -> None:
        """Also in the midst of a restart; its events end."""
        service = runtime.service(Code.of(members.introduce), 2, ONE, Backoff(initial_s=30, maximum_s=30))
        list(_until_exited(service, times=2))
        service.stop()

        assert list(service.events()) == []
        assert service.is_over
        assert service.pids() == {}
        with pytest.raises(InputError, match="stopped"):
            service.add()


class RuntimeContract(GangContract, PoolContract, ServiceContract):
    """The promises of `Runtime`, `Gang`, `Pool`, `Service` and `Context`, for members on this machine."""

    @pytest.fixture
    def runtime(self) -> Runtime:
        """The runtime under test."""
        raise NotImplementedError


def _until_started(service: Service, *, times: int) -> Iterator[Started | Report | Exited]:
    for event in service.events(LONG_S):
        yield event
        times -= isinstance(event, Started)
        if not times:
            return


def _until_exited(service: Service, *, times: int) -> Iterator[Started | Report | Exited]:
    for event in service.events(LONG_S):
        yield event
        times -= isinstance(event, Exited)
        if not times:
            return

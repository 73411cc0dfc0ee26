"""What every runtime promises, as tests: subclass `RuntimeContract` and supply the `runtime` fixture."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from shoal.base import ConfigError, InputError, WorkerError
from shoal.runtime import Backoff, Code, Exited, Gang, Member, Report, Resources, Runtime, Service, Started
from shoal.testing import members

ONE = Resources()
AT_ONCE = Backoff(initial_s=0.0, maximum_s=0.0)
# Longer than any event takes to come: a test that waits this long has failed.
LONG_S = 60.0


class MessageContract:
    """What a supervisor and the members of a gang hear of each other."""

    def test_members_know_their_place_and_configuration(self, runtime: Runtime) -> None:
        """Rank and world size count within the role; the configuration arrives as keyword arguments."""
        code = Code.of(members.introduce, {"width": 3, "names": ["a", "ü"], "nested": {"x": None}, "raw": b"\0\1"})

        with runtime.gang({"worker": (code, 2, ONE), "server": (code, 1, ONE)}) as gang:
            said = [event.message for event in gang.events() if isinstance(event, Report)]

        places = {(words["role"], words["rank"], words["size"]) for words in said}
        assert places == {("worker", 0, 2), ("worker", 1, 2), ("server", 0, 1)}
        assert all(words["config"] == code.config for words in said)

    def test_a_member_starts_reports_and_exits_in_this_order(self, runtime: Runtime) -> None:
        """No report overtakes another, and none comes after the exit."""
        with runtime.gang({"worker": (Code.of(members.fail, {"after": [*range(100)]}), 1, ONE)}) as gang:
            events = list(gang.events())

        assert isinstance(events[0], Started)
        assert [event.message for event in events[1:-1] if isinstance(event, Report)] == [*range(100)]
        assert isinstance(events[-1], Exited)
        assert events[0].pid == events[-1].pid

    def test_messages_reach_the_member_they_are_for_in_order(self, runtime: Runtime) -> None:
        """JSON-like values and bytes arrive as they were sent."""
        sent = [{"a": [1, 2.5, None, True]}, "text", b"\0bytes", 2**40, {"deep": {"er": ["x"]}}, b""]

        with runtime.gang({"worker": (Code.of(members.echo), 2, ONE)}) as gang:
            for message in sent:
                gang.send(Member("worker", 1), message)
            back = [_next_report(gang) for _ in sent]

        assert [report.message for report in back] == sent
        assert {report.member.rank for report in back} == {1}

    def test_messages_of_tens_of_megabytes_arrive_whole(self, runtime: Runtime) -> None:
        """Both ways; neither side has to know how large a socket's buffer is."""
        with runtime.gang({"worker": (Code.of(members.report_large), 1, ONE)}) as gang:
            large = _next_report(gang)
            gang.send(large.member, large.message)
            length = _next_report(gang).message

        assert large.message == b"\1" * members.LARGE_BYTES
        assert length == members.LARGE_BYTES

    def test_an_event_loop_can_wait_for_messages(self, runtime: Runtime) -> None:
        """`fileno` wakes the loop for each message, early or late, and for the wish to stop."""
        with runtime.gang({"worker": (Code.of(members.echo_in_loop), 1, ONE)}) as gang:
            gang.send(Member("worker", 0), "early")
            early = [_next_report(gang).message for _ in range(2)]
            gang.send(Member("worker", 0), "late")
            late = _next_report(gang).message
            gang.stop(grace_s=LONG_S)
            (end,) = gang.events()

        assert early == ["ready", "early"]
        assert late == "late"
        assert isinstance(end, Exited)
        assert end.exit_code == 0

    def test_a_message_for_nobody_is_refused(self, runtime: Runtime) -> None:
        """The error lists who is there."""
        with (
            runtime.gang({"worker": (Code.of(members.echo), 1, ONE)}) as gang,
            pytest.raises(InputError, match=r"server 0.*worker 0"),
        ):
            gang.send(Member("server", 0), "hello")

    def test_a_message_that_cannot_travel_is_refused_at_its_sender(self, runtime: Runtime) -> None:
        """On both sides, and the line stays whole."""
        with runtime.gang({"worker": (Code.of(members.report_unsendable), 1, ONE)}) as gang:
            with pytest.raises(InputError, match="cannot send a message of type object"):
                gang.send(Member("worker", 0), object())
            words = _next_report(gang).message

        assert "cannot send a message of type dict" in words

    def test_the_environment_is_added(self, runtime: Runtime) -> None:
        """A variable of the call is seen by the members."""
        with runtime.gang({"worker": (Code.of(members.report_home), 1, ONE)}, environment={"HOME": "/there"}) as gang:
            assert _next_report(gang).message == "/there"

    @pytest.mark.parametrize("roles", [{}, {"worker": (Code.of(members.echo), 0, ONE)}])
    def test_a_gang_of_nobody_is_refused(self, runtime: Runtime, roles: dict[str, tuple[Code, int, Resources]]) -> None:
        """It could never report anything."""
        with pytest.raises(ConfigError, match="at least one member"):
            runtime.gang(roles)

    def test_more_memory_than_there_is_is_refused(self, runtime: Runtime) -> None:
        """All or nothing: no member is started."""
        with pytest.raises(ConfigError, match="GiB"):
            runtime.gang({"worker": (Code.of(members.echo), 2, Resources(memory_bytes=2**60))})


class DeathContract:
    """How members end, and how that is told."""

    def test_a_member_that_raises_arrives_with_its_traceback(self, runtime: Runtime) -> None:
        """The error says who, where and why, and its traceback begins in the entry."""
        with runtime.gang({"worker": (Code.of(members.fail, {"after": []}), 2, ONE)}) as gang:
            failures = {event.member: event.failure for event in gang.events() if isinstance(event, Exited)}

        failure = failures[Member("worker", 1)]
        assert failure is not None
        assert (failure.role, failure.rank) == ("worker", 1)
        assert failure.pid
        assert failure.host
        assert "LookupError: nothing for rank 1" in failure.message
        assert failure.traceback_text.splitlines()[1].strip().startswith(f'File "{members.__file__}"')

    def test_a_module_that_cannot_be_imported_there_is_a_failure_too(self, runtime: Runtime) -> None:
        """The error names the module."""
        code = Code(module="no_such_module", path=None, qualname="entry", config={})

        failure = _only_exit(runtime, code).failure

        assert failure is not None
        assert "No module named 'no_such_module'" in failure.message

    @pytest.mark.slow
    def test_a_failed_member_exits_even_if_a_thread_of_it_never_ends(self, runtime: Runtime) -> None:
        """A stray thread does not hide the failure."""
        failure = _only_exit(runtime, Code.of(members.fail_with_a_stray_thread)).failure

        assert failure is not None
        assert "LookupError" in failure.message

    def test_an_exit_code_is_told_with_the_last_words(self, runtime: Runtime) -> None:
        """What the member wrote to stderr last is in the error."""
        end = _only_exit(runtime, Code.of(members.leave, {"code": 7}))

        assert (end.exit_code, end.signal) == (7, None)
        assert end.failure is not None
        assert "code 7" in end.failure.message
        assert "leaving with 7" in end.failure.traceback_text

    def test_a_killed_member_is_told_while_the_others_go_on(self, runtime: Runtime) -> None:
        """Its death comes as an event at once, and the rest still answers."""
        with runtime.gang({"worker": (Code.of(members.echo), 2, ONE)}) as gang:
            os.kill(gang.pids[Member("worker", 0)], signal.SIGKILL)
            end = next(event for event in gang.events(LONG_S) if isinstance(event, Exited))
            gang.send(Member("worker", 0), "lost")
            gang.send(Member("worker", 1), "still there?")
            answer = _next_report(gang)

        assert end.member == Member("worker", 0)
        assert (end.exit_code, end.signal) == (None, signal.SIGKILL)
        assert end.failure is not None
        assert "SIGKILL" in end.failure.message
        assert answer == Report(Member("worker", 1), "still there?")

    def test_nothing_reported_before_a_death_is_lost(self, runtime: Runtime) -> None:
        """However much it is, and however late it is read."""
        code = Code.of(members.flood, {"num_messages": 3000, "num_bytes": 800})

        with runtime.gang({"worker": (code, 1, ONE)}) as gang:
            events = list(gang.events(LONG_S))

        assert [event.message[0:8] for event in events if isinstance(event, Report)] == [
            index.to_bytes(8, "little") for index in range(3000)
        ]
        assert isinstance(events[-1], Exited)

    def test_stop_lets_a_member_end_in_order(self, runtime: Runtime) -> None:
        """`stopping` is set, its last reports arrive, and its end is no failure."""
        with runtime.gang({"worker": (Code.of(members.wait_for_stop), 1, ONE)}) as gang:
            _next_report(gang)
            gang.stop(grace_s=LONG_S)
            events = list(gang.events())

        assert [event.message for event in events if isinstance(event, Report)] == ["stopping"]
        assert isinstance(events[-1], Exited)
        assert (events[-1].exit_code, events[-1].failure) == (0, None)

    def test_an_error_while_stopping_is_still_told(self, runtime: Runtime) -> None:
        """Being asked to stop excuses the exit code, not an exception."""
        with runtime.gang({"worker": (Code.of(members.wait_for_stop, {"then": "no"}), 1, ONE)}) as gang:
            _next_report(gang)
            gang.stop(grace_s=LONG_S)
            end = list(gang.events())[-1]

        assert isinstance(end, Exited)
        assert end.failure is not None
        assert "RuntimeError: no" in end.failure.message

    def test_stop_kills_whoever_is_left_after_the_grace(self, runtime: Runtime) -> None:
        """And that is no failure of the member; to stop twice does nothing."""
        with runtime.gang({"worker": (Code.of(members.ignore_stop), 2, ONE)}) as gang:
            for _ in range(2):
                _next_report(gang)
            gang.stop(grace_s=0.05)
            gang.stop()
            ends = [event for event in gang.events() if isinstance(event, Exited)]

        assert [(end.signal, end.failure) for end in ends] == [(signal.SIGKILL, None)] * 2
        assert gang.pids == {}

    def test_events_end_after_a_quiet_while_and_can_be_asked_for_again(self, runtime: Runtime) -> None:
        """`is_over` tells a quiet gang from one that has ended."""
        with runtime.gang({"worker": (Code.of(members.ignore_stop), 1, ONE)}) as gang:
            _next_report(gang)
            quiet = list(gang.events(timeout_s=0.01))
            was_over = gang.is_over
            gang.stop(grace_s=0.0)
            rest = list(gang.events())

        assert quiet == []
        assert not was_over
        assert [type(event) for event in rest] == [Exited]
        assert gang.is_over


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
            answer = _next_report(service)
            after = dict(service.pids())

        assert [type(event) for event in events] == [Started, Started, Exited, Started]
        assert events[-2].member == Member("replica", 1)
        assert answer == Report(Member("replica", 1), "back?")
        assert after[0] == before[0]
        assert after[1] != before[1]
        assert events[-1] == Started(Member("replica", 1), after[1])
        assert service.restarts == 1

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


class RuntimeContract(MessageContract, DeathContract, PoolContract, ServiceContract):
    """The promises of `Runtime`, `Gang`, `Pool`, `Service` and `Context`, for members on this machine."""

    @pytest.fixture
    def runtime(self) -> Runtime:
        """The runtime under test."""
        raise NotImplementedError


def _only_exit(runtime: Runtime, code: Code) -> Exited:
    with runtime.gang({"worker": (code, 1, ONE)}) as gang:
        (end,) = [event for event in gang.events() if isinstance(event, Exited)]
    return end


def _next_report(group: Gang | Service) -> Report:
    return next(event for event in group.events(LONG_S) if isinstance(event, Report))


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

"""What the gangs of every runtime promise, as tests: subclass `GangContract` and supply the `runtime` fixture."""

import os
import signal

import pytest

from shoal.base import ConfigError, InputError
from shoal.runtime import Code, Exited, Gang, Member, Report, Resources, Runtime, Service, Started
from shoal.testing import members

ONE = Resources()
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
            back = [next_report(gang) for _ in sent]

        assert [report.message for report in back] == sent
        assert {report.member.rank for report in back} == {1}

    def test_messages_of_tens_of_megabytes_arrive_whole(self, runtime: Runtime) -> None:
        """Both ways; neither side has to know how large a socket's buffer is."""
        with runtime.gang({"worker": (Code.of(members.report_large), 1, ONE)}) as gang:
            large = next_report(gang)
            gang.send(large.member, large.message)
            length = next_report(gang).message

        assert large.message == b"\1" * members.LARGE_BYTES
        assert length == members.LARGE_BYTES

    def test_an_event_loop_can_wait_for_messages(self, runtime: Runtime) -> None:
        """`fileno` wakes the loop for each message, early or late, and for the wish to stop."""
        with runtime.gang({"worker": (Code.of(members.echo_in_loop), 1, ONE)}) as gang:
            gang.send(Member("worker", 0), "early")
            early = [next_report(gang).message for _ in range(2)]
            gang.send(Member("worker", 0), "late")
            late = next_report(gang).message
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
            words = next_report(gang).message

        assert "cannot send a message of type dict" in words

    def test_the_environment_is_added(self, runtime: Runtime) -> None:
        """A variable of the call is seen by the members."""
        with runtime.gang({"worker": (Code.of(members.report_home), 1, ONE)}, environment={"HOME": "/there"}) as gang:
            assert next_report(gang).message == "/there"

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
            answer = next_report(gang)

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
            next_report(gang)
            gang.stop(grace_s=LONG_S)
            events = list(gang.events())

        assert [event.message for event in events if isinstance(event, Report)] == ["stopping"]
        assert isinstance(events[-1], Exited)
        assert (events[-1].exit_code, events[-1].failure) == (0, None)

    def test_an_error_while_stopping_is_still_told(self, runtime: Runtime) -> None:
        """Being asked to stop excuses the exit code, not an exception."""
        with runtime.gang({"worker": (Code.of(members.wait_for_stop, {"then": "no"}), 1, ONE)}) as gang:
            next_report(gang)
            gang.stop(grace_s=LONG_S)
            end = list(gang.events())[-1]

        assert isinstance(end, Exited)
        assert end.failure is not None
        assert "RuntimeError: no" in end.failure.message

    def test_stop_kills_whoever_is_left_after_the_grace(self, runtime: Runtime) -> None:
        """And that is no failure of the member; to stop twice does nothing."""
        with runtime.gang({"worker": (Code.of(members.ignore_stop), 2, ONE)}) as gang:
            for _ in range(2):
                next_report(gang)
            gang.stop(grace_s=0.05)
            gang.stop()
            ends = [event for event in gang.events() if isinstance(event, Exited)]

        assert [(end.signal, end.failure) for end in ends] == [(signal.SIGKILL, None)] * 2
        assert gang.pids == {}

    def test_events_end_after_a_quiet_while_and_can_be_asked_for_again(self, runtime: Runtime) -> None:
        """`is_over` tells a quiet gang from one that has ended."""
        with runtime.gang({"worker": (Code.of(members.ignore_stop), 1, ONE)}) as gang:
            next_report(gang)
            quiet = list(gang.events(timeout_s=0.01))
            was_over = gang.is_over
            gang.stop(grace_s=0.0)
            rest = list(gang.events())

        assert quiet == []
        assert not was_over
        assert [type(event) for event in rest] == [Exited]
        assert gang.is_over


class MembershipContract:
    """Members that come later, and members that are ended one by one."""

    def test_an_added_member_takes_the_next_rank_and_takes_part(self, runtime: Runtime) -> None:
        """It runs what its role runs, and counts all that the role ever had; the older ones stay as they are."""
        with runtime.gang({"worker": (Code.of(members.introduce_and_echo), 1, ONE)}) as gang:
            first = next_report(gang).message
            added = gang.add("worker", 2)
            later = [next_report(gang) for _ in added]
            gang.send(added[1], "hello")
            answer = next_report(gang)

        assert added == [Member("worker", 1), Member("worker", 2)]
        assert (first["rank"], first["size"]) == (0, 1)
        assert {(report.member.rank, report.message["rank"], report.message["size"]) for report in later} == {
            (1, 1, 3),
            (2, 2, 3),
        }
        assert answer == Report(added[1], "hello")

    def test_a_message_to_an_added_member_waits_for_it(self, runtime: Runtime) -> None:
        """However long its process takes to come up."""
        with runtime.gang({"worker": (Code.of(members.echo), 1, ONE)}) as gang:
            (added,) = gang.add("worker")
            gang.send(added, "early")

            assert next_report(gang) == Report(added, "early")

    def test_a_killed_member_dies_like_any_other_and_its_rank_is_not_used_again(self, runtime: Runtime) -> None:
        """Its `Exited` says SIGKILL; to kill it twice does nothing; whoever replaces it has a rank of its own."""
        with runtime.gang({"worker": (Code.of(members.ignore_stop), 2, ONE)}) as gang:
            for _ in range(2):
                next_report(gang)
            gang.kill(Member("worker", 1))
            end = next(event for event in gang.events(LONG_S) if isinstance(event, Exited))
            gang.kill(Member("worker", 1))
            added = gang.add("worker")
            started = next(event for event in gang.events(LONG_S) if isinstance(event, Started))
            running = set(gang.pids)
            gang.stop(grace_s=0.0)

        assert (end.member, end.signal) == (Member("worker", 1), signal.SIGKILL)
        assert end.failure is not None
        assert "SIGKILL" in end.failure.message
        assert added == [Member("worker", 2)]
        assert started.member == Member("worker", 2)
        assert running == {Member("worker", 0), Member("worker", 2)}

    def test_a_gang_that_was_over_goes_on_with_new_members(self, runtime: Runtime) -> None:
        """When all were lost, the supervisor may begin again in the same gang."""
        with runtime.gang({"worker": (Code.of(members.introduce), 1, ONE)}) as gang:
            before = list(gang.events())
            was_over = gang.is_over
            gang.add("worker")
            after = list(gang.events())

        assert was_over
        assert [type(event) for event in before] == [type(event) for event in after] == [Started, Report, Exited]
        assert gang.is_over

    def test_only_known_roles_and_members_are_added_and_killed(self, runtime: Runtime) -> None:
        """The error names those that are there; a stopped gang takes nobody."""
        with runtime.gang({"worker": (Code.of(members.echo), 1, ONE)}) as gang:
            with pytest.raises(InputError, match=r"'server'.*worker"):
                gang.add("server")
            with pytest.raises(InputError, match=r"worker 7.*worker 0"):
                gang.kill(Member("worker", 7))
            gang.stop()
            with pytest.raises(InputError, match="stopped"):
                gang.add("worker")

    def test_members_of_one_machine_name_the_same_host(self, runtime: Runtime) -> None:
        """Who shares memory is told by it."""
        with runtime.gang({"worker": (Code.of(members.echo), 2, ONE)}) as gang:
            events = gang.events(LONG_S)
            hosts = {next(events).host for _ in range(2)}  # type: ignore[union-attr]  # nobody has anything else to say

        assert len(hosts) == 1


class GangContract(MessageContract, DeathContract, MembershipContract):
    """The promises of `Gang` and `Context`, for members whose processes run on the test's own machine."""

    @pytest.fixture
    def runtime(self) -> Runtime:
        """The runtime under test."""
        raise NotImplementedError


def next_report(group: Gang | Service) -> Report:
    """The next report that comes, past all other events."""
    return next(event for event in group.events(LONG_S) if isinstance(event, Report))


def _only_exit(runtime: Runtime, code: Code) -> Exited:
    with runtime.gang({"worker": (code, 1, ONE)}) as gang:
        (end,) = [event for event in gang.events() if isinstance(event, Exited)]
    return end

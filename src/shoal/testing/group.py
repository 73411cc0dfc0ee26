"""What every group of several members must keep: subclass `GroupContract` and supply one fixture."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shoal.base import SharedBlock
from shoal.testing import group_members
from shoal.testing.group_members import JOINED, LOST, Join
from shoal.train.group.meeting import Kind, Meeting, MeetingPlace, join_group

# Far beyond anything but a hang.
_PATIENCE_S = 60
_DEATHS = [signal.SIGKILL, signal.SIGSTOP]


class Members:
    """Processes that join one generation and run the same work; for one use."""

    def __init__(
        self,
        kind: Kind,
        size: int,
        work: Callable[..., Any],
        *args: object,
        generation: int = 1,
        join: Join = join_group,
    ) -> None:
        self._place = MeetingPlace()
        self._generation = generation
        self._flag = SharedBlock.create(8)
        name = {"shared": self._place.shared_name, "network": self._place.network_name}[kind](generation)
        # Forked from a server that has loaded torch, each is there within milliseconds.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pytest", "shoal.testing.group_members"])
        self.processes: list[BaseProcess] = []
        self._lines: list[Connection] = []
        for rank in range(size):
            ours, theirs = context.Pipe(duplex=False)
            meeting = Meeting(kind=kind, name=name, rank=rank, size=size, generation=generation)
            process = context.Process(
                target=group_members.take_part, args=(meeting, self._flag.name, theirs, join, work, args), daemon=True
            )
            process.start()
            theirs.close()
            self.processes.append(process)
            self._lines.append(ours)

    def hear(self, rank: int) -> Any:  # noqa: ANN401  # whatever the work returns
        """The next thing a member says; None when it is gone."""
        if not self._lines[rank].poll(_PATIENCE_S):
            raise TimeoutError(f"member {rank} hangs")
        try:
            return self._lines[rank].recv()
        except EOFError:
            return None

    def interrupt(self) -> None:
        """Tell all to give up."""
        self._flag.view(np.int64, (1,))[0] = self._generation

    def clean(self) -> list[str]:
        """Remove what killed members left; what of it is still there."""
        self._place.clean(self._generation)
        token = self._place.shared_name(self._generation)
        return [str(path) for path in Path(self._flag.name).parent.glob(f"*{token}*")]

    def end(self) -> None:
        """Kill who is left."""
        for process, line in zip(self.processes, self._lines, strict=True):
            process.kill()
            process.join()
            process.close()
            line.close()
        self._flag.unlink()
        self._place.clean(self._generation)
        self._place.close()


@contextmanager
def members(
    kind: Kind, size: int, work: Callable[..., Any], *args: object, join: Join = join_group
) -> Iterator[Members]:
    """Members who have joined, and who are gone afterwards."""
    made = Members(kind, size, work, *args, join=join)
    try:
        for rank in range(size):
            assert made.hear(rank) == JOINED
        yield made
    finally:
        made.end()


def results_of(kind: Kind, size: int, work: Callable[..., Any], *args: object, join: Join = join_group) -> list[Any]:
    """What each member's work returned."""
    with members(kind, size, work, *args, join=join) as made:
        results = [made.hear(rank) for rank in range(size)]
        for process in made.processes:
            # By itself, so that whoever counts lines hears of those it ran.
            process.join(_PATIENCE_S)
        return results


class GroupContract:
    """Promises of every group. The fixture `kind` gives the kind of meeting whose group is under test.

    A group that is made of another one also overrides `join`, by a function that members can import.
    """

    @pytest.fixture
    def kind(self) -> Kind:
        """The kind under test."""
        raise NotImplementedError

    @pytest.fixture
    def join(self) -> Join:
        """How a member joins."""
        return join_group

    @pytest.mark.parametrize(
        ("size", "num_bytes", "num_pieces"), [(2, 64, 1), (3, 4160, 2), (4, 300_032, 3), (5, 64, 1)]
    )
    def test_combine_brings_all_to_all(
        self, kind: Kind, join: Join, size: int, num_bytes: int, num_pieces: int
    ) -> None:
        """Also where there are fewer stretches than members, with every member's note."""
        found = results_of(kind, size, group_members.combine_often, num_bytes, num_pieces, 6, join=join)

        expected = [(1, [100 * turn + rank for rank in range(size)]) for turn in range(6)]
        assert found == [expected] * size

    def test_share_takes_bytes_of_any_length(self, kind: Kind, join: Join) -> None:
        """Nothing at all, more than a piece, and different lengths at once."""
        lengths = [[0, 0, 0], [1, 0, 7], [3_000_000, 5, 0], [0, 180_000, 400_000], [9, 9, 9]]

        found = results_of(kind, 3, group_members.share_each, lengths, join=join)

        expected = [
            [group_members.digest_of(rank, turn, each[rank]) for rank in range(3)] for turn, each in enumerate(lengths)
        ]
        assert found == [expected] * 3

    def test_broadcast_takes_tensors_of_any_length(self, kind: Kind, join: Join) -> None:
        """From any root."""
        lengths = [0, 1, 5_000_000, 524_288, 63, 7]

        found = results_of(kind, 3, group_members.broadcast_each, lengths, join=join)

        expected = [group_members.digest_of(turn % 3, turn, length) for turn, length in enumerate(lengths)]
        assert found == [expected] * 3

    @pytest.mark.parametrize("death", _DEATHS)
    @pytest.mark.parametrize("seed", range(4))
    def test_survivors_of_a_death_at_any_instant_give_up_when_told(
        self, kind: Kind, join: Join, death: signal.Signals, seed: int
    ) -> None:
        """Killed or stopped, in whatever call that is; nothing is left in shared memory."""
        chance = random.Random(seed)
        victim = chance.randrange(3)
        with members(kind, 3, group_members.go_round, 300_032, join=join) as made:
            made.processes[victim].join(chance.random() * 0.1)

            self._end(made, victim, death)

            survivors = [rank for rank in range(3) if rank != victim]
            assert [made.hear(rank)[0] for rank in survivors] == [LOST, LOST]
            assert made.clean() == []

    @pytest.mark.parametrize("death", _DEATHS)
    def test_survivors_of_a_death_among_those_who_reduce_give_up_when_told(
        self, kind: Kind, join: Join, death: signal.Signals
    ) -> None:
        """No result that lacks a member's share is ever returned."""
        with members(kind, 3, group_members.stop_within_reduce, 4160, 1, int(death), join=join) as made:
            made.processes[1].join(0.2)
            made.interrupt()

            assert [made.hear(rank)[0] for rank in (0, 2)] == [LOST, LOST]

    def test_survivors_of_a_kill_meet_again_in_their_processes(self, kind: Kind, join: Join) -> None:
        """Whatever the group that is no more has left there, the next one works."""
        place = MeetingPlace()
        expected = [(1, [100 * turn, 100 * turn + 1]) for turn in range(3)]
        with members(kind, 3, group_members.outlive, place.shared_name(2), join, 4160, join=join) as made:
            made.processes[1].join(_PATIENCE_S)
            made.interrupt()

            assert [made.hear(rank) for rank in (0, 2)] == [expected, expected]
        place.close()

    def test_who_waits_for_one_that_never_comes_gives_up_when_told(self, kind: Kind, join: Join) -> None:
        """A member may die before it has joined."""
        made = Members(kind, 2, group_members.go_round, 64, join=join)
        try:
            self._end(made, 0, signal.SIGSTOP)

            said = made.hear(1)
            assert (made.hear(1) if said == JOINED else said)[0] == LOST
            assert made.clean() == []
        finally:
            made.end()

    def _end(self, made: Members, victim: int, death: signal.Signals) -> None:
        pid = made.processes[victim].pid
        assert pid is not None
        os.kill(pid, death)
        made.interrupt()

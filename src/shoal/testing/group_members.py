"""What members run in the groups' contract; apart from it, as a member should not have to import pytest."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from shoal.base import SharedBlock
from shoal.train.base import Group, PeerLostError
from shoal.train.device import CPU
from shoal.train.group.meeting import Meeting, join_group
from shoal.train.group.staged import StagedGroup

# What a member sends once it has joined, and when it lost another.
JOINED, LOST = "joined", "lost"
# As `join_group` does.
Join = Callable[[Meeting, Callable[[], bool]], Group]


def take_part(
    meeting: Meeting, flag_name: str, line: Connection, join: Join, work: Callable[..., Any], args: Sequence[Any]
) -> None:
    """Join, work, and send what came of it. A raised flag names the generation whose members are to give up."""
    flag = SharedBlock.attach(flag_name).view(np.int64, (1,))
    seen_at = [0.0]

    def interrupted() -> bool:
        if flag[0] < meeting.generation:
            return False
        seen_at[0] = seen_at[0] or time.monotonic()
        return True

    group: Group | None = None
    try:
        group = join(meeting, interrupted)
        line.send(JOINED)
        line.send(work(group, *args))
    except PeerLostError:
        line.send((LOST, time.monotonic()))
    finally:
        if group is not None:
            group.close()


def join_staged(meeting: Meeting, interrupted: Callable[[], bool]) -> Group:
    """Join, and let what is combined go through the group's memory from another, as from a GPU's."""
    return StagedGroup(join_group(meeting, interrupted), CPU)


def join_over_gloo(meeting: Meeting, interrupted: Callable[[], bool]) -> Group:
    """Join, and combine over torch's gloo, which stands in for NCCL on the CPU."""
    from shoal.train.group.accelerated import AcceleratedGroup, connect  # loads torch.distributed

    inner = join_group(meeting, interrupted)
    try:
        found = connect(inner, CPU, backend="gloo", host="127.0.0.1", interrupted=interrupted)
        assert not isinstance(found, str), found
    except BaseException:
        inner.close()
        raise
    return AcceleratedGroup(inner, CPU, found)


def combine_often(group: Group, num_bytes: int, num_pieces: int, rounds: int) -> list[tuple[int, list[int]]]:
    """Per round, whether the sum was right, as 0 or 1, and the notes."""
    outcomes = []
    for turn in range(rounds):
        memory = group.memory(num_bytes * num_pieces).numpy()
        memory[:] = _bytes_of(group.rank, turn, len(memory))
        result, notes = group.combine(num_bytes, sum_of(num_bytes), note=100 * turn + group.rank)
        expected = sum(_bytes_of(rank, turn, len(memory)).reshape(num_pieces, -1).sum(0) for rank in range(group.size))
        outcomes.append((int((result.numpy() == np.asarray(expected).astype(np.uint8)).all()), notes))
    return outcomes


def sum_of(num_bytes: int) -> Any:  # noqa: ANN401  # a Reduce, whose type names a package that this file does not
    """A reduction that adds up all pieces of all memories, modulo 256."""

    def reduce(memories: Sequence[Any], target: Any, start: int, stop: int) -> None:  # noqa: ANN401  # as above
        pieces = [memory.numpy().reshape(-1, num_bytes)[:, start:stop].astype(np.int64) for memory in memories]
        target.numpy()[start:stop] = sum(piece.sum(0) for piece in pieces).astype(np.uint8)

    return reduce


def share_each(group: Group, lengths: Sequence[Sequence[int]]) -> list[list[bytes]]:
    """Share bytes of each round's lengths, digested."""
    return [
        [hashlib.sha256(part).digest() for part in group.share(_bytes_of(group.rank, turn, each[group.rank]).tobytes())]
        for turn, each in enumerate(lengths)
    ]


def broadcast_each(group: Group, lengths: Sequence[int]) -> list[bytes]:
    """Broadcast so many bytes, from one root after the other, digested."""
    digests = []
    for turn, length in enumerate(lengths):
        root = turn % group.size
        data = group.memory(max(length, 1))[:length].clone() if group.rank == root else group.memory(max(length, 1))
        if group.rank == root:
            data.numpy()[:] = _bytes_of(root, turn, length)
        received = group.broadcast(data if group.rank == root else None, root)
        digests.append(hashlib.sha256(received.numpy().tobytes()).digest())
    return digests


def digest_of(rank: int, turn: int, length: int) -> bytes:
    """Of the bytes that a member sends in a round."""
    return hashlib.sha256(_bytes_of(rank, turn, length).tobytes()).digest()


def go_round(group: Group, num_bytes: int) -> None:
    """Every call again and again, for ever."""
    memory = group.memory(num_bytes)
    while True:
        group.combine(num_bytes, sum_of(num_bytes))
        group.share(bytes(5))
        group.broadcast(memory if group.rank == 0 else None, 0)


def stop_within_reduce(group: Group, num_bytes: int, victim: int, number: int) -> None:
    """One member ends or stops itself while all are reducing."""
    reduce = sum_of(num_bytes)

    def fatal(memories: Sequence[Any], target: Any, start: int, stop: int) -> None:  # noqa: ANN401  # as above
        if group.rank == victim:
            os.kill(os.getpid(), signal.Signals(number))
        reduce(memories, target, start, stop)

    group.memory(num_bytes)
    group.combine(num_bytes, fatal)


def outlive(group: Group, next_name: str, join: Join, num_bytes: int) -> list[tuple[int, list[int]]]:
    """Member 1 of 3 is killed; the others meet again on this host and combine."""
    try:
        stop_within_reduce(group, num_bytes, 1, signal.SIGKILL)
    except PeerLostError:
        group.close()
    meeting = Meeting(kind="shared", name=next_name, rank=group.rank // 2, size=2, generation=2)
    again = join(meeting, lambda: False)
    try:
        return combine_often(again, num_bytes, 2, 3)
    finally:
        again.close()


def _bytes_of(rank: int, turn: int, length: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng([rank, turn]).integers(0, 256, length, dtype=np.uint8)

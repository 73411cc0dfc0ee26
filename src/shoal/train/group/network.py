"""Members on several hosts: every two are connected, and bytes go straight from one's memory into the other's.

Plain sockets rather than torch's gloo: its operations cannot be given up, so that one member that is stopped holds all
others until a timeout. Here a wait ends as soon as a connection breaks or the supervisor says so.
"""

import selectors
import socket
from collections.abc import Callable, Mapping
from time import monotonic
from types import TracebackType

import torch

from shoal.train.base import PeerLostError, Reduce
from shoal.train.group.rendezvous import POLL_S, connect_all, is_unanswered
from shoal.train.group.stretches import stretch

# 8 bytes go along with what is combined or announced.
_NUMBER_BYTES = 8
# How often a member that waits looks whether the others' hosts can still be reached.
_REACH_EVERY_S = 0.5
Views = list[memoryview]


class NetworkGroup:
    """A member of a group whose members reach each other over TCP. Single-threaded.

    Per step a member sends and receives about twice the bytes of the result, as in any all-reduce.
    """

    def __init__(self, name: str, rank: int, size: int, interrupted: Callable[[], bool]) -> None:
        self.rank = rank
        self.size = size
        self._interrupted = interrupted
        self._links = connect_all(name, rank, size, self._heed)
        self._memories: list[torch.Tensor] = []
        self._result = torch.zeros(0, dtype=torch.uint8)

    @property
    def address(self) -> str:
        """This host's address, by which the others have reached it."""
        return str(next(iter(self._links.values())).getsockname()[0])

    def memory(self, num_bytes: int) -> torch.Tensor:
        """Bytes of this process."""
        if not self._memories or len(self._memories[0]) != num_bytes:
            # Of the others' memories only this member's stretch is ever touched, and so only that takes up room.
            self._memories = [torch.empty(num_bytes, dtype=torch.uint8) for _ in range(self.size)]
        return self._memories[self.rank]

    def combine(self, num_bytes: int, reduce: Reduce, note: int = 0) -> tuple[torch.Tensor, list[int]]:
        """Each member gets its stretch of all memories, reduces it, and gives it to all.

        A memory holds pieces of `num_bytes` one behind the other; to a stretch belong those bytes of each piece.
        """
        if len(self._result) != num_bytes:
            self._result = torch.zeros(num_bytes, dtype=torch.uint8)
        notes = self._numbers(note)
        stretches = [slice(*stretch(num_bytes, other, self.size)) for other in range(self.size)]
        own = stretches[self.rank]
        mine = self._memories[self.rank]
        self._trade(
            {other: [_view(notes[self.rank]), *_cuts(mine, num_bytes, stretches[other])] for other in self._links},
            {other: [_view(notes[other]), *_cuts(self._memories[other], num_bytes, own)] for other in self._links},
        )
        reduce(self._memories, self._result, own.start, own.stop)
        self._trade(
            {other: [_view(self._result[own])] for other in self._links},
            {other: [_view(self._result[stretches[other]])] for other in self._links},
        )
        return self._result, [int(number.view(torch.int64)) for number in notes]

    def share(self, data: bytes) -> list[bytes]:
        """To each of the others by its own connection."""
        lengths = self._announce(len(data))
        received = [bytearray(length) for length in lengths]
        self._trade(
            {other: [memoryview(data)] for other in self._links},
            {other: [memoryview(received[other])] for other in self._links},
        )
        return [data if other == self.rank else bytes(part) for other, part in enumerate(received)]

    def broadcast(self, data: torch.Tensor | None, root: int) -> torch.Tensor:
        """The root gives each a stretch, and all give theirs to all: nobody sends the whole more than twice."""
        length = self._announce(0 if data is None else len(data))[root]
        received = torch.empty(length, dtype=torch.uint8) if data is None or self.rank != root else data
        stretches = [slice(*stretch(length, other, self.size)) for other in range(self.size)]
        own = stretches[self.rank]
        if self.rank == root:
            self._trade({other: [_view(received[stretches[other]])] for other in self._links}, {})
        else:
            self._trade({}, {root: [_view(received[own])]})
        self._trade(
            {other: [_view(received[own])] for other in self._links if other != root},
            {other: [_view(received[stretches[other]])] for other in self._links if self.rank != root},
        )
        return received

    def close(self) -> None:
        """Close the connections, which every other member sees at once."""
        for link in self._links.values():
            link.close()
        self._links = {}
        self._memories = []
        self._result = torch.zeros(0, dtype=torch.uint8)

    def _announce(self, number: int) -> list[int]:
        """Every member's number."""
        numbers = self._numbers(number)
        self._trade(
            {other: [_view(numbers[self.rank])] for other in self._links},
            {other: [_view(numbers[other])] for other in self._links},
        )
        return [int(each.view(torch.int64)) for each in numbers]

    def _numbers(self, own: int) -> list[torch.Tensor]:
        numbers = [torch.zeros(_NUMBER_BYTES, dtype=torch.uint8) for _ in range(self.size)]
        numbers[self.rank].view(torch.int64).fill_(own)
        return numbers

    def _trade(self, outgoing: Mapping[int, Views], incoming: Mapping[int, Views]) -> None:
        """Send and receive all at the same time, as the buffers between two members hold less than a model."""
        with _Traffic(self._links, outgoing, incoming) as traffic:
            heeded = reached = monotonic()
            while traffic.is_open:
                traffic.move(POLL_S)
                if monotonic() - heeded >= POLL_S:
                    self._heed()
                    heeded = monotonic()
                if monotonic() - reached >= _REACH_EVERY_S:
                    self._check_reach()
                    reached = monotonic()

    def _check_reach(self) -> None:
        for other, link in self._links.items():
            if is_unanswered(link):
                raise PeerLostError(f"member {other} of {self.size} is out of reach of member {self.rank}")

    def _heed(self) -> None:
        if self._interrupted():
            raise PeerLostError(f"member {self.rank} of {self.size} was told that another is gone")


class _Traffic:
    """What is still to be sent and received over some connections."""

    def __init__(
        self, links: Mapping[int, socket.socket], outgoing: Mapping[int, Views], incoming: Mapping[int, Views]
    ) -> None:
        self._selector = selectors.DefaultSelector()
        for other, link in links.items():
            queues = ([view for view in views.get(other, []) if len(view)] for views in (outgoing, incoming))
            self._watch(link, *queues)

    def __enter__(self) -> "_Traffic":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()

    @property
    def is_open(self) -> bool:
        """Whether anything is left."""
        return bool(self._selector.get_map())

    def move(self, timeout_s: float) -> None:
        """Send and receive what can be without waiting; wait at most so long until something can."""
        for key, events in self._selector.select(timeout_s):
            link, (sending, receiving) = key.fileobj, key.data
            assert isinstance(link, socket.socket)
            try:
                if events & selectors.EVENT_WRITE:
                    _advance(sending, link.sendmsg(sending))
                if events & selectors.EVENT_READ:
                    num_bytes = link.recvmsg_into(receiving)[0]
                    if not num_bytes:
                        raise PeerLostError("a member closed its connection")
                    _advance(receiving, num_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise PeerLostError(str(error)) from None
            self._watch(link, sending, receiving)

    def _watch(self, link: socket.socket, sending: Views, receiving: Views) -> None:
        events = (selectors.EVENT_WRITE if sending else 0) | (selectors.EVENT_READ if receiving else 0)
        known = self._selector.get_map().get(link)
        if known is None:
            if events:
                self._selector.register(link, events, (sending, receiving))
        elif not events:
            self._selector.unregister(link)
        elif known.events != events:
            self._selector.modify(link, events, (sending, receiving))


def _advance(views: Views, num_bytes: int) -> None:
    while views and num_bytes >= len(views[0]):
        num_bytes -= len(views.pop(0))
    if num_bytes:
        views[0] = views[0][num_bytes:]


def _cuts(memory: torch.Tensor, piece_bytes: int, place: slice) -> Views:
    return [_view(memory[first + place.start : first + place.stop]) for first in range(0, len(memory), piece_bytes)]


def _view(numbers: torch.Tensor) -> memoryview:
    return numbers.numpy().data

"""Members that each have a GPU of their own: what they combine goes straight from one GPU's memory to another's.

Written against NCCL. Nothing in here but the name of the backend knows it, so that gloo can stand in on the CPU.
"""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from time import monotonic, sleep
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not marked so

from shoal.train.base import Group, PeerLostError, Reduce
from shoal.train.group.stretches import ALIGNED_BYTES

Backend = Literal["nccl", "gloo"]

# Between two looks whether an operation is done: none at first, as most are over sooner than a nap.
_SPIN_S = 0.0005
_NAP_S = 0.0001
_POLL_S = 0.0025
# For all to connect; whoever cannot by then, all being alive, goes without.
_CONNECT_S = 60.0
# For a GPU to come to what it was given, once all that came before is known to be done.
_SETTLE_S = 5.0
# For an end; a stopped peer may draw it out, and then it goes on beside the training.
_ABORT_S = 1.0
# Not by its own clock is an operation given up: whoever waits is told when it is of no use any more.
_NEVER = timedelta(days=30)


class AcceleratedGroup:
    """Another group whose memory lies on the members' devices and is combined there. Single-threaded.

    Per step a member sends and receives about twice the bytes of the result; besides its memory and the result it holds
    as much again, for the others' stretches. Bytes and state that are shared, and notes, go by the inner group.
    """

    def __init__(self, inner: Group, device: torch.device, communicator: "Communicator") -> None:
        """Take over a group and the communicator of its members; `close` ends both."""
        self.rank = inner.rank
        self.size = inner.size
        self._inner = inner
        self._device = device
        self._communicator = communicator
        self._memory = self._new(0)
        # What it is laid out for.
        self._num_bytes = -1
        self._unit = 0
        self._stretches: list[tuple[int, int]] = []
        self._received = self._gathered = self._result = self._new(0)
        self._windows: list[torch.Tensor] = []

    def memory(self, num_bytes: int) -> torch.Tensor:
        """Bytes on the device."""
        if len(self._memory) != num_bytes:
            self._memory = self._new(num_bytes)
            self._num_bytes = -1
        return self._memory

    def combine(self, num_bytes: int, reduce: Reduce, note: int = 0) -> tuple[torch.Tensor, list[int]]:
        """Each member gets its stretch of all memories, reduces it on its device, and gives it to all."""
        if self._num_bytes != num_bytes:
            self._lay_out(num_bytes)
        start, stop = self._stretches[self.rank]
        lengths = [last - first for first, last in self._stretches]
        own = [stop - start] * self.size
        row = sum(own)
        pieces = self._memory.view(-1, num_bytes)
        rows = [self._received[start + index * row : start + (index + 1) * row] for index in range(len(pieces))]

        self._communicator.run(
            lambda backend: [
                backend.alltoall_base(target, piece, own, lengths) for target, piece in zip(rows, pieces, strict=True)
            ]
        )
        reduce(self._windows, self._result, start, stop)
        place = self.rank * self._unit
        mine = self._gathered[place : place + self._unit]
        self._communicator.run(lambda backend: [backend._allgather_base(self._gathered, mine)])  # noqa: SLF001  # torch's own name for it
        # Last: once all have said that they have everything, nobody can miss what a member takes along that leaves.
        notes = self._inner.share(note.to_bytes(8, "little"))
        return self._result, [int.from_bytes(each, "little") for each in notes]

    def share(self, data: bytes) -> list[bytes]:
        """As the inner group does."""
        return self._inner.share(data)

    def broadcast(self, data: torch.Tensor | None, root: int) -> torch.Tensor:
        """As the inner group does: a state is packed in host memory."""
        return self._inner.broadcast(data, root)

    def close(self) -> None:
        """End the communicator, which no member waits for any more, let go of the memory, and close the inner group."""
        self._communicator.abort()
        self._memory = self._received = self._gathered = self._result = torch.zeros(0, dtype=torch.uint8)
        self._windows, self._num_bytes = [], -1
        self._inner.close()

    def _new(self, num_bytes: int) -> torch.Tensor:
        return torch.zeros(num_bytes, dtype=torch.uint8, device=self._device)

    def _lay_out(self, num_bytes: int) -> None:
        """Stretches of one length, as devices gather these in one operation, and room for what the others send.

        Of each piece the members' stretches arrive side by side, a row per piece. `reduce` looks for them in whole
        memories, so each member's is a window with the rows' stride, laid so that its stretch begins where it should;
        what else it shows belongs to others and is not read.
        """
        self._unit = -(-num_bytes // (ALIGNED_BYTES * self.size)) * ALIGNED_BYTES
        edges = [min(number * self._unit, num_bytes) for number in range(self.size + 1)]
        self._stretches = list(pairwise(edges))
        start, stop = self._stretches[self.rank]
        length, num_pieces = stop - start, len(self._memory) // num_bytes
        row = self.size * length
        # Windows of the last member and piece reach the furthest, though nobody looks there.
        self._received = self._new((num_pieces - 1) * row + (self.size - 1) * length + num_bytes)
        self._gathered = self._new(self.size * self._unit)
        # One object for all steps, as others keep views of it.
        self._result = self._gathered[:num_bytes]
        self._windows = [
            self._received.as_strided((num_pieces, num_bytes), (row, 1), number * length) for number in range(self.size)
        ]
        self._num_bytes = num_bytes


class Communicator:
    """torch's connections between the members' devices, apart from its default group. Single-threaded."""

    def __init__(self, backend: Any, device: torch.device, interrupted: Callable[[], bool]) -> None:  # noqa: ANN401  # torch has no type for all of them
        self._backend = backend
        self._device = device
        self._interrupted = interrupted

    def run(self, begin: Callable[[Any], Sequence[Any]]) -> None:
        """Begin some operations and return when the device has done them; afterwards their tensors may be used.

        Raises:
            PeerLostError: `interrupted` said so, or a connection broke. The communicator is of no further use.
        """
        try:
            works = begin(self._backend)
            for work in works:
                self._await(work.is_completed)
                # Raises what went wrong with gloo; with NCCL it only has the present stream wait for the other one.
                work.wait()
            if self._device.type == "cuda":
                # With NCCL a failed operation counts as completed, but the GPU never gets through it.
                done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no types here
                done.record()
                self._await(done.query, limit_s=_SETTLE_S)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.abort()
            raise error if isinstance(error, PeerLostError) else PeerLostError(str(error)) from None

    def abort(self) -> None:
        """Give up what is under way, and let go of the connections. Idempotent."""
        if self._backend is not None:
            held, self._backend = [self._backend], None
            is_over = threading.Event()
            threading.Thread(target=_abort, args=(held, is_over), name="shoal-abort", daemon=True).start()
            is_over.wait(_ABORT_S)

    def _await(self, is_done: Callable[[], bool], limit_s: float = float("inf")) -> None:
        began = monotonic()
        while not is_done():
            if self._interrupted():
                raise PeerLostError("told that a member is gone")
            waited_s = monotonic() - began
            if waited_s > limit_s:
                raise PeerLostError("an operation failed on the device")
            sleep(0 if waited_s < _SPIN_S else _NAP_S)


def _abort(held: list[Any], is_over: threading.Event) -> None:
    backend = held.pop()
    try:
        backend.abort()
    finally:
        # Before the last reference goes: with a stopped peer, gloo does not come back from taking itself apart.
        is_over.set()


def connect(
    inner: Group, device: torch.device, *, backend: Backend, host: str, interrupted: Callable[[], bool]
) -> Communicator | str:
    """Connect the devices of a group's members; called by all of them alike.

    Args:
        inner: the members.
        device: this member's.
        backend: "nccl" between GPUs; "gloo" on the CPU, for tests.
        host: this host's address for the other members; the first member's counts.
        interrupted: asked all the while; once it says True, the wait ends in PeerLostError.

    Returns:
        The communicator, or, the same for all members, why one of them could not connect.

    Raises:
        PeerLostError: `interrupted` said so, or a member is gone.
    """
    attempt = _Attempt(inner.rank, inner.size, device, backend)
    (address, *_) = inner.share(attempt.listen(host).encode() if inner.rank == 0 else b"")
    attempt.begin(address.decode())
    limit = monotonic() + _CONNECT_S
    while not attempt.wait(_POLL_S) and monotonic() < limit:
        if interrupted():
            attempt.give_up()
            raise PeerLostError(f"member {inner.rank} of {inner.size} was told that another is gone")
    failures = [text.decode() for text in inner.share(attempt.failure.encode())]
    if any(failures):
        attempt.give_up()
        return next(text for text in failures if text)
    return Communicator(attempt.made, device, interrupted)


class _Attempt:
    """Connecting, in a thread of its own: neither torch nor NCCL can be asked to give that up.

    A thread that waits for a stopped peer ends with that peer, whose connections break.
    """

    def __init__(self, rank: int, size: int, device: torch.device, backend: Backend) -> None:
        self._rank, self._size, self._device, self._name = rank, size, device, backend
        self._store: Any = None
        self._address = ""
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._connect, name="shoal-connect", daemon=True)
        self.made: Any = None
        self.failure = "it took too long"

    def listen(self, host: str) -> str:
        """Open the store through which all find each other; its "host:port", or nothing if that cannot be."""
        try:
            self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        except RuntimeError:
            return ""
        return f"{host}:{self._store.port}"

    def begin(self, address: str) -> None:
        self._address = address
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is over, one way or the other."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Let go of what was made, or will be."""
        self._given_up.set()
        made, self.made = self.made, None
        if made is not None:
            Communicator(made, self._device, lambda: False).abort()

    def _connect(self) -> None:
        try:
            if not self._address:
                raise RuntimeError("the first worker cannot listen on any port")  # noqa: TRY301  # told as the others are
            host, _, port = self._address.rpartition(":")
            if self._store is None:
                self._store = TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=_CONNECT_S))
            made = self._group()
            # Connections are made by the first operation, which should not be one that anybody counts on.
            told = torch.zeros(self._size, dtype=torch.uint8, device=self._device)
            made._allgather_base(told, torch.ones_like(told[:1])).wait()  # noqa: SLF001  # as above
            is_whole = bool(told.all())
            if self._given_up.is_set():
                made.abort()
                return
            self.made = made
            self.failure = "" if is_whole else "it brought wrong bytes"
        except (RuntimeError, ValueError, OSError) as error:
            self.failure = (str(error).splitlines() or [type(error).__name__])[0]

    def _group(self) -> Any:  # noqa: ANN401  # one of torch's, which have no common type here
        if self._name == "gloo":
            return dist.ProcessGroupGloo(self._store, self._rank, self._size, _NEVER)
        torch.cuda.set_device(self._device)
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = _NEVER  # noqa: SLF001  # torch sets it so too
        return dist.ProcessGroupNCCL(self._store, self._rank, self._size, options)

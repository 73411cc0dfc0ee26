"""The front's end of the channel to one replica."""

import asyncio
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from shoal.serve.batching.inference import Inference
from shoal.serve.batching.liveness import Signs
from shoal.serve.links.channel import (
    Done,
    Failed,
    Frame,
    FrameReader,
    FromReplica,
    Hello,
    IncomingTensors,
    Key,
    Load,
    Loaded,
    LoadFailed,
    OutgoingTensors,
    Ping,
    Slot,
    Unload,
    Work,
    encode_frame,
)
from shoal.serve.wire.tensors import Array

_LOG = logging.getLogger(__name__)
_READ_BYTES = 64 << 10


@dataclass(slots=True)
class Batch:
    """What one replica is running; the front keeps all of it until it is answered.

    Attributes:
        number: counts the batches of this front.
        key: the version that runs.
        requests: in the order of their rows.
        deadline_s: when the replica counts as stuck, by the monotonic clock.
    """

    number: int
    key: Key
    requests: list[Inference]
    deadline_s: float = math.inf

    @property
    def num_rows(self) -> int:
        """Rows of all its requests."""
        return sum(request.num_rows for request in self.requests)

    def inputs(self) -> list[list[Array]]:
        """For each input its parts, one per request."""
        return [list(parts) for parts in zip(*(request.call.arrays for request in self.requests), strict=True)]


class LinkOwner(Protocol):
    """Who hears what a replica says."""

    def on_frame(self, link: "ReplicaLink", frame: FromReplica) -> None:
        """A frame came; not called after `on_lost`."""

    def on_lost(self, link: "ReplicaLink") -> None:
        """The replica died or left; called once."""


class ReplicaLink:
    """One connected replica: what it has, and the one batch that it runs. Used by the event loop alone.

    The socket is used without a transport: a frame must leave at once, not when the loop has answered all clients of
    the batch before, or the replica would idle meanwhile.
    """

    def __init__(self, connection: socket.socket, number: int, owner: LinkOwner) -> None:
        # A replica that stopped reading must never stop the front.
        connection.setblocking(False)
        self.number = number
        self.rank = -1
        self.pid = -1
        self.host = ""
        self.loaded: set[Key] = set()
        self.asked: set[Key] = set()
        # Asked in vain: the same file would fail again, until a new plan says otherwise.
        self.failed: set[Key] = set()
        self.batch: Batch | None = None
        self._connection: socket.socket | None = connection
        self._owner = owner
        # In the order of asking, which is the order of loading.
        self._loads: list[Key] = []
        self._loading_since_s = math.inf
        self._heard_s = time.monotonic()
        self._pinged_s = -math.inf
        self._busy_s = 0.0
        self._ran_s = 0.0
        self._reader = FrameReader()
        self._incoming = IncomingTensors()
        self._outgoing = OutgoingTensors()
        asyncio.get_running_loop().add_reader(connection, self._on_readable)

    @property
    def is_idle(self) -> bool:
        """Whether it can take a batch."""
        return self.batch is None and bool(self.loaded)

    @property
    def signs(self) -> Signs:
        """What is known of its life."""
        return Signs(
            number=self.number,
            is_running=self.batch is not None,
            loaded=self.loaded,
            loading=self._loads[0] if self._loads else None,
            loading_since_s=self._loading_since_s,
            heard_s=self._heard_s,
            pinged_s=self._pinged_s,
        )

    @property
    def busy_s(self) -> float:
        """How long it has been at batches of this front, the one that it is at included."""
        return self._busy_s + (0.0 if self.batch is None else time.monotonic() - self._ran_s)

    def look(self) -> None:
        """Hear what it has said by now, before the loop comes to it."""
        if self._connection is not None:
            self._on_readable()

    def ping(self) -> None:
        """Ask it for a sign of life."""
        self._pinged_s = time.monotonic()
        self._send(Ping())

    def load(self, key: Key, path: str) -> None:
        """Ask it to load a version."""
        self.asked.add(key)
        if not self._loads:
            self._loading_since_s = time.monotonic()
        self._loads.append(key)
        self._send(Load(key.model, key.version, path))

    def unload(self, key: Key) -> None:
        """Tell it to let a version go."""
        self.loaded.discard(key)
        self._send(Unload(key.model, key.version))

    def run(self, batch: Batch) -> None:
        """Hand it a batch.

        Raises:
            StorageFullError: there is no shared memory for it; the link is still idle.
        """
        # Memory first: if there is none, the link has not changed.
        block, slots = self._outgoing.write(batch.inputs())
        self.batch = batch
        self._ran_s = time.monotonic()
        self._send(Work(batch.number, batch.key.model, batch.key.version, block, slots))

    def outputs(self, block: str, slots: Sequence[Slot]) -> list[Array]:
        """The outputs that a `Done` tells of, valid until the next `run`."""
        return self._incoming.read(block, slots)

    def kill(self) -> None:
        """End a replica that is stuck, and tell the owner that it is lost."""
        # Before its Hello there is no process id, and -1 would mean every process of this user.
        if self.pid > 0:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._lose()

    def close(self) -> None:
        """Let the replica go, without telling the owner."""
        if self._connection is not None:
            asyncio.get_running_loop().remove_reader(self._connection)
            self._connection.close()
            self._connection = None
            self._incoming.close()
            self._outgoing.close()

    def _on_readable(self) -> None:
        assert self._connection is not None
        try:
            data = self._connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._heard_s = time.monotonic()
        for frame in self._reader.feed(data):
            self._note(frame)
            # The owner may have closed the link on hearing the frame before.
            if self._connection is not None:
                self._tell(frame)

    def _tell(self, frame: Frame) -> None:
        try:
            self._owner.on_frame(self, frame)  # type: ignore[arg-type]  # replicas send no other kind
        except Exception:  # noqa: BLE001  # the boundary: the next frame may be a Done, and must not be lost
            _LOG.exception("cannot handle a %s of replica %d", type(frame).__name__, self.rank)

    def _note(self, frame: Frame) -> None:
        if isinstance(frame, (Done, Failed)):
            self._busy_s += self._heard_s - self._ran_s
        elif isinstance(frame, Hello):
            self.rank, self.pid, self.host = frame.rank, frame.pid, frame.host
        elif isinstance(frame, Loaded):
            key = Key(frame.model, frame.version)
            self.loaded.add(key)
            self._end_load(key)
        elif isinstance(frame, LoadFailed):
            key = Key(frame.model, frame.version)
            self.failed.add(key)
            self._end_load(key)
            _LOG.warning("replica %d cannot load %s@%s: %s", self.rank, frame.model, frame.version, frame.message)

    def _end_load(self, key: Key) -> None:
        self.asked.discard(key)
        if key in self._loads:
            self._loads.remove(key)
            # The next one begins now.
            self._loading_since_s = time.monotonic() if self._loads else math.inf

    def _send(self, frame: Frame) -> None:
        data = encode_frame(frame)
        try:
            sent = 0 if self._connection is None else self._connection.send(data)
        except OSError:
            sent = 0
        if sent < len(data):
            # Frames are far smaller than the socket's buffer: nobody reads any more. Telling the owner from within its
            # own call would surprise it.
            asyncio.get_running_loop().call_soon(self._lose)

    def _lose(self) -> None:
        if self._connection is not None:
            self.close()
            self._owner.on_lost(self)

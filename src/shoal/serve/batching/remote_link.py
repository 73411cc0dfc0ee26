"""The front's end of the channel to a replica on another machine."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence

from shoal.base import CorruptError
from shoal.serve.batching.link import Batch, LinkOwner, ReplicaLink
from shoal.serve.links.channel import Done, Frame, Slot, Work
from shoal.serve.links.inline import InlineReader, InlineTensors, Outbox, encode_inline
from shoal.serve.wire.tensors import Array

_LOG = logging.getLogger(__name__)
# Of frames, beside the tensors of the one batch: who leaves so much unread reads nothing any more.
_MOST_WAITING_BYTES = 1 << 20
# A large batch that comes in should not hold up the other sockets of this process.
_READS_AT_ONCE = 16


class RemoteLink(ReplicaLink):
    """One connected replica that shares no memory with the front: tensors go through the socket.

    Nothing here waits for the replica. What its socket does not take now leaves when it can, out of the arrays of the
    requests, which stay with the batch until it is answered.
    """

    def __init__(
        self, connection: socket.socket, number: int, owner: LinkOwner, end: Callable[[int, int], None]
    ) -> None:
        """Begin to listen.

        Args:
            connection: proved to be of this server (`proof`).
            number: of the link.
            owner: who hears of it.
            end: has the supervisor kill the replica of a rank and a process id, which means nothing on this machine.
        """
        super().__init__(connection, number, owner)
        self._end = end
        self._arriving = InlineReader()
        self._leaving = InlineTensors()
        self._outbox = Outbox(connection)
        self._is_waiting = False
        self._num_batch_bytes = 0
        self._outputs: list[Array] = []

    def run(self, batch: Batch) -> None:
        """Hand it a batch.

        Raises:
            StorageFullError: the batch is too large for the channel; the link is still idle.
        """
        block, slots = self._leaving.write(batch.inputs())
        self.batch = batch
        self._ran_s = time.monotonic()
        tensors = self._leaving.take()
        self._num_batch_bytes = sum(piece.nbytes for piece in tensors)
        self._put(Work(batch.number, batch.key.model, batch.key.version, block, slots), tensors)

    def outputs(self, block: str, slots: Sequence[Slot]) -> list[Array]:  # noqa: ARG002  # they came with their frame
        """The outputs of the last `Done`, valid until the next `run`."""
        return self._outputs

    def kill(self) -> None:
        """Have a replica ended that is stuck, and tell the owner that it is lost."""
        if self.pid > 0:
            self._end(self.rank, self.pid)
        self._lose()

    def close(self) -> None:
        """Let the replica go, without telling the owner."""
        if self._connection is not None and self._is_waiting:
            asyncio.get_running_loop().remove_writer(self._connection)
            self._is_waiting = False
        # The arrays of a batch may belong to requests that another replica runs now.
        self._outbox.clear()
        super().close()

    def _send(self, frame: Frame) -> None:
        self._put(frame, ())

    def _put(self, frame: Frame, tensors: Sequence[memoryview]) -> None:
        if self._connection is None:
            return
        self._outbox.put(encode_inline(frame, tensors))
        is_lost = False
        if not self._is_waiting:
            try:
                self._is_waiting = not self._outbox.flush()
            except OSError:
                is_lost = True
            if self._is_waiting:
                asyncio.get_running_loop().add_writer(self._connection, self._on_writable)
        if is_lost or self._outbox.num_bytes > self._num_batch_bytes + _MOST_WAITING_BYTES:
            # Telling the owner from within its own call would surprise it.
            asyncio.get_running_loop().call_soon(self._lose)

    def _on_writable(self) -> None:
        assert self._connection is not None
        try:
            is_out = self._outbox.flush()
        except OSError:
            self._lose()
            return
        if is_out:
            asyncio.get_running_loop().remove_writer(self._connection)
            self._is_waiting = False

    def _on_readable(self) -> None:
        for _ in range(_READS_AT_ONCE):
            # The owner may have closed the link on hearing a frame.
            if self._connection is None or not self._read_some(self._connection):
                return

    def _read_some(self, connection: socket.socket) -> bool:
        """Read once; whether there may be more."""
        try:
            num_bytes = connection.recv_into(self._arriving.room())
        except BlockingIOError:
            return False
        except OSError:
            num_bytes = 0
        if not num_bytes:
            self._lose()
            return False
        self._heard_s = time.monotonic()
        try:
            arrival = self._arriving.took(num_bytes)
        except CorruptError as error:
            _LOG.warning("replica %d (pid %d) is let go: %s", self.rank, self.pid, error)
            self._lose()
            return False
        if arrival is not None:
            if isinstance(arrival.frame, Done):
                self._outputs = arrival.tensors
            self._note(arrival.frame)
            self._tell(arrival.frame)
        return True

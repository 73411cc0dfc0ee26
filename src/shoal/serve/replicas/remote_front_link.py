"""The replica's end of the channel to a front on another machine."""

import select
import socket
import threading
from contextlib import suppress

from shoal.base import CorruptError
from shoal.serve.links.channel import Done, Frame, Slot, Work
from shoal.serve.links.inline import InlineReader, InlineTensors, Outbox, encode_inline
from shoal.serve.links.proof import call
from shoal.serve.wire.tensors import Array

# A front that takes nothing for so long hangs. It is left, so that the others get their answers.
_STUCK_MS = 5000


class RemoteFrontLink:
    """One connected front with which no memory is shared. Read in one thread, written to by any, as a `FrontLink`.

    Attributes:
        slot: the front's place among its server's fronts.
        host: the address of this machine, as far as the front is concerned.
        incoming: the tensors of the last `Work`.
        outgoing: those that leave with the next `Done`.
    """

    def __init__(self, slot: int, connection: socket.socket) -> None:
        """Take over a connection on which both ends have proved themselves."""
        connection.setblocking(False)
        self.slot = slot
        self.host: str = connection.getsockname()[0]
        self.incoming = ArrivedTensors()
        self.outgoing = InlineTensors()
        self._connection = connection
        self._reader = InlineReader()
        self._outbox = Outbox(connection)
        self._room = select.poll()
        self._room.register(connection, select.POLLOUT)
        # A frame must not be cut by another.
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """For a poll."""
        return self._connection.fileno()

    def receive(self) -> list[Frame] | None:
        """The frames that came whole; None when the front is gone, or sends what is no frame."""
        frames: list[Frame] = []
        try:
            while num_bytes := self._connection.recv_into(self._reader.room()):
                arrival = self._reader.took(num_bytes)
                if arrival is not None:
                    frames.append(arrival.frame)
                    if isinstance(arrival.frame, Work):
                        self.incoming.tensors = arrival.tensors
        except BlockingIOError:
            return frames
        except (OSError, CorruptError):
            return None
        # The next read tells that it is gone, after these are handled.
        return frames or None

    def send(self, *frames: Frame) -> None:
        """Send frames in a row; they are lost when the front is gone or takes nothing, as the next read will tell."""
        with self._sending:
            for frame in frames:
                self._outbox.put(encode_inline(frame, self.outgoing.take() if isinstance(frame, Done) else ()))
            try:
                while not self._outbox.flush():
                    if not self._room.poll(_STUCK_MS):
                        raise TimeoutError
            except OSError:
                self._outbox.clear()
                # Half a frame may be out: nothing that follows would make sense.
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let the front go."""
        with self._sending:
            self._connection.close()
        self.incoming.close()
        self.outgoing.close()


class ArrivedTensors:
    """Tensors that came with their frame; has the interface of `IncomingTensors`."""

    def __init__(self) -> None:
        self.tensors: list[Array] = []

    def read(self, name: str, slots: list[Slot]) -> list[Array]:  # noqa: ARG002  # there is one block, and it is here
        """The tensors of the last `Work`; they hold until the next."""
        return self.tensors

    def close(self) -> None:
        """Let the memory go."""
        self.tensors = []


class Door:
    """Connects to one front again and again, in threads of its own: one that does not answer holds up no batch."""

    def __init__(self, address: str, port: int, token: str) -> None:
        """Know where the front listens; the first call begins to connect."""
        self._place = (address, port, token)
        self._thread: threading.Thread | None = None
        self._connection: socket.socket | None = None

    def __call__(self) -> socket.socket | None:
        """The connection, once there is one; None meanwhile. Asked again and again by one thread."""
        if self._thread is not None and self._thread.is_alive():
            return None
        connection, self._connection = self._connection, None
        self._thread = None
        if connection is None:
            self._thread = threading.Thread(target=self._call, name="replica door", daemon=True)
            self._thread.start()
        return connection

    def _call(self) -> None:
        with suppress(OSError):
            self._connection = call(*self._place)

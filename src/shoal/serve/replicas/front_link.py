"""The replica's end of the channel to one front."""

import os
import socket
import threading
from contextlib import suppress

from shoal.serve.links.channel import Frame, FrameReader, IncomingTensors, OutgoingTensors, encode_frame

_READ_BYTES = 64 << 10


class FrontLink:
    """One connected front, with the memory that is shared with it alone. Read in one thread, written to by any.

    Attributes:
        slot: the front's place among its server's fronts: one that is started again takes the slot of the dead one.
        host: the address of this machine.
    """

    host = "127.0.0.1"

    def __init__(self, slot: int, connection: socket.socket) -> None:
        self.slot = slot
        # New for every front: the last one took the names of the old blocks with it.
        self.incoming = IncomingTensors()
        self.outgoing = OutgoingTensors()
        self._connection = connection
        self._reader = FrameReader()
        # A frame must not be cut by another.
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """For a poll."""
        return self._connection.fileno()

    def receive(self) -> list[Frame] | None:
        """The frames that came; None when the front is gone."""
        try:
            data = self._connection.recv(_READ_BYTES)
        except OSError:
            return None
        return self._reader.feed(data) if data else None

    def send(self, *frames: Frame) -> None:
        """Send frames in a row; they are lost when the front is gone, as the next read will tell."""
        data = b"".join(encode_frame(frame) for frame in frames)
        with self._sending, suppress(OSError):
            self._connection.sendall(data)

    def close(self) -> None:
        """Let the front and its memory go."""
        with self._sending:
            self._connection.close()
        self.incoming.close()
        self.outgoing.close()


def connect(socket_path: str) -> socket.socket | None:
    """Connect to the front that listens there; None while there is none."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(os.fspath(socket_path))
    except OSError:
        connection.close()
        return None
    return connection

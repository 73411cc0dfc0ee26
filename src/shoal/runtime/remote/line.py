"""A TCP stream of frames between a supervisor and a keeper, on which either notices that the other is gone.

A process that dies closes its end at once. A machine that loses its power or its network does not: so both ends say
something every second, and who hears nothing for a while takes the other for dead.
"""

import socket
import struct
import threading
from contextlib import suppress

from shoal.runtime.frames import read_frame, write_frame

# Kinds of frames, beside the messages' own (`frames`).
LAUNCH = 16  # body: MessagePack, what to start
STARTED = 17  # body: MessagePack, of the process
REFUSED = 18  # body: MessagePack, why there is no process
EXITED = 19  # body: MessagePack, how it ended
TERMINATE = 20
KILL = 21
FINISH = 22  # body: what the supervisor leaves to a keeper that it needs no more
ASKED = 23  # body: empty; a keeper was asked to stop by its own surroundings
_BEAT = 24

BEAT_S = 1.0


class Line:
    """One end. Any thread may write, one reads; owns the socket."""

    def __init__(self, connected: socket.socket, *, silence_s: float, patient: bool = False) -> None:
        """Begin to say that we are there.

        Args:
            connected: a TCP socket that blocks.
            silence_s: how long the other end may be silent before it counts as dead; or take nothing, unless `patient`.
            patient: wait for ever for an end that speaks but does not take what is written.
        """
        self.own_address: str = connected.getsockname()[0]
        self._socket = connected
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Of the system, not of Python: reads and writes stay plain calls on a descriptor.
        limit = struct.pack("ll", int(silence_s), int(silence_s % 1 * 1e6))
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        if not patient:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._writing = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="shoal-beat", daemon=True).start()

    def write(self, kind: int, body: bytes | bytearray | memoryview = b"") -> None:
        """Write one whole frame; lost when the other end is gone, as the reader then learns."""
        with self._writing:
            if self._closed.is_set():
                return
            try:
                write_frame(self._socket.fileno(), kind, body)
            except OSError:
                # Half a frame may be out: nothing that follows would make sense.
                self.hang_up()

    def read(self) -> tuple[int, bytes] | None:
        """The next frame's kind and body; None when the other end is gone or has been silent for too long."""
        try:
            while (frame := read_frame(self._socket.fileno())) is not None:
                if frame[0] != _BEAT:
                    return frame
        except OSError:
            return None
        return None

    def hang_up(self) -> None:
        """Let both ends read the end of the stream; any thread may call it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket; called by the reader, when it reads no more."""
        self.hang_up()
        self._closed.set()
        with self._writing:
            self._socket.close()

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_S):
            self.write(_BEAT)

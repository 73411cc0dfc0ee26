"""Who hears of every answered request, where somebody has asked for lines or traces."""

import asyncio
import time
from collections.abc import Mapping

from shoal.serve.records.passage import Passage, Ran
from shoal.serve.records.request_lines import RequestLines
from shoal.serve.tracing.tracer import Tracer
from shoal.serve.wire.trace_context import PARENT


class Observer:
    """Writes lines, makes traces, or both. For the event loop alone."""

    def __init__(self, lines: RequestLines | None, tracer: Tracer | None) -> None:
        self._lines = lines
        self._tracer = tracer

    def note(
        self,
        *,
        protocol: str,
        method: str,
        path: str,
        status: int,
        client: str,
        headers: Mapping[bytes, bytes],
        num_bytes_in: int,
        num_bytes_out: int,
        started_s: float,
        ran: Ran | None,
    ) -> bytes:
        """Hear of a request whose answer is about to be written: what it holds is that of `Passage`.

        Returns:
            The traceparent to give back; b"" where the request had none, or nothing is traced.
        """
        tracer = self._tracer
        trace = None if tracer is None else tracer.place(headers, path)
        passage = Passage(
            protocol,
            method,
            path,
            status,
            client,
            num_bytes_in,
            num_bytes_out,
            started_s,
            time.monotonic(),
            time.time(),
            ran,
            trace,
        )
        if self._lines is not None:
            self._lines.note(passage)
        if tracer is not None:
            tracer.note(passage)
        return b"" if trace is None or PARENT not in headers else trace.header()

    def reopen(self) -> None:
        """Open the file of lines anew, as after it was moved; any thread may call it."""
        if self._lines is not None:
            self._lines.reopen()

    def close(self) -> None:
        """Write and hand on what waits."""
        if self._lines is not None:
            self._lines.close()
        if self._tracer is not None:
            self._tracer.close()


def client_of(transport: asyncio.BaseTransport) -> str:
    """The address that a connection came from; "" where it is not known."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""

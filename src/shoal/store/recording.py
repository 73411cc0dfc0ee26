"""A run in the making: takes notes at the speed of the caller, writes them at the speed of the disk."""

import atexit
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from shoal.base import Clock, ConflictError, Json, Ref, decode, encode
from shoal.store.buffer import WriteBuffer
from shoal.store.records import MetricPoint, RunEnd, RunEvent, make_point


class RunSink(Protocol):
    """Where a run's notes go; each call happens as a whole or not at all, and order is kept."""

    def write(self, run_id: str, notes: Sequence[MetricPoint | RunEvent]) -> None:
        """Write points and events."""

    def finish(self, run_id: str, status: RunEnd, error: str | None, time: datetime) -> None:
        """Write how the run ended."""

    def link(self, source: Ref, target: Ref, relation: str) -> None:
        """Write an edge of the lineage."""

    def forget(self, run: "Run") -> None:
        """Hear that the run was closed."""


class Run:
    """A recorder for one run; any thread may use it. As a context manager it ends "done", or "failed" on an exception.

    Metrics and events are buffered: they reach the store within half a second, at `flush`, at the end, and when the
    process exits; a SIGKILL loses what is younger. Trouble with the disk never stops the work that reports: it is
    raised by `flush` and `finish`.
    """

    def __init__(self, id: str, folder: Path, *, sink: RunSink, clock: Clock) -> None:
        self.id = id
        self.folder = folder
        self._sink = sink
        self._clock = clock
        self._buffer = WriteBuffer[MetricPoint | RunEvent](lambda notes: sink.write(id, notes))
        self._closed = False
        # The buffer's thread is a daemon: at exit it would be stopped with points in its hands.
        atexit.register(self.close)

    def metric(self, name: str, value: float, step: int) -> None:
        """Note one point of a curve; a few microseconds. A second point at a step replaces the first.

        Raises:
            InputError: not a number, or a step beyond 64 bits. It is told here: later it would hold up its neighbours.
        """
        self._check_open()
        self._buffer.add(make_point(name, value, step, self._clock.now()))

    def event(self, kind: str, **fields: Json) -> None:
        """Note that something happened once; InputError for fields that JSON cannot say."""
        self._check_open()
        # Read back at once: a list that the caller goes on changing is noted as it is now.
        as_it_is_now = decode(encode(fields))
        self._buffer.add(RunEvent(run=self.id, kind=kind, fields=as_it_is_now, time=self._clock.now()))

    def lineage(self, source: Ref, target: Ref, relation: str) -> None:
        """Write an edge of the lineage at once."""
        self._sink.link(source, target, relation)

    def flush(self) -> None:
        """Return when everything noted so far is in the store; raises what kept it out."""
        self._buffer.flush()

    def finish(self, status: RunEnd = "done", error: str | None = None) -> None:
        """Write what is left and how the run ended; a second call changes nothing."""
        if self._closed:
            return
        try:
            self.close()
        finally:
            # Also after a failed flush: a run that ended must not look as if it were running.
            self._sink.finish(self.id, status, error, self._clock.now())

    def close(self) -> None:
        """Flush and stop taking notes, without saying how the run ended: another process will resume or finish it."""
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            self._sink.forget(self)
            self._buffer.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ConflictError(
                f"cannot note anything in run {self.id}: it was finished or closed",
                next_step=f"take it up again with store.runs.resume({self.id!r})",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        elif issubclass(kind, KeyboardInterrupt):
            self.finish("cancelled", "interrupted")
        else:
            self.finish("failed", f"{kind.__name__}: {error}")

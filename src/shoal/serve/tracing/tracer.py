"""Which requests are traced, and how they get to the exporter without holding up any."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from shoal.serve.records.metrics import Metrics
from shoal.serve.records.passage import Passage
from shoal.serve.wire.trace_context import TraceContext, begin, join, read_parent

_LOG = logging.getLogger(__name__)
_EVERY_S = 0.5
# Together some 500 traces a second and front: more than anybody looks at, and a few hundredths of a core.
_MOST_WAITING = 256
# The collector may be away: the server stops all the same.
_FAREWELL_S = 2.0
# A trace is begun here for these alone: probes and scrapes would fill a collector with nothing.
_PREDICTIONS = ("/infer", "/predict", "/ModelInfer", "/ModelStreamInfer")


class Exporter(Protocol):
    """Who hands spans on. Used by the tracer's thread alone."""

    def export(self, passages: list[Passage]) -> bool:
        """Hand on the spans of these requests; False where they were lost."""

    def close(self) -> None:
        """Hand on no more."""


class Tracer:
    """Joins the traces of callers, begins some, and hands requests on. For the event loop alone, but for its thread.

    A caller's flag decides whether its request is recorded; of those that bring none, a share. Where more come than a
    thread hands on in bounded memory, the rest is counted in the metrics and lost.
    """

    def __init__(
        self,
        make_exporter: Callable[[], Exporter],
        metrics: Metrics,
        *,
        sample: float = 1.0,
        most_waiting: int = _MOST_WAITING,
        every_s: float = _EVERY_S,
    ) -> None:
        """Begin to hand on what `note` takes; the exporter is made by the thread, as that takes a moment."""
        self._make_exporter = make_exporter
        self._metrics = metrics
        self._sample = sample
        self._most_waiting = most_waiting
        self._every_s = every_s
        self._waiting: deque[Passage] = deque()
        # How many were lost, each time that some were: the thread appends, the loop takes.
        self._losses: deque[int] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._export_forever, name="traces", daemon=True)
        self._thread.start()

    def place(self, headers: Mapping[bytes, bytes], path: str) -> TraceContext | None:
        """The place in a trace of a request with these headers; None for one that belongs to no trace."""
        parent = read_parent(headers)
        if parent is not None:
            return join(parent)
        return begin(sample=self._sample) if path.endswith(_PREDICTIONS) else None

    def note(self, passage: Passage) -> None:
        """Take an answered request, if its trace is recorded."""
        while self._losses:
            self._metrics.lost_traces += self._losses.popleft()
        if passage.trace is None or not passage.trace.is_sampled:
            return
        if len(self._waiting) >= self._most_waiting:
            self._metrics.lost_traces += 1
        else:
            self._waiting.append(passage)

    def close(self) -> None:
        """Hand on what waits, if that can be done soon."""
        self._stopping.set()
        self._thread.join(_FAREWELL_S)

    def _export_forever(self) -> None:
        exporter = self._make_exporter()
        while not self._stopping.wait(self._every_s):
            self._export(exporter)
        self._export(exporter)
        exporter.close()

    def _export(self, exporter: Exporter) -> None:
        passages = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not passages:
            return
        try:
            is_done = exporter.export(passages)
        except Exception:  # noqa: BLE001  # the boundary to a library: whatever fails there, the next ones may go
            _LOG.exception("cannot export traces")
            is_done = False
        if not is_done:
            self._losses.append(len(passages))

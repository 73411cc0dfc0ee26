"""What a front remembers and tells of its requests, as its server was told to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shoal.serve.records.log_rule import LogRule
from shoal.serve.records.metrics import Metrics
from shoal.serve.records.request_lines import RequestLines
from shoal.serve.tracing.observer import Observer
from shoal.serve.tracing.tracer import Exporter, Tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeing:
    """What is seen of requests beside the metrics; by default every prediction is logged whole, and nothing is told.

    Attributes:
        log_sample: the share of requests that the prediction log takes.
        log_drop: names or patterns of fields that it does not take.
        access_log: the file or named pipe for a line of each request; None for none.
        traces: the collector's whole address; None for no traces.
        trace_sample: the share of the predictions without a caller's trace that begin one.
    """

    log_sample: float = 1.0
    log_drop: Sequence[str] = ()
    access_log: str | None = None
    traces: str | None = None
    trace_sample: float = 1.0

    @property
    def rule(self) -> LogRule:
        """What the prediction log takes."""
        return LogRule(self.log_sample, tuple(self.log_drop))

    def observer(self, metrics: Metrics, front: int) -> Observer | None:
        """The observer of the front with this rank; None where nobody asked for one, so that it costs nothing."""
        if self.access_log is None and self.traces is None:
            return None
        return Observer(
            None if self.access_log is None else RequestLines(Path(self.access_log), metrics, front=front),
            None if self.traces is None else Tracer(self._exporter, metrics, sample=self.trace_sample),
        )

    def _exporter(self) -> Exporter:
        # Here, where the tracer's thread comes by: it takes a third of a second, and nobody else pays for it.
        from shoal.serve.tracing.export import OtlpExporter

        assert self.traces is not None
        return OtlpExporter(self.traces)


NOTHING_SEEN = Seeing()
"""What a front does that was told nothing."""

"""Prediction ids for every answer, and the log behind them where one is kept."""

import logging
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from shoal.base import PredictionId, ServeError, ShoalError, UnsupportedError, new_token
from shoal.serve.records.log_rule import LogRule
from shoal.serve.records.metrics import Metrics
from shoal.serve.versions.models import ServedVersion
from shoal.serve.wire.interface import Interface
from shoal.serve.wire.tensors import Array

if TYPE_CHECKING:
    from shoal.serve.records.prediction_log import PredictionLog

_LOG = logging.getLogger(__name__)
_LOG_EVERYTHING = LogRule()


class Answered(Protocol):
    """A request of a batch that was answered."""

    @property
    def request_id(self) -> str:
        """The client's id for it, or the front's."""

    @property
    def num_rows(self) -> int:
        """Rows that it brought."""


class Journal:
    """Gives out ids; logs the rows too when it has a folder. Used by the event loop alone.

    A row that cannot be logged still gets its answer, under an id of another log id: looking it up says that it is not
    in the log, instead of finding another row. So do the rows that the rule leaves out, whose ids say just that.

    Attributes:
        is_sampled: whether `write_sampled` is to be used.
        is_observed: whether each exchange is to be told how its request ran, for an observer to hear.
    """

    def __init__(
        self,
        folder: Path | None,
        metrics: Metrics,
        *,
        rule: LogRule = _LOG_EVERYTHING,
        front: int = 0,
        num_fronts: int = 1,
    ) -> None:
        """Log under `folder`, as the `front`-th of so many that log there; None for no log."""
        self.is_sampled = folder is not None and rule.sample < 1
        self.is_observed = False
        self._rule = rule
        self._folder = folder
        self._front = front
        self._num_fronts = num_fronts
        self._metrics = metrics
        self._logs: dict[tuple[str, Interface], PredictionLog] = {}
        # Model -> why it is not logged although there is a folder.
        self._reasons: dict[str, str] = {}
        self._token = new_token(6)
        self._num_unlogged = 0
        self._num_unsampled = 0

    def open(self, served: ServedVersion) -> None:
        """Open the log for a version before its first row.

        Raises:
            ConfigError: the rule names a field that the model does not have; nothing of it is logged.
            ConflictError: another server writes this model's log.
            ServeError: the folder cannot be used.
            ShoalError: the log is damaged or cannot be made.
        """
        model, interface = served.key.model, served.interface
        if self._folder is None or (model, interface) in self._logs:
            return
        from shoal.serve.records.prediction_log import PredictionLog  # pyarrow: 40 MB that a front without a log saves

        try:
            fitting = [log for log in self._logs.values() if log.fits(model, interface)]
            self._logs[model, interface] = (
                fitting[0]
                if fitting
                else PredictionLog(
                    self._folder,
                    model,
                    interface,
                    model_kind=served.model_kind,
                    rule=self._rule,
                    front=self._front,
                    num_fronts=self._num_fronts,
                )
            )
            self._reasons.pop(model, None)
        except UnsupportedError as error:
            self._reasons[model] = error.message
            _LOG.warning("%s", error)
        except ShoalError as error:
            self._reasons[model] = error.message
            raise
        except OSError as error:
            unusable = ServeError(
                f"cannot log predictions of {model} in the folder {self._folder}: {error}",
                next_step="give a log folder that can be written to",
            )
            self._reasons[model] = unusable.message
            raise unusable from error

    def write(
        self, served: ServedVersion, num_rows: int, inputs: Sequence[Sequence[Array]], outputs: Sequence[Array]
    ) -> tuple[str, int]:
        """Log a batch and return (prefix, row): row i of it has the prediction id `prefix.(row + i)`.

        Args:
            served: who answered.
            num_rows: rows in the batch.
            inputs: for each input its parts, one per request.
            outputs: for each output the whole batch; not written to afterwards.
        """
        log = self._logs.get((served.key.model, served.interface))
        if log is not None:
            try:
                return log.append(served.key.version, num_rows, inputs, outputs)
            except (ShoalError, OSError) as error:
                if not self._metrics.unlogged_rows:
                    _LOG.warning("predictions are answered but not logged: %s", error)
                self._metrics.unlogged_rows += num_rows
        row = self._num_unlogged
        self._num_unlogged += num_rows
        return f"{served.key.model}@{served.key.version}.{self._token}", row

    def write_sampled(
        self,
        served: ServedVersion,
        requests: Sequence[Answered],
        inputs: Sequence[Sequence[Array]],
        outputs: Sequence[Array],
    ) -> list[tuple[str, int]]:
        """Log what the rule takes of a batch, and return (prefix, row) of each request's first row.

        As `write`, for where `is_sampled` says so; a request is logged whole or not at all. Of the prefixes there are
        at most two.
        """
        sizes = [request.num_rows for request in requests]
        taken = [self._rule.takes(request.request_id) for request in requests]
        num_taken = sum(size for size, is_taken in zip(sizes, taken, strict=True) if is_taken)
        if not all(taken):
            inputs, outputs = _chosen(taken, sizes, inputs, outputs)
        prefix, row = self.write(served, num_taken, inputs, outputs) if num_taken else ("", 0)
        left_out = f"{served.key.model}@{served.key.version}.{PredictionId.UNSAMPLED}{self._token}"
        places = []
        for size, is_taken in zip(sizes, taken, strict=True):
            if is_taken:
                places.append((prefix, row))
                row += size
            else:
                places.append((left_out, self._num_unsampled))
                self._num_unsampled += size
        self._metrics.unsampled_rows += sum(sizes) - num_taken
        return places

    def flush(self) -> str | None:
        """Hand what was written to the logs; returns in words why that failed, if it did: then it is tried again."""
        try:
            for log in set(self._logs.values()):
                log.flush()
        except (ShoalError, OSError) as error:
            return str(error)
        return None

    def sync(self) -> str | None:
        """Make what was flushed readable, in any thread; returns in words why that failed, if it did."""
        try:
            for log in set(self._logs.values()):
                log.sync()
        except (ShoalError, OSError) as error:
            return str(error)
        return None

    def close(self) -> None:
        """Seal the logs and let the next writer in."""
        for log in set(self._logs.values()):
            try:
                log.close()
            except (ShoalError, OSError) as error:
                _LOG.warning("the log %s was not sealed: %s", log.folder, error)
        self._logs.clear()

    def status(self) -> list[dict[str, Any]]:
        """What is logged where, for people."""
        logs: list[dict[str, Any]] = [
            {
                "model": log.model,
                "folder": str(log.folder),
                "num_rows": log.num_rows,
                "sample": log.rule.sample,
                "dropped": list(log.dropped),
                "failure": None if log.failure is None else str(log.failure),
            }
            for log in set(self._logs.values())
        ]
        return logs + [{"model": model, "folder": None, "failure": reason} for model, reason in self._reasons.items()]


def _chosen(
    taken: Sequence[bool], sizes: Sequence[int], inputs: Sequence[Sequence[Array]], outputs: Sequence[Array]
) -> tuple[list[list[Array]], list[Array]]:
    """The inputs and outputs of the requests that are taken."""
    if not any(taken):
        # The inputs are not even looked at: with a cache they may not be decoded.
        return [], []
    ends = list(accumulate(sizes))
    places = [place for place, is_taken in enumerate(taken) if is_taken]
    # Copies: what waits for the log must not hold on to whole batches.
    rows = [
        np.concatenate([output[ends[place] - sizes[place] : ends[place]] for place in places]) for output in outputs
    ]
    return [[parts[place] for place in places] for parts in inputs], rows

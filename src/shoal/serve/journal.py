"""Prediction ids for every answer, and the log behind them where one is kept."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal.base import ServeError, ShoalError, UnsupportedError, new_token
from shoal.serve.interface import Interface
from shoal.serve.metrics import Metrics
from shoal.serve.models import ServedVersion
from shoal.serve.tensors import Array

if TYPE_CHECKING:
    from shoal.serve.prediction_log import PredictionLog

_LOG = logging.getLogger(__name__)


class Journal:
    """Gives out ids; logs the rows too when it has a folder. Used by the event loop alone.

    A row that cannot be logged still gets its answer, under an id of another log id: looking it up says that it is not
    in the log, instead of finding another row.
    """

    def __init__(self, folder: Path | None, metrics: Metrics, *, front: int = 0, num_fronts: int = 1) -> None:
        """Log under `folder`, as the `front`-th of so many that log there; None for no log."""
        self._folder = folder
        self._front = front
        self._num_fronts = num_fronts
        self._metrics = metrics
        self._logs: dict[tuple[str, Interface], PredictionLog] = {}
        # Model -> why it is not logged although there is a folder.
        self._reasons: dict[str, str] = {}
        self._token = new_token(6)
        self._num_unlogged = 0

    def open(self, served: ServedVersion) -> None:
        """Open the log for a version before its first row.

        Raises:
            ConflictError: another server writes this model's log.
            ServeError: the folder cannot be used.
            ShoalError: the log is damaged or cannot be made.
        """
        model, interface = served.key.model, served.interface
        if self._folder is None or (model, interface) in self._logs:
            return
        from shoal.serve.prediction_log import PredictionLog  # pyarrow: 40 MB that a front without a log saves

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
                "failure": None if log.failure is None else str(log.failure),
            }
            for log in set(self._logs.values())
        ]
        return logs + [{"model": model, "folder": None, "failure": reason} for model, reason in self._reasons.items()]

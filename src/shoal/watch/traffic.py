"""The prediction log as the watch floor sees it: rows of one model, with their inputs and their scores."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shoal.base import SourceError, decode, open_log
from shoal.model import score_columns

# The one output that a classifier's scores are derived from.
_SCORES = "scores"


class Traffic:
    """Logged predictions of one model, in log order; follows a log that grows. One per thread.

    `sample` is the share of the requests that the service logs: a row stands for `1 / sample` rows of traffic.
    `dropped` are the inputs and outputs that it never logs; `inputs` and `outputs` are those that the log has.
    """

    def __init__(self, log_folder: str | os.PathLike[str]) -> None:
        """Open the log of one model, such as `.shoal/predictions/fashion`.

        Raises:
            NotFoundError: there is no log in the folder.
            SourceError: the log there is not one of predictions.
        """
        self.folder = Path(log_folder)
        self._reader = open_log(self.folder)
        try:
            facts: dict[str, Any] = decode((self._reader.schema.metadata or {})[b"shoal"])
            self.model: str = facts["model"]
            self.kind: str = facts["kind"]
            self.inputs: tuple[str, ...] = tuple(facts["inputs"])
            self.outputs: tuple[str, ...] = tuple(facts["outputs"])
            # A log says these only where its rule leaves something out.
            self.sample = float(facts.get("sample", 1.0))
            self.dropped: tuple[str, ...] = tuple(facts.get("dropped", ()))
        except (KeyError, ValueError) as error:
            raise SourceError(
                f"cannot watch {self.folder}: its columns {self._reader.schema.names} are no prediction log",
                next_step="name the folder of one model's log, such as .shoal/predictions/fashion",
            ) from error

    @property
    def num_rows(self) -> int:
        """Rows that can be read so far."""
        return self._reader.num_rows

    def read(
        self, since_row: int = 0, until_row: int | None = None, *, version: str | None = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], pa.RecordBatch]]:
        """Yield (row numbers, batch) of the rows from `since_row` to just before `until_row`, as far as there are any.

        With `version`, only rows that this version answered.
        """
        for first_row, batch in self._reader.read(since_row):
            if until_row is not None:
                batch = batch.slice(0, max(0, until_row - first_row))
            if batch.num_rows == 0:
                return
            rows = np.arange(first_row, first_row + batch.num_rows)
            if version is not None:
                mask = pc.equal(batch.column("version"), version)
                rows, batch = rows[mask.to_numpy(zero_copy_only=False)], batch.filter(mask)
            if batch.num_rows:
                yield rows, batch

    def scores(self, batch: pa.RecordBatch) -> dict[str, npt.NDArray[Any]]:
        """Return the columns that describe the model's answers, such as "scores.confidence".

        None where the log drops what they are derived from.
        """
        if not self.has_scores:
            return {}
        outputs = {name: _to_numpy(batch.column(name)) for name in self.outputs}
        # The kind was written by a server that knows it; score_columns refuses what it does not know.
        return score_columns(outputs, self.kind)  # type: ignore[arg-type]  # a text, checked at run time

    def profile_columns(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return what a training profile describes: the inputs, and the scores of the answers."""
        scores = {name: pa.array(values) for name, values in self.scores(batch).items()}
        inputs = {name: self._input(batch, name) for name in self.inputs if name not in self._masks}
        return pa.record_batch({**inputs, **scores})

    @property
    def has_scores(self) -> bool:
        """Whether the log has the outputs that scores are derived from."""
        # A classifier is judged by one output, any other model by whichever there are.
        return not (self.kind == "classification" and _SCORES in self.dropped)

    @property
    def _masks(self) -> set[str]:
        return {f"{name}_mask" for name in self.inputs} & set(self.inputs)

    def _input(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        # A service logs what it was sent: a value, and beside it whether it stands for anything.
        if f"{name}_mask" not in self._masks:
            return batch.column(name)
        return pc.if_else(batch.column(f"{name}_mask"), batch.column(name), None)


def _to_numpy(array: pa.Array) -> npt.NDArray[Any]:
    if isinstance(array, pa.FixedShapeTensorArray):
        return np.asarray(array.to_numpy_ndarray())
    return np.asarray(array.to_numpy(zero_copy_only=False))

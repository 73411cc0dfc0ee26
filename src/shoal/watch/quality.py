"""How right the model was, by the labels that have come so far; and those labels as new rows to train on."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shoal.base import ConfigError, InputError, Json
from shoal.store import Store
from shoal.watch.labels import opened
from shoal.watch.traffic import Traffic

_Rows = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]

_PREDICTED = "scores.class"
# The normal quantile of a two-sided 95% interval.
_Z = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How many predictions of some rows were right, as far as labels are known.

    Labels that come late are seldom a fair sample of all rows: `num_labelled` of `num_rows` is part of the answer. Rows
    are logged ones: where a service logs a sample of its requests, labels of the others count nowhere.
    """

    rows: range
    num_rows: int
    num_labelled: int
    num_correct: int

    @property
    def accuracy(self) -> float:
        """The share of labelled predictions that were right; NaN without labels."""
        return self.num_correct / self.num_labelled if self.num_labelled else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Where the accuracy lies with 95% confidence if the labelled rows are a fair sample (Wilson 1927)."""
        if self.num_labelled == 0:
            return 0.0, 1.0
        n, share = self.num_labelled, self.accuracy
        middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)


def accuracy(
    log_folder: str | os.PathLike[str],
    *,
    store: Store | None = None,
    window_rows: int | None = None,
    since_row: int = 0,
    until_row: int | None = None,
    version: str | None = None,
) -> list[Quality]:
    """Measure a classifier's accuracy on the rows of its log that have labels by now.

    Args:
        log_folder: of one model, such as `.shoal/predictions/fashion`.
        store: where the labels are; the one that `shoal.store.open()` finds by default.
        window_rows: one result per so many rows, labelled or not, the last perhaps of fewer; None for one in all.
        since_row: the log's row to begin with.
        until_row: the row to stop before; None for all that can be read.
        version: count only what this version answered.

    Returns:
        Results in log order; none where there are no rows.

    Raises:
        InputError: the model is no classifier, or a label is not a class's number.
    """
    if window_rows is not None and window_rows < 1:
        raise ConfigError(f"window_rows={window_rows} must be >= 1", next_step="leave it out for one result in all")
    found: list[Quality] = []
    tally = _Tally()
    for rows, _, labelled, correct in _outcomes(log_folder, store, since_row, until_row, version):
        done = 0
        while done < len(rows):
            part = slice(done, len(rows) if window_rows is None else done + window_rows - tally.num_rows)
            tally.add(rows[part], labelled[part], correct[part])
            done += len(rows[part])
            if tally.num_rows == window_rows:
                found.append(tally.summary())
                tally = _Tally()
    return [*found, tally.summary()] if tally.num_rows else found


def accuracy_by_version(
    log_folder: str | os.PathLike[str],
    *,
    store: Store | None = None,
    since_row: int = 0,
    until_row: int | None = None,
) -> dict[str, Quality]:
    """Measure the accuracy of each version that answered, as `accuracy` does: how a canary compares with production."""
    tallies: dict[str, _Tally] = {}
    for rows, versions, labelled, correct in _outcomes(log_folder, store, since_row, until_row, None):
        for version in sorted(set(versions)):
            chosen = versions == version
            tallies.setdefault(version, _Tally()).add(rows[chosen], labelled[chosen], correct[chosen])
    return {version: tally.summary() for version, tally in tallies.items()}


def labelled_rows(
    log_folder: str | os.PathLike[str],
    *,
    store: Store | None = None,
    since_row: int = 0,
    until_row: int | None = None,
    column: str = "label",
) -> Iterator[pa.RecordBatch]:
    """Yield the logged inputs that have a label by now, with the label in a column beside them: rows to train on.

    The batches fit a dataset of the same columns: `dataset.append(labelled_rows(...))`. The label's type is that of
    the first labels found, and all must have it. Inputs that the log drops are no columns of the rows.

    Raises:
        InputError: labels of different types, such as numbers and texts.
    """
    traffic = Traffic(log_folder)
    label_type: pa.DataType | None = None
    with opened(store) as place:
        for _, batch in traffic.read(since_row, until_row):
            labels = place.labels.get(batch.column("prediction_id").to_pylist())
            ids = [id for id in batch.column("prediction_id").to_pylist() if id in labels]
            if not ids:
                continue
            try:
                values = pa.array([labels[id] for id in ids], type=label_type)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise InputError(
                    f"cannot make a column of the labels of {ids[0]} to {ids[-1]}: {error}",
                    next_step="label them again with values of one type",
                ) from error
            label_type = values.type
            known = batch.filter(pa.array([id in labels for id in batch.column("prediction_id").to_pylist()]))
            yield pa.record_batch({**{name: known.column(name) for name in traffic.inputs}, column: values})


class _Tally:
    """Sums over rows, in bounded memory."""

    def __init__(self) -> None:
        self.first_row = self.last_row = 0
        self.num_rows = self.num_labelled = self.num_correct = 0

    def add(self, rows: _Rows, labelled: _Flags, correct: _Flags) -> None:
        if self.num_rows == 0:
            self.first_row = int(rows[0])
        self.last_row = int(rows[-1])
        self.num_rows += len(rows)
        self.num_labelled += int(labelled.sum())
        self.num_correct += int(correct.sum())

    def summary(self) -> Quality:
        return Quality(
            rows=range(self.first_row, self.last_row + 1),
            num_rows=self.num_rows,
            num_labelled=self.num_labelled,
            num_correct=self.num_correct,
        )


def _outcomes(
    log_folder: str | os.PathLike[str], store: Store | None, since_row: int, until_row: int | None, version: str | None
) -> Iterator[tuple[_Rows, npt.NDArray[np.object_], _Flags, _Flags]]:
    """Yield (row numbers, versions, is labelled, is right) batch by batch."""
    traffic = Traffic(log_folder)
    with opened(store) as place:
        for rows, batch in traffic.read(since_row, until_row, version=version):
            ids = batch.column("prediction_id").to_pylist()
            labels = place.labels.get(ids)
            predicted = traffic.scores(batch).get(_PREDICTED)
            if predicted is None and not traffic.has_scores:
                raise InputError(
                    f"cannot count right answers of {traffic.model!r}: its log drops {', '.join(traffic.dropped)}",
                    next_step="serve with a log_drop that leaves the scores in",
                )
            if predicted is None:
                raise InputError(
                    f"cannot count right answers of {traffic.model!r}: it is a model of kind {traffic.kind!r}",
                    next_step="use this for classifiers; compare other models' outputs with labelled_rows",
                )
            labelled = np.array([id in labels for id in ids], np.bool_)
            correct = [
                id in labels and _class(id, labels[id]) == int(found) for id, found in zip(ids, predicted, strict=True)
            ]
            yield rows, batch.column("version").to_numpy(zero_copy_only=False), labelled, np.array(correct, np.bool_)


def _class(prediction_id: str, value: Json) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise InputError(
        f"cannot compare the label {value!r} of {prediction_id} with a class: expected the class's number",
        next_step="label it again with a whole number",
    )

"""The example rows of an estimator: what it is called with itself, and the same as columns by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError, UnsupportedError

# The one input of an estimator that was fitted on a matrix without column names.
FEATURES = "features"
_NUMBERS = "biuf"


@dataclass(frozen=True, slots=True)
class Column:
    """One input: numbers, truths or texts (as Python objects), the rows first.

    Attributes:
        values: zeros or empty texts where a value is missing.
        present: which rows have a value; None if a missing value was never seen, and then none is taken.
    """

    name: str
    values: NDArray[Any]
    present: NDArray[np.bool_] | None = None

    @property
    def is_text(self) -> bool:
        """Whether it holds texts."""
        return self.values.dtype == object

    @property
    def dtype(self) -> str:
        """The word that a signature has for it."""
        return "string" if self.is_text else self.values.dtype.name


@dataclass(frozen=True, slots=True)
class Example:
    """A few rows in both forms.

    Attributes:
        given: what the estimator's own methods take.
        columns: the same rows, a single matrix or columns of one value per row.
    """

    given: Any
    columns: tuple[Column, ...]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The rows by input name, "<name>_mask" beside each column that may lack values."""
        found: dict[str, NDArray[Any]] = {}
        for column in self.columns:
            found[column.name] = column.values
            if column.present is not None:
                found[f"{column.name}_mask"] = column.present
        return found


def read_example(names: Sequence[str] | None, example: Any, most_rows: int) -> Example:  # noqa: ANN401 - rows of any kind
    """Take rows of an example, among them some that lack a value for each column that ever does.

    Args:
        names: the columns that the estimator was fitted on; None if it was fitted on a matrix.
        example: a pandas or polars data frame, arrays by column name ("<name>_mask" beside one that lacks values), or
            a matrix [rows, features].
        most_rows: how many rows to take.

    Raises:
        InputError: the example has no rows, lacks a column, or is no table.
        UnsupportedError: a column holds neither numbers nor texts.
    """
    if hasattr(example, "columns"):
        return _of_frame(names, example, most_rows)
    if isinstance(example, Mapping):
        return _of_arrays(names, example, most_rows)
    if names is not None:
        raise InputError(
            f"the example is a {type(example).__name__} without column names, and the estimator was fitted on the "
            f"columns {', '.join(names)}",
            next_step="give a data frame with these columns as example",
        )
    return _of_matrix(FEATURES, example, most_rows)


def _of_frame(names: Sequence[str] | None, frame: Any, most_rows: int) -> Example:  # noqa: ANN401 - pandas or polars
    there = [str(name) for name in frame.columns]
    wanted = there if names is None else list(names)
    _check_present(wanted, there)
    _check_rows(len(frame))
    columns = [_column(name, _values(frame[name]), _present(frame[name])) for name in wanted]
    rows = _chosen(columns, len(frame), most_rows)
    # By position: pandas takes a list of numbers in [] for column names.
    given = frame[wanted].iloc[rows] if hasattr(frame, "iloc") else frame[wanted][rows.tolist()]
    return Example(given, tuple(_cut(column, rows) for column in columns))


def _of_arrays(names: Sequence[str] | None, arrays: Mapping[str, Any], most_rows: int) -> Example:
    if names is None:
        matrices = {name: values for name, values in arrays.items() if np.ndim(values) == 2}
        if len(matrices) != 1:
            raise InputError(
                f"the example holds {sorted(arrays)}, and the estimator was fitted on a matrix without column names",
                next_step="give the matrix alone, or fit the estimator on a data frame",
            )
        ((name, matrix),) = matrices.items()
        return _of_matrix(name, matrix, most_rows)
    _check_present(list(names), list(arrays))
    _check_rows(len(arrays[names[0]]))
    columns = []
    for name in names:
        values = np.asarray(arrays[name])
        mask = arrays.get(f"{name}_mask")
        columns.append(_column(name, values, _has_value(values) if mask is None else np.asarray(mask, np.bool_)))
    rows = _chosen(columns, len(columns[0].values), most_rows)
    cut = tuple(_cut(column, rows) for column in columns)
    # Imported here: who has fitted on column names has it.
    import pandas as pd

    return Example(pd.DataFrame({column.name: _with_gaps(column) for column in cut}), cut)


def _of_matrix(name: str, example: Any, most_rows: int) -> Example:  # noqa: ANN401 - an array or lists
    matrix = np.asarray(example)
    if matrix.ndim != 2:
        raise InputError(
            f"the example has the shape {list(matrix.shape)}, expected [rows, features]",
            next_step="give a few rows of what the estimator was fitted on",
        )
    _check_rows(len(matrix))
    rows = matrix[:most_rows]
    if rows.dtype.kind not in _NUMBERS:
        rows = _texts(name, rows)
    return Example(matrix[:most_rows], (Column(name, rows),))


def _check_present(wanted: Sequence[str], there: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in there]:
        raise InputError(
            f"the example lacks the column {missing[0]!r}: it has {', '.join(there)}",
            next_step="give rows with all columns that the estimator was fitted on",
        )


def _check_rows(count: int) -> None:
    if count == 0:
        raise InputError("the example has no rows, expected at least one", next_step="give a few rows of real data")


def _values(series: Any) -> NDArray[Any]:  # noqa: ANN401 - a series of pandas or polars
    if isinstance(series.dtype, np.dtype):
        return np.asarray(series.to_numpy())
    # Their own arrays turn whole numbers with gaps into fractions.
    return np.array([*series.to_list(), None], object)[:-1]


def _present(series: Any) -> NDArray[np.bool_]:  # noqa: ANN401 - as above
    missing = series.isna() if hasattr(series, "isna") else series.is_null()
    present: NDArray[np.bool_] = _has_value(_values(series)) & ~np.asarray(missing.to_numpy(), np.bool_)
    return present


def _has_value(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        there: NDArray[np.bool_] = ~np.isnan(values)
        return there
    if values.dtype.kind != "O":
        return np.ones(len(values), np.bool_)
    # NaN alone differs from itself; pandas' NA refuses to say, and its own word for it is asked before.
    found = [value is not None and not (isinstance(value, float) and value != value) for value in values]
    return np.array(found, np.bool_)


def _column(name: str, values: NDArray[Any], present: NDArray[np.bool_]) -> Column:
    if values.ndim != 1:
        raise UnsupportedError(
            f"cannot package with column {name!r} of shape {list(values.shape)}: expected one value per row",
            next_step="give each part of it a column of its own, or fit on one matrix without column names",
        )
    if values.dtype.kind not in _NUMBERS:
        values = _plain(name, values, present)
    is_full = bool(present.all())
    if not is_full:
        values = values.copy()
        values[~present] = "" if values.dtype == object else 0
    return Column(name, values, None if is_full else present)


def _plain(name: str, values: NDArray[Any], present: NDArray[np.bool_]) -> NDArray[Any]:
    """Objects as an array of numbers or of texts."""
    kinds = {type(value) for value in values[present].tolist()}
    for kinds_of_type, dtype in (({bool}, np.bool_), ({int}, np.int64), ({int, float}, np.float64)):
        if kinds and kinds <= kinds_of_type:
            found = np.zeros(len(values), dtype)
            found[present] = values[present].astype(dtype)
            return found
    found = np.full(len(values), "", object)
    found[present] = _texts(name, values[present])
    return found


def _texts(name: str, values: NDArray[Any]) -> NDArray[Any]:
    flat = values.reshape(-1).tolist()
    if other := next((value for value in flat if not isinstance(value, str)), None):
        raise UnsupportedError(
            f"cannot package with column {name!r}: it holds {other!r}, a {type(other).__name__}; expected numbers or "
            f"texts",
            next_step=f"turn {name!r} into numbers or texts before the estimator is fitted",
        )
    return np.array(flat, object).reshape(values.shape)


def _chosen(columns: Sequence[Column], num_rows: int, most_rows: int) -> NDArray[np.int64]:
    lacking = {int(np.argmin(column.present)) for column in columns if column.present is not None}
    # The rows that show how gaps are treated must be among those that are tried.
    rest = (row for row in range(num_rows) if row not in lacking)
    chosen = sorted(lacking)[:most_rows]
    chosen += [row for row, _ in zip(rest, range(most_rows - len(chosen)), strict=False)]
    return np.array(sorted(chosen), np.int64)


def _cut(column: Column, rows: NDArray[np.int64]) -> Column:
    return Column(column.name, column.values[rows], None if column.present is None else column.present[rows])


def _with_gaps(column: Column) -> NDArray[Any]:
    if column.present is None:
        return column.values
    gap, dtype = (None, object) if column.is_text else (np.nan, np.float64)
    values = column.values.astype(dtype)
    values[~column.present] = gap
    return values

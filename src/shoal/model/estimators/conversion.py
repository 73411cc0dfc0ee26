"""A fitted estimator as a graph that is proved to give what the estimator gives."""

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from shoal.base import ConfigError, InputError, PackageError, ShoalError, UnsupportedError
from shoal.model.estimators.example import Column, Example, read_example
from shoal.model.estimators.wrapping import LABEL, OPSETS, OUTPUT, Classes, Form, wrap
from shoal.model.manifest import SCORES, Kind
from shoal.model.session import Session

_FEATURES = "joined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """An estimator as packages need it.

    Attributes:
        graph: inputs by column name, with masks; outputs `scores` and `label`, or `output`.
        rows: the example, by input name.
        expected: what the estimator itself gives for it, by output name.
        kind: what the outputs mean.
        classes: what each column of `scores` stands for; None for a regression.
        difference: by how much the graph's outputs are off, relative to the larger of 1 and the value.
    """

    graph: onnx.ModelProto
    rows: Mapping[str, NDArray[Any]]
    expected: Mapping[str, NDArray[Any]]
    kind: Kind
    classes: Classes | None
    difference: float


def is_estimator(model: object) -> bool:
    """Whether this is an estimator in scikit-learn's sense, whoever made it."""
    return all(callable(getattr(model, name, None)) for name in ("fit", "predict", "get_params"))


def convert_estimator(
    model: Any,  # noqa: ANN401 - scikit-learn ships no types
    example: Any,  # noqa: ANN401 - rows of any kind
    *,
    kind: Kind | None,
    most_rows: int,
    tolerance: float,
) -> Converted:
    """Convert a fitted estimator or pipeline, in the first of several ways that gives its own outputs.

    Estimators compute with 64-bit numbers, most operators of ONNX with 32-bit ones, and trees compare exactly: so
    graphs of longer numbers are tried first. Fitted on a data frame, each column becomes an input of its own.

    Args:
        model: it has `predict`, and a classifier `predict_proba`.
        example: a data frame, arrays by name, or a matrix.
        kind: what the caller takes it for; None to be told.
        most_rows: of the example, to be tried.
        tolerance: what the outputs may be off.

    Raises:
        ConfigError: it is of another kind.
        InputError: it is not fitted, or the example does not fit it.
        UnsupportedError: it is neither classifier nor regressor, or skl2onnx is not installed.
        PackageError: it cannot be converted, or gives other outputs in ONNX.
    """
    if missing := [name for name in ("sklearn", "skl2onnx") if importlib.util.find_spec(name) is None]:
        raise UnsupportedError(
            f"cannot package a {type(model).__name__}: {' and '.join(missing)} not installed",
            next_step="pip install 'shoal[sklearn]'",
        )
    model = _fitted(model)
    found_kind = _kind_of(model, kind)
    names = getattr(model, "feature_names_in_", None)
    rows = read_example(None if names is None else [str(name) for name in names], example, most_rows)
    expected, classes = _own_outputs(model, rows.given, found_kind)
    graph, difference = _closest(model, rows, expected, classes, tolerance)
    return Converted(
        graph=graph, rows=rows.arrays(), expected=expected, kind=found_kind, classes=classes, difference=difference
    )


def difference_of(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], tolerance: float) -> float:
    """By how much outputs are off at most, relative to the larger of 1 and the value; infinite for another shape.

    A label may differ where the two likeliest classes are within the tolerance of each other.
    """
    worst = 0.0
    for name, wanted in expected.items():
        given = found[name]
        if given.shape != wanted.shape:
            return np.inf
        if name == LABEL:
            scores = np.sort(expected[SCORES], axis=1)
            is_clear = scores[:, -1] - scores[:, -2] > 2 * tolerance
            worst = max(worst, float(np.any((given != wanted) & is_clear)))
        else:
            off = np.abs(given.astype(np.float64) - wanted) / np.maximum(1.0, np.abs(wanted))
            worst = max(worst, float(np.where(np.isnan(off), np.inf, off).max(initial=0.0)))
    return worst


def _fitted(model: Any) -> Any:  # noqa: ANN401 - as above
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError as error:
        raise InputError(
            f"cannot package a {type(model).__name__} that is not fitted", next_step="call its fit(X, y) first"
        ) from error
    # A search over settings answers with the best of its estimators.
    return getattr(model, "best_estimator_", model)


def _kind_of(model: Any, kind: Kind | None) -> Kind:  # noqa: ANN401 - as above
    from sklearn.base import is_classifier, is_regressor

    found: Kind | None = "classification" if is_classifier(model) else "regression" if is_regressor(model) else None
    if found is None:
        raise UnsupportedError(
            f"cannot package a {type(model).__name__}: expected a classifier or a regressor",
            next_step="package the pipeline that ends in one; what only transforms can be a step before it",
        )
    if kind not in (None, found):
        raise ConfigError(
            f"kind={kind!r} is not what a {type(model).__name__} is: expected {found!r}", next_step="leave kind out"
        )
    if found == "classification" and not hasattr(model, "predict_proba"):
        raise UnsupportedError(
            f"cannot package a {type(model).__name__}: it gives no probabilities",
            next_step="fit sklearn.calibration.CalibratedClassifierCV around it, which does",
        )
    return found


def _own_outputs(model: Any, given: Any, kind: Kind) -> tuple[dict[str, NDArray[Any]], Classes | None]:  # noqa: ANN401
    try:
        predicted = np.asarray(model.predict(given))
        if kind == "regression":
            # One column or none at all: both mean one number per row.
            flat = predicted[:, 0] if predicted.ndim > 1 and predicted.shape[1] == 1 else predicted
            return {OUTPUT: flat.astype(np.float64)}, None
        scores = model.predict_proba(given)
    except ShoalError:
        raise
    except Exception as error:  # the boundary to the estimator, which raises kinds of its own
        raise InputError(
            f"a {type(model).__name__} does not take the example: {error}",
            next_step="give a few rows in the form in which it was fitted",
        ) from error
    if predicted.ndim != 1 or not isinstance(scores, np.ndarray):
        raise UnsupportedError(
            f"cannot package a {type(model).__name__} with several labels per row, expected one",
            next_step="package one classifier per label",
        )
    classes = np.asarray(model.classes_)
    if classes.dtype.kind in "biu":
        return {SCORES: scores.astype(np.float32), LABEL: predicted.astype(np.int64)}, tuple(map(int, classes))
    if all(isinstance(each, str) for each in classes.tolist()):
        return {SCORES: scores.astype(np.float32), LABEL: predicted.astype(object)}, tuple(map(str, classes))
    raise UnsupportedError(
        f"cannot package a {type(model).__name__} with the classes {classes.tolist()[:4]}: expected whole numbers or "
        f"texts",
        next_step="turn the labels into whole numbers or texts, and fit it again",
    )


def _closest(
    model: Any,  # noqa: ANN401 - as above
    rows: Example,
    expected: Mapping[str, NDArray[Any]],
    classes: Classes | None,
    tolerance: float,
) -> tuple[onnx.ModelProto, float]:
    least, failure = np.inf, ""
    labels_by_score = classes is not None and _labels_by_score(expected, classes)
    for form in _forms(model, rows.columns):
        try:
            converted = _convert(model, rows.columns, form, is_classifier=classes is not None)
            graph = _loadable(wrap(converted, rows.columns, form, classes, labels_by_score=labels_by_score))
            difference = difference_of(Session(graph.SerializeToString()).run(_fed(rows, graph)), expected, tolerance)
        except UnsupportedError:
            raise
        except Exception as error:  # noqa: BLE001  # the boundary to skl2onnx, which raises kinds of its own
            failure = failure or " ".join(str(error).split())[:300]
            continue
        if difference <= tolerance:
            return graph, difference
        least = min(least, difference)
    if least < np.inf:
        raise PackageError(
            f"cannot package a {type(model).__name__}: in ONNX its outputs are off by {least:.3g}, expected at most "
            f"{tolerance:g}",
            next_step="find the step that ONNX computes otherwise by packaging the pipeline without it",
        )
    raise PackageError(
        f"cannot convert a {type(model).__name__} to ONNX: {failure or 'its outputs have another shape there'}",
        next_step="replace the step that is named, or serve the estimator in a Python class with predict(batch)",
    )


def _forms(model: Any, columns: Sequence[Column]) -> list[Form]:  # noqa: ANN401 - as above
    from sklearn.compose import ColumnTransformer

    from shoal.model.estimators.converters import parts_of

    by_column = any(isinstance(part, ColumnTransformer) for part in parts_of(model))
    # A matrix of its own is passed on as it is.
    matrix = None if by_column or columns[0].values.ndim > 1 else _FEATURES
    whole = [False, True] if any(column.values.dtype.kind in "biu" for column in columns) else [False]
    return [
        Form(numbers=numbers, keeps_integers=keeps, matrix=matrix)
        for keeps in whole
        for numbers in (TensorProto.DOUBLE, TensorProto.FLOAT)
    ]


def _convert(model: Any, columns: Sequence[Column], form: Form, *, is_classifier: bool) -> onnx.ModelProto:  # noqa: ANN401
    from skl2onnx import convert_sklearn

    from shoal.model.estimators.converters import converters, prepared_for_conversion, shape_calculators

    copied = prepared_for_conversion(model)
    with warnings.catch_warnings():
        # They speak of versions and of types, and what comes out is checked number by number.
        warnings.simplefilter("ignore")
        graph: onnx.ModelProto = convert_sklearn(
            copied,
            initial_types=_initial_types(columns, form),
            target_opset=OPSETS,
            options={id(copied): {"zipmap": False}} if is_classifier else None,
            custom_conversion_functions=converters(),
            custom_shape_calculators=shape_calculators(),
        )
    return graph


def _labels_by_score(expected: Mapping[str, NDArray[Any]], classes: Classes) -> bool:
    likeliest = np.array(classes)[expected[SCORES].argmax(axis=1)]
    return bool(np.all(likeliest == expected[LABEL]))


def _loadable(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph, its number output declared as what its operators give: trees give 32-bit numbers for 64-bit ones."""
    try:
        Session(graph.SerializeToString())
    except PackageError:
        (numbers,) = [each for each in graph.graph.output if each.name in (SCORES, OUTPUT)]
        if numbers.type.tensor_type.elem_type != TensorProto.DOUBLE:
            raise
        numbers.type.tensor_type.elem_type = TensorProto.FLOAT
    return graph


def _initial_types(columns: Sequence[Column], form: Form) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

    types = {
        int(TensorProto.DOUBLE): DoubleTensorType,
        int(TensorProto.FLOAT): FloatTensorType,
        int(TensorProto.INT64): Int64TensorType,
        int(TensorProto.STRING): StringTensorType,
    }
    if form.matrix:
        if text := next((column.name for column in columns if column.is_text), None):
            raise UnsupportedError(
                f"column {text!r} holds texts, and no ColumnTransformer says what becomes of it",
                next_step="put a ColumnTransformer with an encoder for it at the beginning of a Pipeline",
            )
        return [(form.matrix, types[form.numbers]([None, len(columns)]))]
    return [
        (column.name, types[form.element_type(column)]([None, *(column.values.shape[1:] or (1,))]))
        for column in columns
    ]


def _fed(rows: Example, graph: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    taken = {value.name for value in graph.graph.input}
    return {name: values for name, values in rows.arrays().items() if name in taken}

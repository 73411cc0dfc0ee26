"""Converters where those of skl2onnx would give other numbers than the estimator, or none."""

import copy
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper
from skl2onnx import update_registered_converter
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._registration import get_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from skl2onnx.operator_converters.common import concatenate_variables
from sklearn import ensemble, tree
from sklearn.base import BaseEstimator
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from shoal.base import UnsupportedError
from shoal.model.estimators.wrapping import NO_TEXT, OPSETS

Converter = Callable[[Any, Any, Any], None]

# They turn rows into 32-bit numbers before they compare them: a graph that compares longer ones goes other ways.
_COMPARE_FLOATS = (
    *(tree.DecisionTreeClassifier, tree.DecisionTreeRegressor, tree.ExtraTreeClassifier, tree.ExtraTreeRegressor),
    *(ensemble.RandomForestClassifier, ensemble.RandomForestRegressor),
    *(ensemble.ExtraTreesClassifier, ensemble.ExtraTreesRegressor),
    *(ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor),
)
_COMPARE_DOUBLES = (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor)

_NUMBERS_OF_TREES = {"base_values", "class_weights", "nodes_hitrates", "nodes_values", "target_weights"}


def converters() -> dict[type, Converter]:
    """The converters to be used in place of skl2onnx's own, by the type that they convert."""
    return {
        SimpleImputer: _convert_imputer,
        **{kind: _exact_trees(_known(kind), rounds=True) for kind in _COMPARE_FLOATS},
        **{kind: _exact_trees(_known(kind), rounds=False) for kind in _COMPARE_DOUBLES},
    }


def shape_calculators() -> dict[type, Callable[[Any], None]]:
    """What tells the shape of the outputs of those converters that differ in it."""
    return {SimpleImputer: _shape_of_imputer}


def parts_of(model: object) -> Iterator[BaseEstimator]:
    """The estimator and all estimators in it, at any depth."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, BaseEstimator):
            yield part
            waiting += vars(part).values()
        elif isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()


def prepared_for_conversion(model: object) -> Any:  # noqa: ANN401 - the same kind of estimator
    """A copy whose missing categories are those that our graphs feed, with the converters of its boosters at hand.

    Raises:
        UnsupportedError: the packages that convert a booster are not installed, or it treats categories itself.
    """
    model = copy.deepcopy(model)
    for part in parts_of(model):
        library = type(part).__module__.partition(".")[0]
        if library in ("lightgbm", "xgboost"):
            _register_booster(type(part), library)
            _forget_names(part, library)
        elif isinstance(part, OneHotEncoder) and hasattr(part, "categories_"):
            part.categories_ = [_without_gaps(kinds) for kinds in part.categories_]
    return model


def _without_gaps(categories: Any) -> Any:  # noqa: ANN401 - scikit-learn ships no types
    if categories.dtype != object or not any(isinstance(kind, str) for kind in categories):
        return categories
    return np.array([kind if isinstance(kind, str) else NO_TEXT for kind in categories], object)


def _register_booster(kind: type, library: str) -> None:
    if importlib.util.find_spec("onnxmltools") is None:
        raise UnsupportedError(
            f"cannot package a {kind.__name__}: onnxmltools is not installed",
            next_step="pip install 'shoal[sklearn,boosting]'",
        )
    if library == "lightgbm":
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm as convert
    else:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as convert
    is_classifier = hasattr(kind, "predict_proba")
    update_registered_converter(
        kind,
        f"Shoal{kind.__name__}",
        calculate_linear_classifier_output_shapes if is_classifier else calculate_linear_regressor_output_shapes,
        _with_float_input(convert),
        options={"zipmap": [True, False, "columns"], "nocl": [True, False]} if is_classifier else {"split": None},
    )


def _forget_names(booster: Any, library: str) -> None:  # noqa: ANN401 - of either library
    if library == "xgboost":
        # Its converter finds features by number alone.
        booster.get_booster().feature_names = None
    elif getattr(booster.booster_, "pandas_categorical", None):
        raise UnsupportedError(
            f"cannot package a {type(booster).__name__} that was fitted on columns of pandas' type category",
            next_step="encode them in a ColumnTransformer before it, such as with OrdinalEncoder",
        )


def _known(kind: type) -> Converter:
    found: Converter = get_converter(sklearn_operator_name_map[kind])
    if "op_version" in signature(getattr(found, "_fct", found)).parameters:
        # Its default is of the time before 64-bit thresholds, and rounds them.
        return partial(getattr(found, "_fct", found), op_version=OPSETS["ai.onnx.ml"])
    return found


def _with_float_input(convert: Converter) -> Converter:
    """Compare 32-bit numbers with 32-bit thresholds, as a booster does."""

    def convert_with_floats(scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401 - skl2onnx's, untyped
        given = operator.inputs[0]
        if isinstance(given.type, DoubleTensorType):
            floats = _cast(scope, container, given, FloatTensorType)
            operator = _Fed(operator, floats)
        convert(scope, operator, container)

    return convert_with_floats


def _exact_trees(convert: Converter, *, rounds: bool) -> Converter:
    """Keep the 64-bit thresholds that scikit-learn compares with; `rounds` what it rounds before."""

    def convert_exactly(scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401 - as above
        given = operator.inputs[0]
        is_exact = isinstance(given.type, DoubleTensorType)
        if is_exact and rounds:
            rounded = _cast(scope, container, given, FloatTensorType)
            operator = _Fed(operator, _cast(scope, container, rounded, DoubleTensorType))
        convert(scope, operator, _Plain(container, is_exact=is_exact))

    return convert_exactly


def _cast(scope: Any, container: Any, variable: Any, kind: type) -> Any:  # noqa: ANN401 - as above
    made = scope.declare_local_variable("cast", kind(list(variable.type.shape)))
    to = TensorProto.FLOAT if kind is FloatTensorType else TensorProto.DOUBLE
    _add(scope, container, "Cast", [variable.full_name], made.full_name, to=to)
    return made


class _Fed:
    """An operator with another input."""

    def __init__(self, operator: Any, variable: Any) -> None:  # noqa: ANN401 - as above
        self._operator = operator
        self.inputs = [variable]
        self.input_full_names = [variable.full_name]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the operator has
        return getattr(self._operator, name)


class _Plain:
    """A container whose nodes hold numbers of Python: protobuf takes no truths and no numbers of NumPy for them."""

    def __init__(self, container: Any, *, is_exact: bool) -> None:  # noqa: ANN401 - as above
        self._container = container
        self._is_exact = is_exact

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the container has
        return getattr(self._container, name)

    def add_node(self, kind: str, *arguments: Any, **attributes: Any) -> None:  # noqa: ANN401 - as above
        attributes = {name: _plain(values) for name, values in attributes.items()}
        if self._is_exact and kind.startswith("TreeEnsemble"):
            # Plain attributes are 32-bit: a row that lies on a threshold would go the other way.
            for name in _NUMBERS_OF_TREES & attributes.keys():
                values = np.array(attributes.pop(name), np.float64)
                attributes[f"{name}_as_tensor"] = numpy_helper.from_array(values, name)
        self._container.add_node(kind, *arguments, **attributes)


def _plain(values: Any) -> Any:  # noqa: ANN401 - whatever an attribute may be
    if not isinstance(values, list):
        return values
    return [int(value) if isinstance(value, bool | np.bool_ | np.integer) else value for value in values]


def _shape_of_imputer(operator: Any) -> None:  # noqa: ANN401 - as above
    kind = type(operator.inputs[0].type)
    operator.outputs[0].type = kind([None, sum(each.type.shape[1] for each in operator.inputs)])


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401 - as above
    """Fill gaps with plain operators: the one that ONNX has for it takes no 64-bit numbers and no texts."""
    imputer = operator.raw_operator
    fills = imputer.statistics_
    is_text = isinstance(operator.inputs[0].type, StringTensorType)
    if imputer.add_indicator or (not is_text and np.isnan(fills.astype(np.float64)).any()):
        raise UnsupportedError(
            "cannot package a SimpleImputer with add_indicator, or one that met a column without any value",
            next_step="leave add_indicator out, or drop the empty column",
        )
    values = concatenate_variables(scope, operator.inputs, container)
    values = values if isinstance(values, str) else values[0]
    filling, gaps = scope.get_unique_variable_name("fills"), scope.get_unique_variable_name("gaps")
    if is_text:
        container.add_initializer(filling, TensorProto.STRING, [1, len(fills)], [str(fill).encode() for fill in fills])
        found = scope.get_unique_variable_name("found")
        _add(scope, container, "LabelEncoder", [values], found, op_domain="ai.onnx.ml", op_version=2,
             keys_strings=[NO_TEXT], values_int64s=[1], default_int64=0)  # fmt: skip
        _add(scope, container, "Cast", [found], gaps, to=TensorProto.BOOL)
    else:
        kind = TensorProto.DOUBLE if isinstance(operator.inputs[0].type, DoubleTensorType) else TensorProto.FLOAT
        container.add_initializer(filling, kind, [1, len(fills)], [float(fill) for fill in fills])
        _add(scope, container, "IsNaN", [values], gaps)
    _add(scope, container, "Where", [gaps, filling, values], operator.outputs[0].full_name)


def _add(scope: Any, container: Any, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:  # noqa: ANN401
    container.add_node(kind, inputs, [output], name=scope.get_unique_operator_name(kind), **attributes)

"""One graph of two: the preparation of raw rows before the model that takes prepared ones."""

from typing import TYPE_CHECKING

import onnx
from onnx import compose

from shoal.base import PackageError, SchemaError

if TYPE_CHECKING:
    from shoal.data import FittedPreparation

_PREPARED, _INNER = "prepared.", "model."


def with_preparation(model: onnx.ModelProto, preparation: "FittedPreparation") -> onnx.ModelProto:
    """Return a graph that takes raw rows; the model's inputs bear the names of prepared columns, its outputs stay.

    Only what the model takes is prepared. Both graphs keep their nodes as they are.

    Raises:
        PackageError: the model takes a column that the preparation does not give, or in another type.
    """
    names = [value.name for value in model.graph.input if value.name not in _given(model)]
    try:
        part = preparation.select(names)
    except SchemaError as error:
        raise PackageError(
            f"cannot put the preparation before the model: {error.message}",
            next_step="name the model's inputs as the prepared columns are called, or pass the columns that it takes",
        ) from error
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    before = part.to_onnx(opset=opset, ir_version=model.ir_version)
    _check_types(before, model)
    # The model's own names could be those of raw columns; only its outputs keep theirs.
    inner = compose.add_prefix(model, _INNER, rename_outputs=False)
    joined: onnx.ModelProto = compose.merge_models(
        before, inner, io_map=[(f"{_PREPARED}{name}", f"{_INNER}{name}") for name in names]
    )
    joined.producer_name, joined.producer_version = model.producer_name, model.producer_version
    return joined


def _check_types(before: onnx.ModelProto, model: onnx.ModelProto) -> None:
    given = {value.name: value.type.tensor_type.elem_type for value in before.graph.output}
    for value in model.graph.input:
        found = given.get(f"{_PREPARED}{value.name}")
        if found is not None and found != (wanted := value.type.tensor_type.elem_type):
            word = onnx.helper.tensor_dtype_to_string
            raise PackageError(
                f"the model takes {value.name!r} as {word(wanted)}, and the preparation gives {word(found)}",
                next_step=f"put a Cast at the end of {value.name!r}'s operators, or export the model for that type",
            )


def _given(model: onnx.ModelProto) -> set[str]:
    """Return the inputs that have a value in the file itself, as old exporters list their weights."""
    return {tensor.name for tensor in model.graph.initializer}

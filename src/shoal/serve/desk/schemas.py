"""JSON Schemas of what requests and answers hold, made from a model's interface.

A schema here may take more than the server does, where JSON Schema has no words for it (as many values as the shape
says); it never forbids what the server takes.
"""

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.plain import PlainField, PlainForm
from shoal.serve.wire.urgency import LOWEST_LEVEL, MOST_TIMEOUT_US

JsonSchema: TypeAlias = dict[str, Any]

ANYTHING: JsonSchema = {"type": "object"}
TEXT: JsonSchema = {"type": "string"}
REFUSAL: JsonSchema = {
    "type": "object",
    "required": ["error", "status", "next"],
    "properties": dict.fromkeys(("error", "status", "field", "found", "expected", "next"), TEXT),
}
READY: JsonSchema = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]}
PRIORITY: JsonSchema = {"type": "integer", "minimum": 0, "maximum": LOWEST_LEVEL}
TIMEOUT_US: JsonSchema = {"type": "integer", "minimum": 0, "maximum": MOST_TIMEOUT_US}
# Extensions of other servers: what would change the answer is refused, and saying that it is off is not.
_OFF: JsonSchema = {"enum": [None, False, 0, "", [], {}]}
_UNSET: JsonSchema = {"type": "null"}


def value_schema(field: TensorField, *, is_nullable: bool = False) -> JsonSchema:
    """The schema of a single value of a tensor."""
    kind = field.type
    if kind.family is bool:
        found: JsonSchema = {"type": "boolean"}
    elif kind.family is str:
        found = {"type": "string", "pattern": r"^[^\u0000]*$"}
    elif kind.family is float:
        found = {"type": "number", **_float_limits(kind.dtype)}
    else:
        limits = np.iinfo(kind.dtype)
        found = {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    if is_nullable:
        found["type"] = [found["type"], "null"]
    return found


def row_schema(form: PlainForm) -> JsonSchema:
    """The schema of one row of plain JSON."""
    return {
        "type": "object",
        "properties": {field.name: _field_schema(field) for field in form.fields},
        "required": [field.name for field in form.fields],
        "additionalProperties": False,
    }


def plain_body(form: PlainForm) -> JsonSchema:
    """The schema of a request in plain JSON: a row, or several where there can be."""
    row = row_schema(form)
    if not form.takes_list:
        return row
    most = {} if form.interface.batched else {"maxItems": 1}
    several = {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": row, "minItems": 1, **most}},
        "required": ["rows"],
        "additionalProperties": False,
    }
    return {"oneOf": [row, several]}


def plain_answer(form: PlainForm) -> JsonSchema:
    """The schema of an answer in plain JSON, in the form of its request."""
    outputs = {
        name: _nested(value_schema(field), field.shape[1:] if form.has_rows else field.shape)
        for name, field in zip(form.output_names, form.interface.outputs, strict=True)
    }
    answer = _object({**dict.fromkeys(("prediction_id", "model", "version"), TEXT), **outputs})
    return {"oneOf": [answer, {"type": "array", "items": answer}]} if form.takes_list else answer


def infer_body(interface: Interface) -> JsonSchema:
    """The schema of a request of the Open Inference Protocol whose tensors are all in its JSON."""
    inputs = interface.inputs
    parameters = {
        "binary_data_output": {"type": "boolean"},
        "priority": PRIORITY,
        "timeout": {**TIMEOUT_US, "description": "Microseconds."},
        "sequence_id": _OFF,
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"]},
            "inputs": {
                "type": "array",
                "items": {"oneOf": [_input(field) for field in inputs]},
                "minItems": len(inputs),
                "maxItems": len(inputs),
            },
            "outputs": {
                "type": ["array", "null"],
                "items": _wish(interface),
                "maxItems": len(interface.outputs),
                "description": "Which outputs, in which order; left out, all of them.",
            },
            "parameters": {"type": ["object", "null"], "properties": parameters},
        },
        "required": ["inputs"],
    }


def infer_answer(interface: Interface) -> JsonSchema:
    """The schema of an answer of the Open Inference Protocol; binary tensors follow where they were asked for."""
    sizes = _object({"binary_data_size": {"type": "integer", "minimum": 0}})
    outputs = [
        {
            "type": "object",
            "properties": {
                "name": {"const": field.name},
                "datatype": {"const": field.datatype},
                # Not each size by itself: several tools read such lists in requests alone.
                "shape": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0},
                    "minItems": len(field.shape),
                    "maxItems": len(field.shape),
                },
                "data": {"type": "array", "items": value_schema(field)},
                "parameters": sizes,
            },
            "required": ["name", "datatype", "shape"],
            "oneOf": [{"required": ["data"]}, {"required": ["parameters"]}],
        }
        for field in interface.outputs
    ]
    return _object(
        {
            "model_name": TEXT,
            "model_version": TEXT,
            "id": TEXT,
            "parameters": _object({"prediction_id": TEXT}),
            "outputs": {"type": "array", "items": {"oneOf": outputs}} if outputs else {"type": "array"},
        }
    )


def _object(properties: dict[str, Any]) -> JsonSchema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _float_limits(dtype: np.dtype[Any]) -> JsonSchema:
    limits = np.finfo(dtype)
    largest, one_less = float(limits.max), float(np.nextafter(limits.max, dtype.type(0)))
    # What lies closer to the largest number than to the next one, which is not there, is rounded to it.
    beyond = largest + (largest - one_less) / 2
    if not math.isfinite(beyond):
        return {"minimum": -largest, "maximum": largest}
    return {"exclusiveMinimum": -beyond, "exclusiveMaximum": beyond}


def _nested(inner: JsonSchema, shape: Iterable[int | None]) -> JsonSchema:
    for size in reversed(tuple(shape)):
        bounds = {"minItems": 1} if size is None else {"minItems": size, "maxItems": size}
        inner = {"type": "array", "items": inner, **bounds}
    return inner


def _field_schema(field: PlainField) -> JsonSchema:
    if not field.is_nullable or not field.shape:
        return _nested(value_schema(field.tensor, is_nullable=field.is_nullable), field.shape)
    found = _nested(value_schema(field.tensor), field.shape)
    return {**found, "type": ["array", "null"]}


def _input(field: TensorField) -> JsonSchema:
    value = value_schema(field)
    least = math.prod(size or 1 for size in field.shape)
    most = {} if None in field.shape else {"maxItems": least}
    flat = {"type": "array", "items": value, "minItems": least, **most}
    is_deep = len(field.shape) > 1
    return {
        "type": "object",
        "properties": {
            "name": {"const": field.name},
            "datatype": {"const": field.datatype},
            "shape": _shape(field),
            "data": {
                **({"anyOf": [flat, _nested(value, field.shape)]} if is_deep else flat),
                "description": f"Flat{', or nested as the shape' * is_deep}: {field.type.values}.",
            },
            "parameters": {"type": ["object", "null"], "properties": {"binary_data_size": _UNSET}},
        },
        "required": ["name", "datatype", "shape", "data"],
    }


def _shape(field: TensorField) -> JsonSchema:
    if None not in field.shape:
        return {"const": list(field.shape)}
    sizes = [{"type": "integer", "minimum": 1} if size is None else {"const": size} for size in field.shape]
    return {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)}


def _wish(interface: Interface) -> JsonSchema:
    parameters = {"binary_data": {"type": "boolean"}, "classification": _OFF, "shared_memory_region": _OFF}
    return {
        "type": "object",
        "properties": {
            "name": {"enum": [field.name for field in interface.outputs]},
            "parameters": {"type": ["object", "null"], "properties": parameters},
        },
        "required": ["name"],
    }

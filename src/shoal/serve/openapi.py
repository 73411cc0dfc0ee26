"""The OpenAPI document of what is served now, made from the models' interfaces."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import numpy as np

import shoal
from shoal.serve.images import PICTURES, ImageInput, describe
from shoal.serve.interface import TensorField
from shoal.serve.models import Models, ServedVersion
from shoal.serve.plain import PlainField, PlainForm
from shoal.serve.predicting import Predicting, predicting_for

_OPENAPI = "3.1.0"
_REFUSALS = {
    400: "The request is malformed: the body names the field, what was found and what was expected.",
    401: "The key is missing or wrong.",
    404: "There is no such model or version.",
    405: "The path takes another method.",
    408: "The request did not end in time.",
    413: "The body is too large.",
    415: "The body's type or encoding is not taken.",
    422: "The model cannot run these values, or its outputs are not finite numbers.",
    431: "The headers are too large.",
    503: "The server is busy, loading or stopping; Retry-After says when to come back.",
}
_REFUSAL = {
    "type": "object",
    "required": ["error", "status", "next"],
    "properties": {name: {"type": "string"} for name in ("error", "status", "field", "found", "expected", "next")},
}
_ANY = {"type": "object"}


def document(models: Models, *, has_key: bool) -> dict[str, Any]:
    """The document.

    Args:
        models: what is served; models that are still being loaded are not in it.
        has_key: whether requests need the key.
    """
    paths: dict[str, Any] = dict(_of_server())
    # What is asked for without a name is the model that the server was started with.
    for number, (model, served) in enumerate(main_versions(models)):
        if number == 0:
            paths["/predict"] = _predict(served, "predict", [])
        paths |= _of_model(model, served, models.versions_of(model))
    found: dict[str, Any] = {
        "openapi": _OPENAPI,
        "info": {
            "title": "shoal",
            "version": shoal.__version__,
            "description": "Predictions over HTTP: plain JSON, pictures, and the Open Inference Protocol v2.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": {"Refusal": _REFUSAL}},
    }
    if has_key:
        found["components"]["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        found["security"] = [{"key": []}, {"bearer": []}]
    return found


def main_versions(models: Models) -> Iterable[tuple[str, ServedVersion]]:
    """Each model with the version that answers most of its requests, in the order of the plan."""
    for model in models.plan:
        shares = models.shares.get(model)
        served = None if shares is None else models.find(model, shares.main)
        if served is not None:
            yield model, served


def value_schema(field: TensorField, *, is_nullable: bool = False) -> dict[str, Any]:
    """The schema of a single value of a tensor."""
    kind = field.type
    if kind.family is bool:
        found: dict[str, Any] = {"type": "boolean"}
    elif kind.family is str:
        found = {"type": "string", "pattern": r"^[^\u0000]*$"}
    else:
        limits: Any = np.finfo(kind.dtype) if kind.family is float else np.iinfo(kind.dtype)
        number: type = float if kind.family is float else int
        found = {
            "type": "number" if kind.family is float else "integer",
            "minimum": number(limits.min),
            "maximum": number(limits.max),
        }
    if is_nullable:
        found["type"] = [found["type"], "null"]
    return found


def _nested(inner: dict[str, Any], shape: Iterable[int | None]) -> dict[str, Any]:
    for size in reversed(tuple(shape)):
        bounds = {"minItems": 1} if size is None else {"minItems": size, "maxItems": size}
        inner = {"type": "array", "items": inner, **bounds}
    return inner


def _field_schema(field: PlainField) -> dict[str, Any]:
    if field.mask is None or not field.shape:
        return _nested(value_schema(field.tensor, is_nullable=field.mask is not None), field.shape)
    found = _nested(value_schema(field.tensor), field.shape)
    return {**found, "type": ["array", "null"]}


def _row_schema(form: PlainForm) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: _field_schema(field) for field in form.fields},
        "required": [field.name for field in form.fields],
        "additionalProperties": False,
    }


def _answer_schema(form: PlainForm) -> dict[str, Any]:
    about: dict[str, Any] = {name: {"type": "string"} for name in ("prediction_id", "model", "version")}
    outputs = {
        name: _nested(value_schema(field), field.shape[1:] if form.has_rows else field.shape)
        for name, field in zip(form.output_names, form.interface.outputs, strict=True)
    }
    return {"type": "object", "properties": {**about, **outputs}, "required": [*about, *outputs]}


def _predict(served: ServedVersion, operation: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    reads = predicting_for(served.interface)
    row = _row_schema(reads.form)
    body: dict[str, Any] = row
    if reads.form.takes_list:
        most = {} if reads.form.interface.batched else {"maxItems": 1}
        rows = {"type": "array", "items": row, "minItems": 1, **most}
        several = {
            "type": "object",
            "properties": {"rows": rows},
            "required": ["rows"],
            "additionalProperties": False,
        }
        body = {"oneOf": [row, several]}
    answer = _answer_schema(reads.form)
    both = {"oneOf": [answer, {"type": "array", "items": answer}]} if reads.form.takes_list else answer
    content: dict[str, Any] = {"application/json": {"schema": body, "example": reads.form.example()}}
    if reads.image is not None:
        content |= _pictures(reads)
        parameters = [*parameters, *_picture_parameters(reads.image)]
    return {
        "post": _operation(
            operation,
            f"Predict with {served.key.model}: named fields in, named outputs out.",
            both,
            parameters,
            body=content,
        )
    }


def _pictures(reads: Predicting) -> dict[str, Any]:
    assert reads.image is not None
    what = describe(reads.image)
    file = {"type": "string", "format": "binary", "description": what}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    return {
        **{kind: {"schema": {"type": "string", "format": "binary", "description": what}} for kind in PICTURES},
        "multipart/form-data": {"schema": form},
    }


def _picture_parameters(image: ImageInput) -> list[dict[str, Any]]:
    found = [
        {
            "name": "resize",
            "in": "query",
            "description": "With a picture: whether to stretch or shrink it to the model's size.",
            "schema": {"type": "boolean", "default": False},
        }
    ]
    if image.is_float:
        found.append(
            {
                "name": "white",
                "in": "query",
                "description": "With a picture, and needed then: the number that a white pixel is in the float input.",
                "schema": {"type": "integer", "enum": [1, 255]},
            }
        )
    return found


def _infer(served: ServedVersion, operation: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    inputs = [
        {
            "type": "object",
            "properties": {
                "name": {"const": field.name},
                "datatype": {"const": field.datatype},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "data": {"type": "array", "description": f"Flat, or nested as the shape: {field.type.values}."},
                "parameters": _ANY,
            },
            "required": ["name", "datatype", "shape"],
        }
        for field in served.interface.inputs
    ]
    body = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "inputs": {
                "type": "array",
                "items": {"oneOf": inputs},
                "minItems": len(inputs),
                "maxItems": len(inputs),
            },
            "outputs": {"type": "array", "items": _ANY},
            "parameters": _ANY,
        },
        "required": ["inputs"],
    }
    answer = {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": _ANY,
            "outputs": {"type": "array", "items": _ANY},
        },
        "required": ["model_name", "model_version", "id", "outputs"],
    }
    text = f"Predict with {served.key.model}, as the Open Inference Protocol v2 has it; binary tensors may follow."
    return {"post": _operation(operation, text, answer, parameters, body={"application/json": {"schema": body}})}


def _of_model(model: str, served: ServedVersion, versions: list[str]) -> dict[str, Any]:
    root = f"/v2/models/{quote(model, safe='')}"
    version = {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": versions},
    }
    found: dict[str, Any] = {}
    for path, name, parameters in ((root, model, []), (f"{root}/versions/{{version}}", f"{model}_version", [version])):
        found[f"{path}/predict"] = _predict(served, f"predict_{name}", parameters)
        found[f"{path}/infer"] = _infer(served, f"infer_{name}", parameters)
        for suffix, text in (
            ("", "Names, datatypes and shapes of inputs and outputs."),
            ("/ready", "Whether it can be asked now."),
            ("/config", "The configuration, in Triton's words."),
            ("/stats", "Counts and times, in Triton's words."),
        ):
            operation = f"get_{name}_{suffix.strip('/') or 'metadata'}"
            found[f"{path}{suffix}"] = {"get": _operation(operation, text, _ANY, parameters)}
    return found


def _of_server() -> Iterable[tuple[str, dict[str, Any]]]:
    for path, text in (
        ("/v2", "Name, version and extensions of the server."),
        ("/v2/health/live", "Whether the server runs."),
        ("/v2/health/ready", "Whether every model can be asked now."),
        ("/v2/models/stats", "Counts and times of every version, in Triton's words."),
        ("/status", "What is served and how it goes, for people."),
    ):
        yield path, {"get": _operation(f"get_{path.strip('/').replace('/', '_')}", text, _ANY, [])}
    listed = {"type": "array", "items": _ANY}
    only_ready = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "additionalProperties": False}
    body = {"application/json": {"schema": only_ready}}
    yield (
        "/v2/repository/index",
        {"post": _operation("list_models", "Every model and version.", listed, [], body=body, is_optional=True)},
    )


def _operation(
    operation: str,
    summary: str,
    answer: dict[str, Any],
    parameters: list[dict[str, Any]],
    *,
    body: dict[str, Any] | None = None,
    is_optional: bool = False,
) -> dict[str, Any]:
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    found: dict[str, Any] = {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {"description": "The answer.", "content": {"application/json": {"schema": answer}}},
            **{str(status): {"description": text, "content": refusal} for status, text in _REFUSALS.items()},
        },
    }
    if parameters:
        found["parameters"] = parameters
    if body is not None:
        found["requestBody"] = {"required": not is_optional, "content": body}
    return found

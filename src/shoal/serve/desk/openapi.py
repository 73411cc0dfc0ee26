"""The OpenAPI document of what is served now, made from the models' interfaces."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import shoal
from shoal.serve.desk.schemas import (
    ANYTHING,
    PRIORITY,
    READY,
    REFUSAL,
    TEXT,
    TIMEOUT_US,
    JsonSchema,
    infer_answer,
    infer_body,
    plain_answer,
    plain_body,
)
from shoal.serve.versions.models import Models, ServedVersion
from shoal.serve.wire.images import PICTURES, ImageInput, describe
from shoal.serve.wire.predicting import predicting_for

_OPENAPI = "3.1.0"
_JSON, _BINARY = "application/json", "application/octet-stream"
_ALWAYS = {
    400: "The request is malformed: the body names the field, what was found and what was expected.",
    401: "The key is missing or wrong.",
    405: "The path takes another method.",
    408: "The request did not end in time.",
    413: "The body is too large.",
    415: "The body's type or encoding is not taken.",
    431: "The headers are too large.",
    503: "The server is busy, loading or stopping; Retry-After says when to come back.",
}
_OF_A_MODEL = {404: "There is no such model or version."}
_OF_A_PREDICTION = {
    422: "The model cannot run these values, or its outputs are not finite numbers.",
    500: "The model itself failed, or the server did.",
    504: "The request's own timeout passed before its turn.",
}
_OF_AN_ORDER = {
    403: "The request comes from another site's page.",
    404: "There is no such model to load, or none is served under that name.",
    409: "The model is not one that can be loaded or unloaded.",
    422: "The model's files are damaged, or no model that can be served.",
    500: "The server made a mistake.",
}
_REFUSED = {"$ref": "#/components/schemas/Refusal"}
# Answered without a key, for load balancers.
_HEALTH = "/v2/health/"


def document(models: Models, *, has_key: bool, prefix: str = "") -> dict[str, Any]:
    """The document.

    Args:
        models: what is served; models that are still being loaded are not in it.
        has_key: whether requests need the key.
        prefix: what stands before every path, where the server is mounted in another.
    """
    paths: dict[str, Any] = dict(_of_server())
    # What is asked for without a name is the model that the server was started with.
    default = models.default or next(iter(models.plan), "")
    for model, served in main_versions(models):
        if model == default:
            paths["/predict"] = _predict(served, "predict", [])
        paths |= _of_model(model, served, models.versions_of(model))
    found: dict[str, Any] = {
        "openapi": _OPENAPI,
        "info": {
            "title": "shoal",
            "version": shoal.__version__,
            "description": "Predictions over HTTP: plain JSON, pictures, and the Open Inference Protocol v2.",
        },
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {"schemas": {"Refusal": REFUSAL}},
    }
    if has_key:
        found["components"]["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        found["security"] = [{"key": []}, {"bearer": []}]
    for path, methods in paths.items():
        for operation in methods.values():
            if path.startswith(_HEALTH):
                operation["security"] = []
            if not has_key or path.startswith(_HEALTH):
                del operation["responses"]["401"]
    return found


def main_versions(models: Models) -> Iterable[tuple[str, ServedVersion]]:
    """Each model with the version that answers most of its requests, in the order of the plan."""
    for model in models.plan:
        shares = models.shares.get(model)
        served = None if shares is None else models.find(model, shares.main)
        if served is not None:
            yield model, served


def _predict(served: ServedVersion, operation: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    reads = predicting_for(served.interface)
    content: dict[str, Any] = {_JSON: {"schema": plain_body(reads.form), "example": reads.form.example()}}
    if reads.image is not None:
        content |= _pictures(reads.image)
        parameters = [*parameters, *_picture_parameters(reads.image)]
    return {
        "post": _operation(
            operation,
            f"Predict with {served.key.model}: named fields in, named outputs out.",
            {_JSON: plain_answer(reads.form)},
            [*parameters, *_urgency()],
            statuses=_OF_A_MODEL | _OF_A_PREDICTION,
            body=content,
        )
    }


def _pictures(image: ImageInput) -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": describe(image)}
    # One file and nothing else, under either name.
    names = sorted({"file", image.name})
    form = {
        "type": "object",
        "properties": dict.fromkeys(names, file),
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {**{kind: {"schema": file} for kind in PICTURES}, "multipart/form-data": {"schema": form}}


def _picture_parameters(image: ImageInput) -> list[dict[str, Any]]:
    found = [
        _parameter(
            "resize",
            "query",
            "Beside a picture only: whether to stretch or shrink it to the model's size.",
            {"type": "boolean", "default": False},
        )
    ]
    if image.is_float:
        what = "Beside a picture only, and needed there: the number that a white pixel is in the float input."
        found.append(_parameter("white", "query", what, {"type": "integer", "enum": [1, 255]}))
    return found


def _infer(served: ServedVersion, operation: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    body = {
        _JSON: {"schema": infer_body(served.interface)},
        _BINARY: {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "The JSON, with parameters.binary_data_size in place of an input's data, and behind it "
                "the raw tensors, in their order; Inference-Header-Content-Length says where they begin.",
            }
        },
    }
    length = _parameter(
        "Inference-Header-Content-Length",
        "header",
        "How many bytes at the body's start are JSON, where raw tensors follow.",
        {"type": "integer", "minimum": 0},
    )
    answer = {_JSON: infer_answer(served.interface), _BINARY: {"type": "string", "format": "binary"}}
    text = f"Predict with {served.key.model}, as the Open Inference Protocol v2 has it; binary tensors may follow."
    return {
        "post": _operation(
            operation,
            text,
            answer,
            [*parameters, length, *_urgency()],
            statuses=_OF_A_MODEL | _OF_A_PREDICTION,
            body=body,
        )
    }


def _urgency() -> list[dict[str, Any]]:
    return [
        _parameter("X-Priority", "header", "From 1, the highest, to 5; 0 for 3.", PRIORITY),
        _parameter("X-Timeout-Us", "header", "Microseconds that the answer is waited for; 0 for no end.", TIMEOUT_US),
    ]


def _of_model(model: str, served: ServedVersion, versions: list[str]) -> dict[str, Any]:
    root = f"/v2/models/{quote(model, safe='')}"
    version = _parameter("version", "path", "One that is loaded.", {"type": "string", "enum": versions})
    found: dict[str, Any] = {}
    for path, name, parameters in ((root, model, []), (f"{root}/versions/{{version}}", f"{model}_version", [version])):
        found[f"{path}/predict"] = _predict(served, f"predict_{name}", parameters)
        found[f"{path}/infer"] = _infer(served, f"infer_{name}", parameters)
        for suffix, text, answer in (
            ("", "Names, datatypes and shapes of inputs and outputs.", ANYTHING),
            ("/ready", "Whether it can be asked now.", READY),
            ("/config", "The configuration, in Triton's words.", ANYTHING),
            ("/stats", "Counts and times, in Triton's words.", ANYTHING),
        ):
            operation = f"get_{name}_{suffix.strip('/') or 'metadata'}"
            found[f"{path}{suffix}"] = {
                "get": _operation(operation, text, {_JSON: answer}, parameters, statuses=_OF_A_MODEL)
            }
    return found


def _of_server() -> Iterable[tuple[str, dict[str, Any]]]:
    for path, text, kind, answer in (
        ("/v2", "Name, version and extensions of the server.", _JSON, ANYTHING),
        (f"{_HEALTH}live", "Whether the server runs.", _JSON, ANYTHING),
        (f"{_HEALTH}ready", "Whether every model can be asked now.", _JSON, READY),
        ("/v2/models/stats", "Counts and times of every version, in Triton's words.", _JSON, ANYTHING),
        ("/status", "What is served and how it goes, for people.", _JSON, ANYTHING),
        ("/metrics", "Counts and times, as Prometheus reads them.", "text/plain", TEXT),
        ("/docs", "A page about what is served.", "text/html", TEXT),
        ("/openapi.json", "This document.", _JSON, ANYTHING),
    ):
        name = path.strip("/").replace("/", "_").replace(".", "_")
        yield path, {"get": _operation(f"get_{name}", text, {kind: answer}, [])}
    yield from _of_repository()


def _of_repository() -> Iterable[tuple[str, dict[str, Any]]]:
    listed = {_JSON: {"type": "array", "items": ANYTHING}}
    only_ready = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "additionalProperties": False}
    body = {_JSON: {"schema": only_ready}}
    yield (
        "/v2/repository/index",
        {"post": _operation("list_models", "Every model and version.", listed, [], body=body, is_optional=True)},
    )
    parameters = {"type": "object", "properties": {"unload_dependents": {}}, "additionalProperties": False}
    order = {"type": "object", "properties": {"parameters": parameters}, "additionalProperties": False}
    model = _parameter("model", "path", "As its folder or the registry names it.", TEXT)
    for action, text in (
        ("load", "Load a model as it is found now; the answer comes when it can be asked."),
        ("unload", "Let a model go."),
    ):
        operation = _operation(
            f"{action}_model",
            text,
            {_JSON: ANYTHING},
            [model],
            statuses=_OF_AN_ORDER,
            body={_JSON: {"schema": order}},
            is_optional=True,
        )
        yield f"/v2/repository/models/{{model}}/{action}", {"post": operation}


def _parameter(name: str, place: str, description: str, schema: JsonSchema) -> dict[str, Any]:
    found = {"name": name, "in": place, "description": description, "schema": schema}
    return {**found, "required": True} if place == "path" else found


def _operation(
    operation: str,
    summary: str,
    answers: dict[str, JsonSchema],
    parameters: list[dict[str, Any]],
    *,
    statuses: dict[int, str] | None = None,
    body: dict[str, Any] | None = None,
    is_optional: bool = False,
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": "The answer.", "content": {kind: {"schema": each} for kind, each in answers.items()}}
    }
    for status, text in sorted((_ALWAYS | (statuses or {})).items()):
        responses[str(status)] = {"description": text, "content": {_JSON: {"schema": _REFUSED}}}
    if answers.get(_JSON) is READY:
        # What is not ready says so in the words of what is; whoever is beyond the most connections is refused.
        responses["503"]["content"] = {_JSON: {"schema": {"anyOf": [READY, _REFUSED]}}}
    found: dict[str, Any] = {"operationId": operation, "summary": summary, "responses": responses}
    if parameters:
        found["parameters"] = parameters
    if body is not None:
        found["requestBody"] = {"required": not is_optional, "content": body}
    return found

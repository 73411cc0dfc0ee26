"""The extensions of the protocol that Triton's clients ask for: a model's configuration, statistics, the repository."""

from collections.abc import Iterable
from typing import Any

import msgspec

from shoal.serve.records.metrics import Histogram, VersionCounts
from shoal.serve.versions.models import ServedVersion
from shoal.serve.wire.http import Head
from shoal.serve.wire.interface import TensorField
from shoal.serve.wire.refusal import RefusedError, shorten, wrong_field

# Triton's name for the protocol's BYTES is another one.
_TYPES = {"BYTES": "TYPE_STRING"}
_NS = 1_000_000_000


class IndexBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v2/repository/index`: whether to list only what can be asked now."""

    ready: bool = False


class WishBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to load or unload a model."""

    parameters: dict[str, Any] = {}


_INDEX = msgspec.json.Decoder(IndexBody)
_WISH = msgspec.json.Decoder(WishBody)
# All that depends on a model here goes with it.
_WISH_PARAMETERS = frozenset(["unload_dependents"])


def read_index_body(body: bytes) -> IndexBody:
    """Read the body of a request for the index; an empty one asks for everything, a wrong one is a 400."""
    try:
        return _INDEX.decode(body) if body.strip() else IndexBody()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_field("body", found=str(error), expected='nothing, or {"ready": true}') from error


def check_wish(head: Head, body: bytes) -> None:
    """Raise RefusedError for a request to load or unload a model with a wrong body, or from another site's page."""
    origin = head.headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2] != head.headers.get(b"host"):
        # A browser sends it along from any page that its user happens to open, also to a server on their own machine.
        found = shorten(origin.decode("latin-1"))
        raise RefusedError(
            403,
            f"Origin: found {found}, expected that of this server",
            field="Origin",
            found=found,
            expected="none, or that of this server",
            next_step="load and unload models from a program, not from another site's page",
        )
    try:
        parameters = _WISH.decode(body).parameters if body.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_field("body", found=str(error), expected='nothing, or {"parameters": {}}') from error
    check_wish_parameters(parameters)


def check_wish_parameters(names: Iterable[str]) -> None:
    """Raise RefusedError for what a client wants loaded otherwise than it is: its own files, its own configuration."""
    for name in names:
        if name not in _WISH_PARAMETERS:
            raise wrong_field(
                f"parameters.{shorten(name)}",
                found="a file or a setting for the model",
                expected="none: models are loaded as the server finds them",
                next_step="put the model into the server's folder or registry, and load it by its name",
            )


def no_repository(action: str, model: str) -> RefusedError:
    """The 405 where nobody could load a model, as in an application that has no supervisor."""
    # An empty Allow says it: no method is allowed here as the server is set up.
    return RefusedError(
        405,
        f"cannot {action} {shorten(model)}: this server loads and unloads no models at a client's wish",
        field="path",
        found=action,
        expected="a server that was started with a model repository",
        next_step="serve the model from the start, swap it with Server.swap, or let the server follow the registry",
        allow="",
    )


def model_config(served: ServedVersion, most_rows: int) -> dict[str, Any]:
    """What `GET /v2/models/NAME/config` tells, in Triton's words.

    Args:
        served: the version.
        most_rows: of a batch that keeps the latency target.
    """
    batched = served.interface.batched
    return {
        "name": served.key.model,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": most_rows if batched else 0,
        "input": [_field(field, batched=batched) for field in served.interface.inputs],
        "output": [_field(field, batched=batched) for field in served.interface.outputs],
        "version_policy": {"specific": {"versions": [served.key.version]}},
    }


def model_statistics(served: ServedVersion, counts: VersionCounts) -> dict[str, Any]:
    """What `GET /v2/models/NAME/stats` tells of one version, as far as it is counted: answers, batches, their times."""
    return {
        "name": served.key.model,
        "version": served.key.version,
        "inference_count": counts.rows,
        "execution_count": sum(counts.batch_rows.counts),
        "inference_stats": {
            "success": _duration(counts.request_seconds),
            "compute_infer": _duration(counts.batch_seconds),
        },
        "batch_stats": [],
    }


def _field(field: TensorField, *, batched: bool) -> dict[str, Any]:
    # Triton leaves the dimension of rows out where it batches.
    dims = field.wire_shape[1:] if batched else field.wire_shape
    return {"name": field.name, "data_type": _type_of(field.datatype), "dims": dims}


def _type_of(datatype: str) -> str:
    return _TYPES.get(datatype, f"TYPE_{datatype}")


def _duration(histogram: Histogram) -> dict[str, int]:
    return {"count": sum(histogram.counts), "ns": round(histogram.sum * _NS)}

"""The extensions of the protocol that Triton's clients ask for: a model's configuration, statistics, the repository."""

from typing import Any

import msgspec

from shoal.serve.interface import TensorField
from shoal.serve.metrics import Histogram, VersionCounts
from shoal.serve.models import ServedVersion
from shoal.serve.refusal import RefusedError, shorten, wrong_field

# Triton's name for the protocol's BYTES is another one.
_TYPES = {"BYTES": "TYPE_STRING"}
_NS = 1_000_000_000


class IndexBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v2/repository/index`: whether to list only what can be asked now."""

    ready: bool = False


_INDEX = msgspec.json.Decoder(IndexBody)


def read_index_body(body: bytes) -> IndexBody:
    """Read the body of a request for the index; an empty one asks for everything, a wrong one is a 400."""
    try:
        return _INDEX.decode(body) if body.strip() else IndexBody()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_field("body", found=str(error), expected='nothing, or {"ready": true}') from error


def no_repository(action: str, model: str) -> RefusedError:
    """The 405 of a server that was started with the models that it serves, and takes no orders to load others."""
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

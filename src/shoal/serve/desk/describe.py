"""The answers that tell about the server itself: metadata, health, the index of models, its status."""

from typing import Any

import msgspec

import shoal
from shoal.serve.batching.dispatch import Dispatcher
from shoal.serve.links.channel import Key
from shoal.serve.links.messages import Problem
from shoal.serve.records.journal import Journal
from shoal.serve.records.metrics import Gauges
from shoal.serve.versions.models import Models, ServedVersion
from shoal.serve.wire.http import response
from shoal.serve.wire.interface import TensorField

_EXTENSIONS = ("binary_tensor_data", "model_repository", "model_configuration", "statistics")


def json_response(status: int, value: object) -> bytes:
    """An answer with this value as its JSON."""
    return response(status, msgspec.json.encode(value))


def server_metadata() -> dict[str, Any]:
    """What `GET /v2` tells."""
    return {"name": "shoal", "version": shoal.__version__, "extensions": _EXTENSIONS}


def model_metadata(served: ServedVersion, versions: list[str]) -> dict[str, Any]:
    """What `GET /v2/models/NAME` tells."""
    return {
        "name": served.key.model,
        "versions": versions,
        "platform": "onnxruntime_onnx",
        "inputs": [_tensor(field) for field in served.interface.inputs],
        "outputs": [_tensor(field) for field in served.interface.outputs],
    }


def index(models: Models, dispatcher: Dispatcher) -> list[dict[str, str]]:
    """What `POST /v2/repository/index` tells."""
    keys = {Key(name, version) for name, planned in models.plan.items() for version in planned.versions}
    return [
        {
            "name": key.model,
            "version": key.version,
            "state": "READY" if num_loaded(dispatcher, key) else "UNAVAILABLE",
            "reason": "" if num_loaded(dispatcher, key) else "no replica has it loaded at the moment",
        }
        for key in sorted(keys | models.versions.keys())
    ]


def num_loaded(dispatcher: Dispatcher, key: Key) -> int:
    """How many replicas have a version."""
    return sum(1 for link in dispatcher.links.values() if key in link.loaded)


def is_ready(models: Models, dispatcher: Dispatcher, model: str) -> bool:
    """Whether some replica can answer now for each version that gets traffic."""
    shares = models.shares.get(model)
    return shares is not None and all(num_loaded(dispatcher, Key(model, version)) for version in shares.versions)


def gauges(models: Models, dispatcher: Dispatcher, *, ready: bool) -> Gauges:
    """What is true now, for a scrape."""
    return Gauges(
        queued_rows=dispatcher.queue.num_rows,
        open_requests=dispatcher.num_open,
        replicas=sum(1 for link in dispatcher.links.values() if link.loaded),
        is_ready=ready,
        shares={
            Key(model, version): share
            for model, shares in models.shares.items()
            for version, share in shares.by_version.items()
        },
        cache=dispatcher.cache_state(),
    )


def status(
    models: Models, dispatcher: Dispatcher, journal: Journal, problems: list[Problem], *, ready: bool
) -> dict[str, Any]:
    """What `GET /status` tells: enough to see why the server does what it does."""
    load = dispatcher.load(0)
    return {
        "ready": ready,
        "generation": models.generation,
        "models": {
            model: {
                "shares": dict(shares.by_version),
                "planned": models.plan[model].shares if model in models.plan else {},
                "versions": {
                    key.version: _version(served, dispatcher)
                    for key, served in models.versions.items()
                    if key.model == model
                },
            }
            for model, shares in models.shares.items()
        },
        "problems": problems,
        "replicas": [
            {
                "rank": link.rank,
                "pid": link.pid,
                "host": link.host,
                "loaded": [f"{key.model}@{key.version}" for key in sorted(link.loaded)],
                "loading": [f"{key.model}@{key.version}" for key in sorted(link.asked)],
                "running_rows": link.batch.num_rows if link.batch is not None else 0,
            }
            for link in sorted(dispatcher.links.values(), key=lambda link: link.rank)
        ],
        "queue": {
            "requests": dispatcher.queue.num_requests,
            "rows": dispatcher.queue.num_rows,
            "predicted_wait_ms": round(load.wait_s * 1000, 3),
            "held_bytes": load.num_bytes,
        },
        "logs": journal.status(),
        "cache": dispatcher.cache_state(),
    }


def _version(served: ServedVersion, dispatcher: Dispatcher) -> dict[str, Any]:
    return {
        "replicas": num_loaded(dispatcher, served.key),
        "rows_per_batch_at_most": dispatcher.most_rows(served.key),
        "predicted_ms": {f"{rows} rows": round(served.cost.predict_s(rows) * 1000, 3) for rows in (1, 8, 32)},
        "shares_batches": served.interface.batched,
        **dispatcher.explain(served.key),
    }


def _tensor(field: TensorField) -> dict[str, Any]:
    return {"name": field.name, "datatype": field.datatype, "shape": field.wire_shape}

"""Stages 1 to 5 as one flow of memoised steps: files to a dataset, candidates, the best of them, a checked package."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import shoal.compress
import shoal.data
import shoal.model
import shoal.runtime
import shoal.train
from shoal.data import Dataset
from shoal.demo.candidates import Candidate
from shoal.flow import File, flow, step
from shoal.model import Package
from shoal.train import Checkpoint

SEED = 0
BATCH_SIZE = 256
NUM_VIRTUAL, NUM_WORKERS = 4, 2
BASELINE_EPOCHS, EPOCHS = 1, 3
# A complex model must be this much better on validation data than the linear one, or the linear one is served.
MARGIN = 0.03
MAX_QUANTIZATION_LOSS = 0.005
NUM_SHARDS = 8
NUM_EXAMPLES = 64
# Shares of the rows, by hash. "live" is the world outside: the service sees its images, training only their labelled
# descendants; so nothing of "test" is ever trained on, changed images included.
SHARES = (0.70, 0.08, 0.14, 0.08)


@dataclass(frozen=True, slots=True)
class Parts:
    """The four sides of a dataset version; a row stays on its side in every later version."""

    train: Dataset
    validation: Dataset
    test: Dataset
    live: Dataset


def split(data: Dataset) -> Parts:
    """Divide a dataset version by hash into training, validation, test and live rows."""
    return Parts(*data.split(*SHARES))


@step(ignore=["folder"])
def ingest(files: list[File], folder: str) -> Dataset:
    """Stream (images, labels, images, labels, ...) into the dataset at `folder`."""
    paths = [Path(file.path) for file in files]
    source = shoal.data.IdxSource(images=paths[0::2], labels=paths[1::2])
    return shoal.data.ingest(source, folder, num_shards=NUM_SHARDS)


@step(cpus=NUM_WORKERS)
def train(data: Dataset, name: str, settings: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Train one candidate on the training rows of `data`, with validation after each epoch."""
    parts = split(data)
    result = shoal.train.fit(
        Candidate(**settings),
        parts.train,
        validation=parts.validation,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        seed=SEED,
        strategy=shoal.train.Collective(num_virtual=NUM_VIRTUAL),
        workers=NUM_WORKERS,
        name=name,
    )
    return {
        "name": name,
        "settings": settings,
        "run": result.run,
        "checkpoint": result.checkpoint,
        "accuracy": result.metrics["validation.accuracy"],
        "samples_per_s": result.samples_per_s,
    }


@step
def choose(baseline: dict[str, Any], candidates: list[dict[str, Any]]) -> dict[str, Any]:
    """The candidate that is best on validation data, or the baseline where none beats it by `MARGIN`."""
    best = max(candidates, key=lambda candidate: candidate["accuracy"])
    return best if best["accuracy"] >= baseline["accuracy"] + MARGIN else baseline


@step
def package(trained: dict[str, Any], data: Dataset) -> Package:
    """Export a trained candidate and check it against torch on real rows; its profile is what the watcher compares."""
    parts = split(data)
    checkpoint: Checkpoint = trained["checkpoint"]
    model = Candidate(**trained["settings"]).build()
    model.load_state_dict(checkpoint.weights())
    exported = shoal.model.package(
        model,
        name="fashion",
        example=parts.validation.take(np.arange(NUM_EXAMPLES)),
        run=trained["run"],
        code=shoal.runtime.code_digest(Candidate).digest,
        dataset=data,
        metrics={"validation.accuracy": trained["accuracy"]},
    )
    return shoal.model.amend(exported, profile=shoal.model.training_profile(exported, parts.train, parts.validation))


@step(cpus=NUM_WORKERS)  # alone on the machine: it measures latency
def quantize(exported: Package, data: Dataset) -> dict[str, Any]:
    """The int8 package beside the float one, and which of the two is worth keeping."""
    parts = split(data)
    found = shoal.compress.quantize(
        exported, calibrate=parts.train, held_out=parts.validation, label="label", max_loss=MAX_QUANTIZATION_LOSS
    )
    return {
        "package": found.package,
        "kept": found.kept,
        "reason": found.reason,
        "accuracy": found.accuracy_after,
        "speedup": found.speedup,
    }


@step
def evaluate(exported: Package, data: Dataset) -> dict[str, Any]:
    """Accuracy, precision, recall, F1, confusion and calibration on the test rows."""
    return shoal.model.evaluate(exported, split(data).test, label="label").to_json()


@step
def evaluate_kept(quantized: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """The same for whichever package was worth keeping: what production will be judged by."""
    return shoal.model.evaluate(quantized["package"], split(data).test, label="label").to_json()


@flow
def build_model(
    files: list[File],
    folder: str,
    labelled: Dataset | None,
    candidates: dict[str, dict[str, Any]],
    baseline: dict[str, Any],
) -> dict[str, Any]:
    """From source files to a package that is ready for its gates.

    Args:
        files: images and labels in turn.
        folder: where the dataset lives.
        labelled: a later version of that dataset with newly labelled rows; None trains on what `files` hold.
        candidates: settings by name.
        baseline: settings of the linear model; always trained on the rows of `files`, as the fixed mark to beat.
    """
    first = ingest(files, folder)
    data = first if labelled is None else labelled
    linear = train(first, "baseline", baseline, BASELINE_EPOCHS)
    trained = [train(data, name, settings, EPOCHS) for name, settings in candidates.items()]
    best = choose(linear, trained)
    exported = package(best, data)
    small = quantize(exported, data)
    return {
        "data": data,
        "baseline": evaluate(package(linear, first), data),
        "candidates": trained,
        "best": best,
        "quantized": small,
        "evaluation": evaluate_kept(small, data),
    }

"""Stage 9: new rows, the same flow, a canary beside production, and back and forth under traffic."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.data import Dataset
from shoal.demo.corruption import corrupt
from shoal.demo.scene import MODEL, Scene
from shoal.demo.traffic import send, traffic
from shoal.store import GateReport, ModelVersion
from shoal.watch import accuracy_by_version, label_many, labelled_rows

CANARY_SHARE = 0.2
FOLLOW_S = 30.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a canary showed beside production, on the same live traffic."""

    production: float
    canary: float
    canary_requests: int
    failed: int


def append_labelled(scene: Scene, data: Dataset, *, since_row: int) -> Dataset:
    """Append the logged inputs that have a label by now to the dataset: a new version, unless they are in already."""
    grown = data.append(labelled_rows(scene.log_folder, store=scene.store, since_row=since_row))
    added = grown.num_rows - data.num_rows
    scene.display.line("data", f"{grown.name}@{grown.version}: {added:,} labelled rows beside {data.num_rows:,}")
    return grown


def run_canary(
    scene: Scene, version: ModelVersion, results: GateReport, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> Comparison:
    """Give the version a share of live traffic of changed images and compare it with production by late labels."""
    store, server = scene.store, scene.running
    production = store.models.get(f"{MODEL}@production")
    first_row = scene.num_logged()
    store.models.canary(MODEL, version, CANARY_SHARE, results=results)
    server.wait_for(MODEL, canary=version.version, timeout_s=FOLLOW_S)
    answers = send(server.url, MODEL, corrupt(images, seed=2))
    server.sync_log()
    label_many(answers.labelled(labels), store=store)
    found = accuracy_by_version(scene.log_folder, store=store, since_row=first_row)
    seen = Comparison(
        production=found[str(production.version)].accuracy,
        canary=found[str(version.version)].accuracy,
        canary_requests=found[str(version.version)].num_labelled,
        failed=answers.num_failed,
    )
    scene.display.line(
        "canary",
        f"{version.address} got {seen.canary_requests:,} of {len(images):,} requests: accuracy {seen.canary:.3f}, "
        f"production {seen.production:.3f}; {seen.failed} failed",
    )
    return seen


def promote(scene: Scene, version: ModelVersion, results: GateReport) -> None:
    """Make the version production and wait until the service follows."""
    scene.store.models.promote(MODEL, version, results=results)
    scene.running.wait_for(MODEL, version=version.version, timeout_s=FOLLOW_S)
    scene.display.line("promoted", f"{version.address} is production")


def swing(scene: Scene, images: NDArray[np.uint8]) -> int:
    """Roll back and forward again under traffic; return how many requests failed."""
    models, server = scene.store.models, scene.running
    moves: list[tuple[str, Callable[[str], ModelVersion]]] = [("back", models.rollback), ("forward", models.forward)]
    failed, told = 0, []
    for word, move in moves:
        with traffic(server.url, MODEL, images) as sent:
            version = move(MODEL)
            server.wait_for(MODEL, version=version.version, timeout_s=FOLLOW_S)
            failed += sent.result().num_failed
        told.append(f"{word} to {version.address}")
    scene.display.line("rolled", f"{', '.join(told)} under traffic: {failed} requests failed")
    return failed


def accuracy_on_changed(scene: Scene, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Accuracy of the service on changed images that nobody trained on."""
    found = send(scene.running.url, MODEL, corrupt(images, seed=3)).accuracy(labels)
    scene.display.line("regained", f"accuracy {found:.3f} on {len(images):,} changed images never trained on")
    return found


def describe(candidate: dict[str, Any]) -> str:
    """One trained candidate as a line."""
    return f"{candidate['name']:<11} {candidate['run']}  validation accuracy {candidate['accuracy']:.3f}"

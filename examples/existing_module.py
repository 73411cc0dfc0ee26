"""Train a module that you already have, from a plain script: no subclass, no `__main__` guard.

    python examples/existing_module.py

The same script with workers=1 ends with the same weights, bit for bit.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import shoal

# Points in a plane, inside or outside a circle: any arrays can be ingested as they are.
points = np.random.default_rng(0).uniform(-1, 1, size=(4000, 2)).astype(np.float32)
inside = (np.hypot(points[:, 0], points[:, 1]) < 0.75).astype(np.int64)

folder = Path(tempfile.mkdtemp(prefix="shoal-example-"))
data = shoal.data.ingest({"point": points, "inside": inside}, folder / "circle")
train, test = data.split(0.8, 0.2)

task = shoal.Task.of(
    lambda: nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2)),
    inputs="point",
    target="inside",
    loss=nn.functional.cross_entropy,
    optimizer=lambda parameters: torch.optim.Adam(parameters, 1e-2),
    metrics={"accuracy": shoal.train.accuracy},
)
with shoal.store.open(folder / ".shoal") as store:
    result = shoal.train.fit(task, train, validation=test, epochs=8, batch_size=64, workers=2, store=store)

print(f"accuracy {result.metrics['validation.accuracy']:.3f} after {result.steps} steps, {result.run} in {folder}")

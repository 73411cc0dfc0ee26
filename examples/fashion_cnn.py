"""A convolutional network on Fashion-MNIST: schedule, averaged weights, augmentation and early stopping.

    python examples/fashion_cnn.py
    shoal train run examples/fashion_cnn.py:Fashion --data FOLDER --workers 2

The first line leaves the dataset in a FOLDER, and prints where. Any number of workers ends with the same weights, bit
for bit, and so does a run whose workers were killed meanwhile.
"""

# B = batch, C = channels, H = height, W = width, K = classes  # noqa: ERA001 - a legend of shapes, no code

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import shoal
from shoal.demo.fashion import find_fashion_mnist


@dataclass(frozen=True)
class Fashion(shoal.Task):
    """Ten kinds of garment, from images uint8 [B, H, W]."""

    width: int = 16
    learning_rate: float = 4e-3
    ema: float | None = 0.98
    clip_norm: float | None = 5.0

    def build(self) -> nn.Module:
        """Two convolutions, one linear layer."""
        return nn.Sequential(
            *(nn.Conv2d(1, self.width, 3, padding=1), nn.BatchNorm2d(self.width), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(self.width, 2 * self.width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(2 * self.width * 7 * 7, 10)),
        )

    def inputs(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Pixels in [0, 1]."""
        return ((batch["image"].float() / 255).unsqueeze(1),)

    def compute(self, module: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """In training alone, half of the images are seen in a mirror; torch's random numbers are the same anywhere."""
        (x_BCHW,) = self.inputs(batch)
        is_mirrored = torch.rand(len(x_BCHW), 1, 1, 1) < 0.5
        return self.loss(module(torch.where(is_mirrored, x_BCHW.flip(3), x_BCHW)), batch)

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy of logits [B, K]; how sure the network is comes into the run's curves beside it."""
        self.log("confidence", outputs.softmax(1).amax(1).mean())
        return F.cross_entropy(outputs, batch["label"].long())

    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """AdamW; the learning rate is the schedule's peak."""
        return torch.optim.AdamW(params, lr=self.learning_rate)

    def scheduler(self, optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """One cycle, up and down again."""
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=num_steps)

    def metrics(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Mapping[str, shoal.train.Metric]:
        """Accuracy, as sums that any number of workers can merge."""
        return {"accuracy": shoal.train.accuracy(outputs, batch["label"])}


def main() -> None:
    """Ingest a third of the images, train on most of them, and say what came of it."""
    files = find_fashion_mnist()
    folder = Path(tempfile.mkdtemp(prefix="shoal-example-"))
    images, labels = ([files / f"train-{kind}-ubyte.gz"] for kind in ("images-idx3", "labels-idx1"))
    data = shoal.data.ingest(shoal.data.IdxSource(images=images, labels=labels), folder / "fashion")
    train, validation, _ = data.split(0.3, 0.05, 0.65)
    with shoal.store.open(folder / ".shoal") as store:
        result = shoal.train.fit(
            Fashion(),
            train,
            validation=validation,
            epochs=2,
            batch_size=128,
            workers=2,
            early_stopping=shoal.train.EarlyStopping(monitor="accuracy", patience=2),
            store=store,
        )
    print(f"accuracy {result.metrics['validation.accuracy']:.3f} after {result.steps} steps, {result.run} in {folder}")
    print(f"again: shoal train run {__file__}:Fashion --data {folder / 'fashion'} --workers 2")


if __name__ == "__main__":
    main()

"""The models of the demo: a linear baseline, and three small convolutional networks that differ in one idea each."""

# B = batch, H = height, W = width, C = channels, K = classes  # noqa: ERA001 - a legend of shapes, no code

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import shoal.train

NUM_CLASSES = 10
# Mean and standard deviation of the training images' pixels in [0, 1], rounded.
PIXEL_MEAN, PIXEL_STD = 0.286, 0.353


class Linear(nn.Module):
    """One matrix from pixels to classes: what a complex model has to beat."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Linear(28 * 28, NUM_CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Logits float32 [B, K] of images uint8 [B, H, W]."""
        logits: Tensor = self.classes(_normalise(image).flatten(1))
        return logits


class SmallCnn(nn.Module):
    """Two convolutions and two linear layers, with batch normalisation or dropout where asked."""

    def __init__(self, *, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), norm(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), norm(32), nn.ReLU(), nn.MaxPool2d(2)),
        )
        # Torch's own types forget this keyword.
        self.features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as said above
        self.classes = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, NUM_CLASSES)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits float32 [B, K] of images uint8 [B, H, W]."""
        x_BCHW = _normalise(image).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classes(self.features(x_BCHW))
        return logits


# The network scales its own input, so the service receives pixels exactly as training did.
def _normalise(image: Tensor) -> Tensor:
    return (image.float() / 255.0 - PIXEL_MEAN) / PIXEL_STD


@dataclass(frozen=True)
class Candidate(shoal.train.Task):
    """A garment classifier to train: `network` is "linear" or "cnn"."""

    network: str = "cnn"
    batch_norm: bool = False
    dropout: float = 0.0
    learning_rate: float = 4e-3

    def build(self) -> nn.Module:
        """Return the untrained network."""
        if self.network == "linear":
            return Linear()
        return SmallCnn(batch_norm=self.batch_norm, dropout=self.dropout)

    def inputs(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The images of a batch."""
        return (batch["image"],)

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean cross-entropy over the micro-batch."""
        return F.cross_entropy(outputs, batch["label"].long())

    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """AdamW; the learning rate is the schedule's peak."""
        return torch.optim.AdamW(params, lr=self.learning_rate, weight_decay=1e-4)

    def scheduler(self, optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """One cycle: a short warm-up, then down to nothing, which is what makes three epochs enough."""
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=num_steps, pct_start=0.2)

    def metrics(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Mapping[str, shoal.train.Metric]:
        """Accuracy as mergeable sums."""
        return {"accuracy": shoal.train.accuracy(outputs, batch["label"])}


BASELINE = {"network": "linear", "learning_rate": 2e-3}
CANDIDATES = {
    "plain": {"learning_rate": 4e-3},
    "batch_norm": {"batch_norm": True, "learning_rate": 5e-3},
    "dropout": {"dropout": 0.2, "learning_rate": 4e-3},
}

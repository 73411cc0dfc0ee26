"""A small transformer that learns to write Python, letter by letter, from Python's own library.

    python examples/character_transformer.py
    shoal train run examples/character_transformer.py:Letters --data FOLDER --workers 2

The first line leaves the dataset in a FOLDER: rows of 65 letters, of which each is guessed from those before it.
"""

# B = batch, T = letters, D = width, N = heads, H = width of a head

import math
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import shoal

NUM_LETTERS = 128
LENGTH = 64


class Block(nn.Module):
    """Causal attention and two linear layers, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look, self.take = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape, float32 [B, T, D]."""
        x_BTNH = self.look(self.before_attention(x)).unflatten(2, (3 * self.heads, -1))
        query_BNTH, key_BNTH, value_BNTH = x_BTNH.transpose(1, 2).chunk(3, dim=1)
        seen_BNTH = F.scaled_dot_product_attention(query_BNTH, key_BNTH, value_BNTH, is_causal=True)
        x_BTD = x + self.take(seen_BNTH.transpose(1, 2).flatten(2))
        out_BTD: Tensor = x_BTD + self.layers(self.before_layers(x_BTD))
        return out_BTD


class Transformer(nn.Module):
    """Logits of the next letter, float32 [B, T, letters], from letters int64 [B, T]."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.letter, self.place = nn.Embedding(NUM_LETTERS, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)), nn.LayerNorm(width))
        self.guess = nn.Linear(width, NUM_LETTERS)

    def forward(self, letters: Tensor) -> Tensor:
        """One pass over all places at once."""
        places_T = torch.arange(letters.shape[1], device=letters.device)
        logits: Tensor = self.guess(self.blocks(self.letter(letters) + self.place(places_T)))
        return logits


@dataclass(frozen=True)
class Letters(shoal.Task):
    """The next letter, from those before it."""

    width: int = 64
    depth: int = 2
    learning_rate: float = 4e-3
    clip_norm: float | None = 1.0

    def build(self) -> nn.Module:
        """The network."""
        return Transformer(self.width, self.depth, heads=4)

    def inputs(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """All letters but the last."""
        return (batch["text"][:, :-1].long(),)

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy against all letters but the first, over the rows and their places."""
        return F.cross_entropy(outputs.flatten(0, 1), batch["text"][:, 1:].long().flatten())

    def optimizers(self, module: nn.Module) -> torch.optim.Optimizer:
        """AdamW that lets matrices decay, and leaves biases and norms alone."""
        matrices = [param for param in module.parameters() if param.ndim > 1]
        others = [param for param in module.parameters() if param.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.learning_rate)

    def scheduler(self, optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """Up in the first steps, then down along a cosine."""
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=num_steps, pct_start=0.1)


def main() -> None:
    """Cut the library's sources into rows, train on most of them, and say what came of it."""
    folder = Path(tempfile.mkdtemp(prefix="shoal-example-"))
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-e]*.py"))
    text = np.frombuffer(b"\n".join(path.read_bytes() for path in sources), np.uint8)
    text = text[text < NUM_LETTERS]
    rows = text[: len(text) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)[:12_000]
    data = shoal.data.ingest({"text": rows}, folder / "letters")
    train, validation = data.split(0.9, 0.1)
    with shoal.store.open(folder / ".shoal") as store:
        result = shoal.train.fit(Letters(), train, validation=validation, batch_size=32, workers=2, store=store)
    bits = result.metrics["validation.loss"] / math.log(2)
    print(f"{bits:.2f} bits per letter after {result.steps} steps, {result.run} in {folder}")
    print(f"again: shoal train run {__file__}:Letters --data {folder / 'letters'} --workers 2")


if __name__ == "__main__":
    main()

"""What a prediction says about itself: columns by which training and live traffic are compared without labels."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError
from shoal.model.manifest import SCORES, Kind


def score_columns(outputs: Mapping[str, NDArray[Any]], kind: Kind) -> dict[str, NDArray[Any]]:
    """Derive one number per row and column from a model's outputs; the same at training and while serving.

    Args:
        outputs: by name, the batch first, as `Session.run` returns them.
        kind: of the model. "classification" reads `scores`, probabilities [rows, classes].

    Returns:
        For a classifier, `scores.confidence` (the largest probability, float32), `scores.class` (its class, int64),
        `scores.entropy` (in nats, float32) and `scores.margin` (to the second largest, float32). Else `scores.<output>`
        for every output of one number per row, as it is.

    Raises:
        InputError: a classifier's outputs hold no such `scores`.
    """
    if kind != "classification":
        flat = {name: values.reshape(len(values), -1) for name, values in outputs.items()}
        return {f"{SCORES}.{name}": values[:, 0] for name, values in flat.items() if values.shape[1] == 1}
    scores = outputs.get(SCORES)
    if scores is None or scores.ndim != 2 or scores.shape[1] == 0:
        found = {name: list(values.shape) for name, values in outputs.items()}
        raise InputError(
            f"cannot score: the outputs are {found}, expected {SCORES!r} as [rows, classes]",
            next_step="package the model with kind='classification', or score it as a regression",
        )
    largest = scores.max(axis=1)
    best = scores.argmax(axis=1)
    return {
        f"{SCORES}.confidence": largest.astype(np.float32),
        f"{SCORES}.class": best.astype(np.int64),
        f"{SCORES}.entropy": _entropy(scores),
        f"{SCORES}.margin": (largest - _second(scores)).astype(np.float32),
    }


def _entropy(scores: NDArray[Any]) -> NDArray[np.float32]:
    shares = scores.astype(np.float64)
    # 0 log 0 is 0, which the logarithm alone does not know.
    terms = shares * np.log(np.where(shares > 0, shares, 1.0))
    # A sum of zeros gives -0.0, which would be a value of its own in a histogram over float bits.
    entropy: NDArray[np.float32] = (0.0 - terms.sum(axis=1)).astype(np.float32)
    return entropy


def _second(scores: NDArray[Any]) -> NDArray[Any]:
    if scores.shape[1] == 1:
        return np.zeros(len(scores), scores.dtype)
    second: NDArray[Any] = np.partition(scores, -2, axis=1)[:, -2]
    return second

"""How good a classifier is: counted once per row, from probabilities and labels."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError
from shoal.model.manifest import SCORES
from shoal.model.reading import Package
from shoal.model.session import Session
from shoal.model.tables import row_batches

if TYPE_CHECKING:
    from shoal.data import Dataset

NUM_BINS = 15  # of the calibration error; Guo et al. 2017, arXiv:1706.04599, use the same
_SMALLEST = 1e-7  # about float32's resolution: a probability of exactly 0 would make the log loss infinite


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """The figures of a classifier on one set of rows; arrays are by class, C classes.

    Attributes:
        precision: of the rows predicted as the class, the share that is; 0 where none was predicted. float64 [C].
        recall: of the rows of the class, the share predicted as it; 0 where there is none. float64 [C].
        f1: harmonic mean of both, 0 where both are. float64 [C].
        confusion: rows counted by [true class, predicted class]. int64 [C, C].
        expected_calibration_error: mean gap between confidence and accuracy over 15 bins of equal
            width, weighted by rows.
        log_loss: mean negative log probability of the true class, in nats.
    """

    num_rows: int
    accuracy: float
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    confusion: NDArray[np.int64]
    expected_calibration_error: float
    log_loss: float

    def metrics(self) -> dict[str, float]:
        """Flat figures for a run, a package or a gate: precision, recall and f1 as means, f1 by class."""
        return {
            "accuracy": self.accuracy,
            "precision": float(self.precision.mean()),
            "recall": float(self.recall.mean()),
            "f1": float(self.f1.mean()),
            "expected_calibration_error": self.expected_calibration_error,
            "log_loss": self.log_loss,
            **{f"f1.{number}": float(value) for number, value in enumerate(self.f1)},
        }

    def to_json(self) -> dict[str, Any]:
        """All figures as plain values, arrays as lists."""
        figures = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in figures.items()}

    @classmethod
    def from_json(cls, figures: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        given: dict[str, Any] = dict(figures)
        arrays = {name: np.array(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**{**given, **arrays})


def evaluate(package: Package, dataset: "Dataset", *, label: str, batch_size: int = 512) -> Evaluation:
    """Run a classifier over all rows of a dataset and compare with its label column.

    Inputs are read batch by batch; kept in memory are one row of scores and one label per row.

    Args:
        package: a classifier.
        dataset: rows that it was not trained on.
        label: the column with the true class, whole numbers from 0.
        batch_size: rows computed at once; it changes the time, not the figures.

    Raises:
        InputError: the dataset lacks a column, a label is no class of the model, or the model is no classifier.
    """
    if package.model_kind != "classification":
        raise InputError(
            f"cannot evaluate {package.name!r}: it is a {package.model_kind} package, expected classification",
            next_step="run it with shoal.model.predict and compare its outputs yourself",
        )
    session = Session(package)
    signature = package.signature
    scores, labels = [], []
    for batch in row_batches(dataset, [*signature.columns, label], batch_size, masked=signature.masked):
        labels.append(batch[label])
        scores.append(session.run(signature.inputs_from(batch))[SCORES])
    return evaluate_classification(np.concatenate(scores), np.concatenate(labels))


def evaluate_classification(probabilities: NDArray[Any], labels: NDArray[Any]) -> Evaluation:
    """Compare probabilities with true classes.

    Args:
        probabilities: float [rows, classes], each row adding up to one; the class with the largest is the prediction.
        labels: the true classes, whole numbers [rows], 0 <= label < classes.

    Raises:
        InputError: there is no row, the shapes differ, or a label is out of range; the message names its row.
    """
    _check(probabilities, labels)
    shares, truth = probabilities.astype(np.float64), labels.astype(np.int64)
    num_rows, num_classes = shares.shape
    predicted = shares.argmax(axis=1)
    confusion = np.bincount(truth * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)
    hits = np.diag(confusion).astype(np.float64)
    precision = hits / np.maximum(confusion.sum(axis=0), 1)
    recall = hits / np.maximum(confusion.sum(axis=1), 1)
    both = precision + recall
    return Evaluation(
        num_rows=num_rows,
        accuracy=float(hits.sum() / num_rows),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / np.where(both > 0, both, 1.0),
        confusion=confusion.astype(np.int64),
        expected_calibration_error=_calibration_error(shares.max(axis=1), predicted == truth),
        log_loss=float(-np.log(np.maximum(shares[np.arange(num_rows), truth], _SMALLEST)).mean()),
    )


def _calibration_error(confidence: NDArray[np.float64], hit: NDArray[np.bool_]) -> float:
    bins = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    # |sum of confidence - hits| of a bin is its gap times its rows: the weights are already in it.
    gaps = np.bincount(bins, weights=confidence - hit, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def _check(probabilities: NDArray[Any], labels: NDArray[Any]) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise InputError(
            f"cannot evaluate probabilities {list(probabilities.shape)} against labels {list(labels.shape)}: "
            "expected [rows, classes] and [rows], at least one row",
            next_step="give one probability per class and one label per row",
        )
    if labels.dtype.kind not in "iu":
        raise InputError(
            f"cannot evaluate against labels of dtype {labels.dtype}: expected whole numbers from 0",
            next_step="number the classes in the order of the model's scores",
        )
    outside = np.flatnonzero((labels < 0) | (labels >= probabilities.shape[1]))
    if outside.size:
        raise InputError(
            f"the label of row {outside[0]} is {labels[outside[0]]}, expected 0 to {probabilities.shape[1] - 1} "
            f"({outside.size} rows are out of range)",
            next_step="correct the labels, or package the model with as many classes as there are",
        )

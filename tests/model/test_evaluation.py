import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import InputError
from shoal.model import Evaluation, evaluate_classification

SCORES = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1]])
LABELS = np.array([0, 1, 1, 0])


def test_counts_what_a_person_would_count():
    found = evaluate_classification(SCORES, LABELS)

    assert found.num_rows == 4
    assert found.accuracy == 0.75
    assert found.confusion.tolist() == [[2, 0], [1, 1]]
    np.testing.assert_allclose(found.precision, [2 / 3, 1])
    np.testing.assert_allclose(found.recall, [1, 1 / 2])
    np.testing.assert_allclose(found.f1, [0.8, 2 / 3])
    np.testing.assert_allclose(found.log_loss, -np.log([0.8, 0.4, 0.7, 0.9]).mean())
    # Bins of 1/15: all four confidences lie alone, so the gaps are 0.2, 0.6, 0.3 and 0.1.
    np.testing.assert_allclose(found.expected_calibration_error, 1.2 / 4)


def test_a_class_that_never_occurs_has_zeros_not_nan():
    found = evaluate_classification(np.array([[1.0, 0.0, 0.0]]), np.array([0]))

    assert found.f1.tolist() == [1, 0, 0]


def test_a_confident_error_has_a_finite_loss():
    assert np.isfinite(evaluate_classification(np.array([[1.0, 0.0]]), np.array([1])).log_loss)


def test_metrics_are_flat_numbers():
    found = evaluate_classification(SCORES, LABELS).metrics()

    assert found["accuracy"] == 0.75
    assert found["f1.1"] == pytest.approx(2 / 3)
    assert {type(value) for value in found.values()} == {float}


def test_survives_json():
    found = evaluate_classification(SCORES, LABELS)

    again = Evaluation.from_json(json.loads(json.dumps(found.to_json())))

    assert again.to_json() == found.to_json()
    assert again.confusion.dtype == found.confusion.dtype


@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_parts_agree_with_each_other(num_rows, num_classes, seed):
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(num_classes), size=num_rows)
    labels = random.integers(0, num_classes, size=num_rows)

    found = evaluate_classification(scores, labels)

    assert found.confusion.sum() == num_rows
    assert found.accuracy == pytest.approx((scores.argmax(axis=1) == labels).mean())
    assert 0 <= found.expected_calibration_error <= 1
    order = random.permutation(num_rows)
    assert evaluate_classification(scores[order], labels[order]).metrics() == pytest.approx(found.metrics())


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([0, 1, 2, 0]), "label of row 2 is 2, expected 0 to 1"),
        (np.array([0, -1, 1, 0]), "label of row 1 is -1"),
        (np.array([0.0, 1, 1, 0]), "float64"),
        (np.array([0, 1, 1]), r"\[4, 2\] against labels \[3\]"),
    ],
)
def test_wrong_labels_are_named(labels, words):
    with pytest.raises(InputError, match=words):
        evaluate_classification(SCORES, labels)


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="at least one row"):
        evaluate_classification(np.zeros((0, 2)), np.zeros(0, np.int64))

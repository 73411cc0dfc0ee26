import numpy as np
import pytest

from shoal.base import InputError
from shoal.model import score_columns


def test_a_classifier_gives_four_columns():
    scores = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]], np.float32)

    found = score_columns({"scores": scores}, "classification")

    assert found["scores.class"].tolist() == [0, 2]
    np.testing.assert_allclose(found["scores.confidence"], [0.7, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found["scores.margin"], [0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found["scores.entropy"], [0.801819, 0.0], rtol=1e-5)
    assert {name: str(values.dtype) for name, values in found.items()} == {
        "scores.confidence": "float32",
        "scores.class": "int64",
        "scores.entropy": "float32",
        "scores.margin": "float32",
    }


def test_certainty_has_one_zero_entropy_not_two():
    found = score_columns({"scores": np.array([[1.0, 0.0]], np.float32)}, "classification")

    assert not np.signbit(found["scores.entropy"][0])


def test_one_class_has_a_margin_too():
    found = score_columns({"scores": np.ones((2, 1), np.float32)}, "classification")

    assert found["scores.margin"].tolist() == [1.0, 1.0]


def test_no_rows_give_no_values():
    found = score_columns({"scores": np.ones((0, 3), np.float32)}, "classification")

    assert {len(values) for values in found.values()} == {0}


def test_a_regression_gives_its_single_numbers():
    found = score_columns({"price": np.array([[1.0], [2.0]]), "vector": np.zeros((2, 8))}, "regression")

    assert list(found) == ["scores.price"]
    assert found["scores.price"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("outputs", [{}, {"other": np.zeros((2, 3))}, {"scores": np.zeros(3)}])
def test_a_classifier_without_scores_is_refused(outputs):
    with pytest.raises(InputError, match="expected 'scores'"):
        score_columns(outputs, "classification")

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from shoal.demo import plots


def test_losses_name_every_candidate():
    drawn = _parse(plots.losses({"plain": ([1, 2, 3], [2.0, 1.0, 0.5]), "dropout": ([1, 2, 3], [2.1, 1.2, 0.7])}))

    assert {"plain", "dropout", "step", "training loss"} <= _texts(drawn)


def test_confusion_shows_recall_on_the_diagonal():
    drawn = _parse(plots.confusion(np.array([[9, 1], [0, 10]]), ["cat", "dog"]))

    assert {"90", "10", "100", "cat", "dog"} <= _texts(drawn)


def test_latency_marks_median_and_99th():
    drawn = _parse(plots.latency(np.linspace(1.0, 10.0, 500)))

    assert any("p50" in text for text in _texts(drawn))
    assert any("p99" in text for text in _texts(drawn))


def test_drift_draws_each_score_against_its_threshold():
    drawn = _parse(plots.drift({"image.mean": [0.01, 0.2]}, {"image.mean": 0.1}, changed_at=1))

    assert "image.mean" in _texts(drawn)


def test_accuracies_are_written_beside_their_bars():
    drawn = _parse(plots.accuracies({"before": 0.9, "during": 0.4, "after": 0.8}))

    assert {"90.0 %", "40.0 %", "80.0 %"} <= _texts(drawn)


def test_equal_figures_give_equal_bytes():
    bars = {"before": 0.9}

    assert plots.accuracies(bars) == plots.accuracies(bars)


def _parse(svg):
    return ElementTree.fromstring(svg)


def _texts(root):
    return {text for element in root.iter() if (text := "".join(element.itertext()).strip())}

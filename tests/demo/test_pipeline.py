import pytest

pytest.importorskip("torch")

from shoal.demo.pipeline import MARGIN, choose, split


def test_each_row_is_on_one_side(garments):
    parts = split(garments)

    sizes = [side.num_rows for side in (parts.train, parts.validation, parts.test, parts.live)]
    assert sum(sizes) == garments.num_rows
    assert sizes[0] > 0.6 * garments.num_rows


def test_the_best_candidate_is_chosen_where_it_beats_the_baseline():
    candidates = [{"name": "plain", "accuracy": 0.88}, {"name": "dropout", "accuracy": 0.90}]

    assert choose({"name": "baseline", "accuracy": 0.80}, candidates)["name"] == "dropout"


def test_the_baseline_stays_where_none_earns_its_cost():
    baseline = {"name": "baseline", "accuracy": 0.90 - MARGIN / 2}

    assert choose(baseline, [{"name": "plain", "accuracy": 0.90}]) is baseline

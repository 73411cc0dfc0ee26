import numpy as np
import pytest

from shoal.demo.closing import explain, print_table, score
from shoal.demo.scene import MODEL
from shoal.demo.traffic import send


@pytest.mark.slow
def test_scores_every_row_anew(scene, package, garments):
    first = score(scene, package, garments)

    assert first == score(scene, package, garments) == garments.num_rows


@pytest.mark.slow
def test_a_prediction_leads_back_to_its_sources(scene, garments):
    answers = send(scene.running.url, MODEL, garments.take(np.arange(5))["image"])
    scene.running.sync_log()

    found = explain(scene, answers.ids[3])

    assert found.model == "fashion@1"
    assert found.dataset == garments.address
    assert len(found.shards) == 2
    assert [source["rows"] for source in found.sources] == [1500, 1500]


def test_the_table_names_what_failed_and_what_came_back(display, console, summary):
    print_table(display, summary)

    text = console.export_text()
    assert "0.910 -> 0.400 -> 0.800" in text
    assert "0 in 53 clean windows" in text

import numpy as np
import pytest

import shoal.data
import shoal.model
from shoal.demo import retraining
from shoal.demo.scene import MODEL, register
from shoal.demo.traffic import send
from shoal.watch import label_many

pytestmark = pytest.mark.slow


@pytest.fixture
def rival(scene, package, tmp_path):
    """A second version with gates passed; it answers as the first does."""
    other = shoal.model.amend(package, metrics={"round": 2.0}, path=tmp_path / "rival")
    report = shoal.model.gate(other, [shoal.model.AtLeast("accuracy", 0.5)], metrics={"accuracy": 0.7})
    return register(scene, other, 0.7), report


def test_labelled_traffic_becomes_a_new_version_once(scene, garments, images, tmp_path):
    data = shoal.data.ingest(garments, tmp_path / "fashion")
    answers = send(scene.running.url, MODEL, images)
    scene.running.sync_log()
    label_many(zip(answers.ids, [3] * len(images), strict=True), store=scene.store)

    grown = retraining.append_labelled(scene, data, since_row=0)
    again = retraining.append_labelled(scene, data, since_row=0)

    assert (grown.version, grown.num_rows) == (2, data.num_rows + len(images))
    assert again.digest == grown.digest


def test_a_canary_gets_its_share_and_is_compared_by_labels(scene, rival, garments):
    version, report = rival
    rows = garments.take(np.arange(400))

    seen = retraining.run_canary(scene, version, report, rows["image"], rows["label"])

    assert seen.failed == 0
    assert 30 <= seen.canary_requests <= 140
    assert 0.0 <= seen.canary <= 1.0


def test_rolling_back_and_forward_under_traffic_fails_no_request(scene, rival, garments):
    version, report = rival
    retraining.promote(scene, version, report)

    failed = retraining.swing(scene, garments.take(np.arange(300))["image"])

    assert failed == 0
    assert scene.store.models.aliases(MODEL)["production"] == version.version


def test_a_candidate_is_told_in_one_line():
    told = retraining.describe({"name": "plain", "run": "r-0002", "accuracy": 0.8951})

    assert told.split() == ["plain", "r-0002", "validation", "accuracy", "0.895"]

import numpy as np
import pytest

from shoal.demo.scene import MODEL
from shoal.demo.traffic import Answers, send, traffic

pytestmark = pytest.mark.slow


def test_every_image_gets_its_own_answer_and_id(scene, garments):
    rows = garments.take(np.arange(64))

    answers = send(scene.running.url, MODEL, rows["image"], concurrency=4)

    assert answers.failures == []
    assert len(set(answers.ids)) == 64
    assert set(answers.versions) == {"1"}
    assert answers.accuracy(rows["label"]) > 0.4
    assert 0 < answers.percentile_ms(50) <= answers.percentile_ms(99)


def test_a_refused_request_counts_as_failed(scene, images):
    answers = send(scene.running.url, "nobody", images)

    assert answers.num_failed == len(images)
    assert answers.failures[0].startswith("404")
    assert answers.accuracy(np.full(len(images), -1)) == 1.0


def test_a_server_that_is_not_there_counts_as_failed(images):
    assert send("http://127.0.0.1:9", MODEL, images[:3]).num_failed == 3


def test_traffic_runs_beside_its_block(scene, images):
    with traffic(scene.running.url, MODEL, images) as sent:
        assert not sent.cancelled()

    assert sent.result().num_failed == 0


def test_a_failed_request_gets_no_label():
    answers = Answers(classes=np.array([3, -1]), latency_ms=np.ones(2), ids=["fashion@1.a.0", ""])

    assert answers.labelled(np.array([4, 5])) == [("fashion@1.a.0", 4)]


def test_no_answers_have_no_percentile():
    assert np.isnan(Answers(classes=np.full(2, -1), latency_ms=np.zeros(2)).percentile_ms(50))

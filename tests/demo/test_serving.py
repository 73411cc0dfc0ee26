import numpy as np
import pytest

from shoal.demo.serving import serve_and_kill

pytestmark = pytest.mark.slow


def test_a_killed_replica_loses_no_request(scene, garments):
    before = scene.running.pids()["replicas"]
    rows = garments.take(np.arange(1500))

    figures, answers = serve_and_kill(scene, rows["image"], rows["label"])

    assert figures.failed_after_kill == 0
    assert len(answers.classes) == 1500
    assert figures.accuracy == answers.accuracy(rows["label"])
    assert scene.running.pids()["replicas"] != before

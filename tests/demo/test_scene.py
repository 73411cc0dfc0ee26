import pytest

from shoal.demo.scene import judge, register

pytestmark = pytest.mark.slow


def test_known_content_keeps_its_version(scene, package):
    assert register(scene, package, 0.7).version == 1


def test_a_model_that_does_not_beat_the_baseline_fails_its_gate(scene, package, garments):
    report = judge(scene, package, garments, accuracy=0.70, beats=0.85)

    assert not report.passed
    assert [result.metric for result in report.failures] == ["accuracy", "accuracy"]


def test_production_is_measured_on_the_candidates_rows(scene, package, garments, console):
    report = judge(scene, package, garments, accuracy=0.95, beats=0.85)

    assert report.passed
    assert "on the same test rows" in console.export_text()


def test_rows_of_the_log_are_counted_from_nothing(scene):
    assert scene.num_logged() == 0

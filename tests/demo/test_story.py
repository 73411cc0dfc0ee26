import pytest

pytest.importorskip("torch")

from shoal.base import SourceError
from shoal.demo.fashion import find_fashion_mnist
from shoal.demo.story import run_demo


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_loop_closes_and_the_second_run_reuses_the_first(tmp_path, monkeypatch):
    try:
        files = find_fashion_mnist(say=lambda _text: None)
    except SourceError as error:
        pytest.skip(str(error))
    monkeypatch.chdir(tmp_path)

    first = run_demo(folder=files)
    second = run_demo(folder=files)

    for summary in (first, second):
        assert summary.test_accuracy >= 0.90
        assert summary.test_accuracy > summary.baseline_accuracy
        assert summary.serving.failed_after_kill == 0
        assert summary.canary_failed_requests == summary.rollback_failed_requests == 0
        assert summary.drift.alert
        assert (summary.drift.false_alerts, summary.drift.clean_windows >= 50) == (0, True)
        lost = summary.drift.accuracy_before - summary.drift.accuracy_during
        assert summary.drift.accuracy_after - summary.drift.accuracy_during >= lost / 2
        assert summary.why.model == "fashion@1"
        assert len(summary.why.sources) == 4
    assert first.steps_reused >= 3
    assert second.steps_run == 0
    assert (tmp_path / ".shoal" / "demo" / "report.html").stat().st_size > 50_000

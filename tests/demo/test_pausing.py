import io

import pytest

from shoal.demo.pausing import invite


@pytest.mark.slow
def test_traffic_runs_until_the_reader_goes_on(scene, images, console, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))

    invite(scene, images)

    text = console.export_text()
    assert f"kill -9 {scene.running.pids()['replicas'][0]}" in text
    assert "40 requests, 0 failed" in text

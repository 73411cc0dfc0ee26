import json


def test_every_agreed_key_is_in_the_file(summary, tmp_path):
    summary.write(tmp_path / "summary.json")

    found = json.loads((tmp_path / "summary.json").read_text())

    assert set(found) >= {
        *("test_accuracy", "baseline_accuracy", "quantized", "serving", "drift", "rollback_failed_requests"),
        *("steps_reused", "why", "total_s"),
    }
    assert set(found["quantized"]) >= {"accuracy", "speedup", "kept"}
    assert set(found["serving"]) >= {"rps", "p50_ms", "p99_ms", "failed_after_kill"}
    assert set(found["drift"]) >= {
        *("alert", "false_alerts", "windows_to_alert", "accuracy_before", "accuracy_during", "accuracy_after"),
    }
    assert set(found["why"]) >= {
        *("input_shard", "input_row", "model", "run", "code", "dataset", "shards", "sources"),
    }

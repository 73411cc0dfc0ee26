import pytest

from shoal.base import ConfigError, InputError, PackageError, SchemaError
from shoal.compress import quantization as module
from shoal.compress import quantize
from shoal.model import Latency, evaluate, open_package, package, training_profile


@pytest.fixture
def timed(monkeypatch):
    """Latencies as the test wants them, in the order float, then variants."""

    def set_times(*milliseconds):
        found = [Latency(p50_ms=value, p99_ms=value, mean_ms=value) for value in milliseconds]
        monkeypatch.setattr(module, "measure_interleaved", lambda packages, repeats: found[: len(packages)])

    return set_times


def test_a_faster_package_of_the_same_accuracy_is_kept(packaged, dataset, tmp_path, timed):
    timed(1.0, 0.8, 0.5)

    found = quantize(packaged, calibrate=dataset, label="label", max_loss=0.02, path=tmp_path / "int8")

    assert found.kept
    assert found.speedup == 2.0
    assert found.accuracy_before > 0.9
    assert found.accuracy_before - found.accuracy_after <= 0.02
    assert open_package(tmp_path / "int8") == found.package
    assert found.package.signature == packaged.signature


def test_the_kept_package_knows_where_it_comes_from(packaged, dataset, tmp_path, timed):
    timed(1.0, 0.5, 0.5)

    kept = quantize(packaged, calibrate=dataset, label="label", max_loss=0.02, path=tmp_path / "int8").package

    assert kept.manifest.parent == packaged.digest
    assert (kept.manifest.run, kept.manifest.dataset) == (packaged.manifest.run, packaged.manifest.dataset)
    assert kept.metrics == evaluate(kept, dataset, label="label").metrics()
    assert kept.profile == training_profile(kept, dataset, dataset)
    assert kept.profile != packaged.profile


def test_the_float_package_stays_where_int8_is_slower(packaged, dataset, tmp_path, timed):
    timed(1.0, 1.5, 1.25)

    found = quantize(packaged, calibrate=dataset, label="label", max_loss=0.02, path=tmp_path / "int8")

    assert not found.kept
    assert found.package is packaged
    assert "does not pay" in found.reason
    assert (found.latency_before_ms, found.latency_after_ms, found.speedup) == (1.0, 1.25, 0.8)
    assert not (tmp_path / "int8").exists()


def test_the_float_package_stays_where_int8_is_less_accurate(packaged, dataset, monkeypatch, tmp_path, timed):
    timed(1.0, 0.1, 0.1)
    real = evaluate

    def worse(judged, *arguments, **options):
        found = real(judged, *arguments, **options)
        if judged is not packaged:
            object.__setattr__(found, "accuracy", found.accuracy - 0.1)
        return found

    monkeypatch.setattr(module, "evaluate", worse)

    found = quantize(packaged, calibrate=dataset, label="label", path=tmp_path / "int8")

    assert not found.kept
    assert "not accurate enough" in found.reason
    assert list(tmp_path.iterdir()) == []


def test_accuracy_is_judged_on_held_out_rows(packaged, dataset, timed):
    timed(1.0, 1.0, 1.0)
    train, held_out = dataset.split(0.5, 0.5)

    found = quantize(packaged, calibrate=train, held_out=held_out, label="label")

    assert found.accuracy_before == evaluate(packaged, held_out, label="label").accuracy


def test_the_latencies_are_real_when_nobody_gives_them(packaged, dataset, tmp_path):
    found = quantize(packaged, calibrate=dataset, label="label", repeats=5, path=tmp_path / "int8")

    assert found.latency_before_ms > 0
    assert found.latency_after_ms > 0


def test_an_int8_package_is_not_quantised_again(packaged, dataset, tmp_path, timed):
    timed(1.0, 0.5, 0.5)
    kept = quantize(packaged, calibrate=dataset, label="label", max_loss=0.02, path=tmp_path / "int8").package

    with pytest.raises(PackageError, match="quantised already"):
        quantize(kept, calibrate=dataset, label="label")


def test_only_classifiers_are_quantised(graph, rows, dataset, tmp_path):
    numbers = package(graph, example=rows, kind="regression", path=tmp_path / "p")

    with pytest.raises(InputError, match="expected classification"):
        quantize(numbers, calibrate=dataset, label="label")


def test_a_missing_label_is_named(packaged, dataset):
    with pytest.raises(SchemaError, match="truth"):
        quantize(packaged, calibrate=dataset, label="truth")


@pytest.mark.parametrize("wrong", [{"max_loss": -0.1}, {"min_speedup": -1}, {"num_calibration_rows": 0}])
def test_wrong_limits_are_refused(packaged, dataset, wrong):
    with pytest.raises(ConfigError, match="must be >= 0"):
        quantize(packaged, calibrate=dataset, label="label", **wrong)

import json

import pytest

from shoal.model import open_package


@pytest.mark.slow
def test_reports_both_sides_and_the_package_to_go_on_with(shoal, packaged, dataset, tmp_path):
    (tmp_path / ".shoal").mkdir()

    found = json.loads(shoal("compress", "run", packaged.path, "--calibrate", dataset.path, "--json").out)

    assert set(found) == {
        "package", "kept", "reason", "accuracy_before", "accuracy_after", "latency_before_ms", "latency_after_ms",
        "speedup",
    }  # fmt: skip
    # Whether int8 pays depends on the machine; what is said of it must fit.
    chosen = open_package(found["package"])
    assert (chosen.digest != packaged.digest) == found["kept"]
    assert found["accuracy_before"] > 0.9


@pytest.mark.slow
def test_text_ends_with_the_way_into_the_registry(shoal, packaged, dataset):
    done = shoal(
        "compress", "run", packaged.path, "--calibrate", dataset.path, "--held-out", dataset.path, "--max-loss", 0
    )

    assert done.code == 0
    assert "\nreason    " in done.out
    assert "\nnext  shoal model register NAME " in done.out


@pytest.mark.slow
def test_a_missing_label_column_fails_with_the_next_step(shoal, packaged, dataset):
    done = shoal("compress", "run", packaged.path, "--calibrate", dataset.path, "--label", "truth")

    assert done.code == 1
    assert "truth" in done.err
    assert "\nnext   " in done.err


@pytest.mark.parametrize("arguments", [[], ["nowhere", "--calibrate", "rows"]])
def test_a_missing_package_is_wrong_usage(shoal, arguments):
    assert shoal("compress", "run", *arguments).code == 2


def test_calibration_data_is_needed(shoal, packaged):
    done = shoal("compress", "run", packaged.path)

    assert done.code == 2
    assert "--calibrate" in done.err

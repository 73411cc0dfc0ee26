from pathlib import Path

import numpy as np
import pytest

from shoal.base import UnsupportedError
from shoal.data import ingest


def test_tensors_become_lists_of_fixed_length(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    dataset = ingest({"image": images, "x": np.arange(4)}, tmp_path / "a", num_shards=2)

    exported = dataset.to_huggingface()

    order = dataset.arrays(["x"])["x"]
    assert np.array_equal(np.array(exported["image"], np.uint8), images[order])
    assert dataset.to_huggingface(["x"]).column_names == ["x"]


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ingest({"x": np.arange(4)}, tmp_path / "a")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)

    with pytest.raises(UnsupportedError, match="datasets is not installed"):
        dataset.to_huggingface()

from pathlib import Path

import numpy as np
import pytest

import shoal.store
from shoal.base import InputError
from shoal.watch import label, label_many


def test_label_is_found_by_its_prediction(store):
    label("fashion@1.abcdef.0", 7, store=store)

    assert store.labels.get(["fashion@1.abcdef.0", "fashion@1.abcdef.1"]) == {"fashion@1.abcdef.0": 7}


def test_later_label_corrects_an_earlier_one(store):
    label("fashion@1.abcdef.0", 7, store=store)
    label("fashion@1.abcdef.0", 8, store=store)

    assert store.labels.get(["fashion@1.abcdef.0"]) == {"fashion@1.abcdef.0": 8}
    assert store.labels.count() == 1


def test_many_labels_come_as_pairs_or_as_a_mapping(store):
    ids = [f"fashion@1.abcdef.{row}" for row in range(4)]

    assert label_many(zip(ids[:2], np.array([1, 2], np.uint8), strict=True), store=store) == 2
    assert label_many({ids[2]: "coat", ids[3]: np.float32(0.5)}, store=store) == 2

    assert list(store.labels.get(ids).values()) == [1, 2, "coat", 0.5]


def test_one_bad_id_keeps_all_labels_out(store):
    with pytest.raises(InputError, match="nonsense"):
        label_many({"fashion@1.abcdef.0": 1, "nonsense": 2}, store=store)

    assert store.labels.count() == 0


def test_nearest_store_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SHOAL_STORE", raising=False)
    monkeypatch.delenv("SHOAL_HOME", raising=False)
    monkeypatch.chdir(tmp_path)

    label("fashion@1.abcdef.0", 7)

    with shoal.store.open(tmp_path / ".shoal") as store:
        assert store.labels.count("fashion") == 1

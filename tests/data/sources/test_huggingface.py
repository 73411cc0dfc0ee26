import io
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from shoal.base import SourceError
from shoal.data import HuggingFaceSource, Source, ingest
from shoal.data.sources.huggingface import is_huggingface
from shoal.testing import SourceContract

Rows = Callable[[Source], list[dict[str, object]]]


def make() -> datasets.Dataset:
    features = datasets.Features({"x": datasets.Value("int64"), "label": datasets.ClassLabel(names=["cat", "dog"])})
    return datasets.Dataset.from_dict({"x": [1, 2, 3], "label": [0, 1, -1]}, features=features)


class TestHuggingFaceSource(SourceContract):
    @pytest.fixture
    def make_source(self) -> Callable[[], Source]:
        return lambda: HuggingFaceSource(make())


def test_class_labels_keep_their_names(rows_of: Rows) -> None:
    assert rows_of(HuggingFaceSource(make())) == [
        {"x": 1, "label": 0, "label_name": "cat"},
        {"x": 2, "label": 1, "label_name": "dog"},
        {"x": 3, "label": -1, "label_name": None},
    ]


def test_chosen_and_reordered_rows_come_as_chosen(rows_of: Rows) -> None:
    assert [row["x"] for row in rows_of(HuggingFaceSource(make().select([2, 0])))] == [3, 1]


def test_streams_are_read_too(rows_of: Rows) -> None:
    streamed = datasets.IterableDataset.from_generator(lambda: iter([{"x": 1}, {"x": 2}]))

    assert rows_of(HuggingFaceSource(streamed)) == [{"x": 1}, {"x": 2}]


def test_images_are_the_bytes_of_their_files(tmp_path: Path, rows_of: Rows) -> None:
    out = io.BytesIO()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(out, "PNG")
    (tmp_path / "a.png").write_bytes(out.getvalue())
    features = datasets.Features({"image": datasets.Image()})
    images = [{"bytes": out.getvalue(), "path": None}, {"bytes": None, "path": str(tmp_path / "a.png")}]

    rows = rows_of(HuggingFaceSource(datasets.Dataset.from_dict({"image": images}, features=features)))

    assert rows == [{"image": out.getvalue()}] * 2


def test_arrays_of_one_shape_are_tensors() -> None:
    features = datasets.Features({"a": datasets.Array2D((2, 3), "float32")})
    given = datasets.Dataset.from_dict({"a": np.arange(12.0).reshape(2, 2, 3).tolist()}, features=features)

    batch = next(HuggingFaceSource(given).record_batches())

    assert batch.schema.field("a").type == pa.fixed_shape_tensor(pa.float32(), (2, 3))
    assert batch.column("a").to_numpy_ndarray()[1, 1].tolist() == [9, 10, 11]


def test_a_dict_of_splits_asks_for_one() -> None:
    with pytest.raises(SourceError, match="splits 'train', 'test'"):
        HuggingFaceSource(datasets.DatasetDict({"train": make(), "test": make()}))


def test_is_told_by_its_class_alone() -> None:
    assert is_huggingface(make())
    assert not is_huggingface({"x": 1})


def test_a_dataset_goes_there_and_back(tmp_path: Path) -> None:
    dataset = ingest({"image": np.arange(24, dtype=np.uint8).reshape(2, 2, 3, 2), "t": ["a", "b"]}, tmp_path / "a")

    exported = dataset.to_huggingface()
    again = ingest(exported, tmp_path / "b")

    assert exported.column_names == ["image", "t"]
    assert again.digest == dataset.digest

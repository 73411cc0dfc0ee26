from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import InputError, SourceError, digest_file
from shoal.data import IdxSource, Source
from shoal.testing import SourceContract

Pair = Callable[..., tuple[Path, Path]]


class TestIdxSource(SourceContract):
    @pytest.fixture
    def make_source(self, idx_pair: Pair) -> Callable[[], Source]:
        return lambda: IdxSource(*idx_pair())


def read(source: IdxSource) -> pa.Table:
    return pa.Table.from_batches(source.record_batches())


def test_gives_images_with_their_labels(idx_pair: Pair) -> None:
    table = read(IdxSource(*idx_pair()))

    assert table.schema.field("image").type == pa.fixed_shape_tensor(pa.uint8(), (4, 3))
    assert table.schema.field("label").type == pa.int64()
    assert table.num_rows == 50


def test_several_pairs_follow_each_other_and_each_file_is_told(idx_pair: Pair) -> None:
    train, test = idx_pair("train", 30), idx_pair("t10k", 20)
    source = IdxSource([train[0], test[0]], [train[1], test[1]])

    num_rows = read(source).num_rows

    assert num_rows == 50
    assert [(fact.path, fact.num_rows) for fact in source.facts()] == [
        (str(train[0]), 30),
        (str(train[1]), 30),
        (str(test[0]), 20),
        (str(test[1]), 20),
    ]
    assert source.facts()[0].digest == digest_file(train[0])


@pytest.mark.parametrize(("max_rows", "told"), [(10, [10, 10]), (35, [30, 30, 5, 5]), (99, [30, 30, 20, 20])])
def test_stops_after_max_rows(idx_pair: Pair, max_rows: int, told: list[int]) -> None:
    train, test = idx_pair("train", 30), idx_pair("t10k", 20)
    source = IdxSource([train[0], test[0]], [train[1], test[1]], max_rows=max_rows)

    assert read(source).num_rows == min(max_rows, 50)
    assert [fact.num_rows for fact in source.facts()] == told


def test_different_counts_are_told_before_any_row(idx_pair: Pair) -> None:
    images, labels = idx_pair("train", 30, num_labels=29)

    with pytest.raises(SourceError, match=f"{images} holds 30 images, and {labels} holds 29 labels"):
        next(IdxSource(images, labels).record_batches())


def test_files_that_do_not_pair_up_are_refused(idx_pair: Pair) -> None:
    images, labels = idx_pair()

    with pytest.raises(InputError, match="1 files of images with 2 files of labels"):
        IdxSource(images, [labels, labels])


def test_columns_bear_the_names_one_wants(idx_pair: Pair) -> None:
    assert read(IdxSource(*idx_pair(), image_column="x", label_column="y")).column_names == ["x", "y"]


def test_fashion_mnist_is_found_in_a_given_folder(idx_pair: Pair, tmp_path: Path) -> None:
    images, labels = idx_pair()
    images.rename(tmp_path / "train-images-idx3-ubyte.gz")
    labels.rename(tmp_path / "train-labels-idx1-ubyte.gz")

    assert read(IdxSource.fashion_mnist(tmp_path)).num_rows == 50


def test_fashion_mnist_is_found_where_the_variable_says(
    idx_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = idx_pair()
    images.rename(tmp_path / "t10k-images-idx3-ubyte.gz")
    labels.rename(tmp_path / "t10k-labels-idx1-ubyte.gz")
    monkeypatch.setenv("SHOAL_FASHION_MNIST", str(tmp_path))

    assert read(IdxSource.fashion_mnist(part="test")).num_rows == 50


def test_missing_fashion_mnist_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=str(tmp_path)) as caught:
        IdxSource.fashion_mnist(tmp_path, "all")

    assert "dataset-fashion-mnist" in caught.value.next_step


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(InputError, match="train, test, all"):
        IdxSource.fashion_mnist(part="validation")  # type: ignore[arg-type]  # what a user may write


def test_images_and_labels_stay_together(idx_pair: Pair) -> None:
    images, labels = idx_pair(num_images=20)

    table = read(IdxSource(images, labels))

    rng = np.random.default_rng(20)
    expected = rng.integers(0, 256, (20, 4, 3), dtype=np.uint8)
    assert np.array_equal(table.column("image").combine_chunks().to_numpy_ndarray(), expected)
    assert table.column("label").to_pylist() == rng.integers(0, 10, 20, dtype=np.uint8).tolist()

import io
import itertools
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shoal.base import ConfigError, InputError
from shoal.data import Dataset, ingest
from shoal.data.loading.assembly import TorchLoading
from shoal.data.loading.order import EpochOrder
from shoal.data.prepare.cast import Cast
from shoal.data.prepare.preparation import Preparation
from shoal.data.sampling.stratified import Stratified


def rows_of(loader: object) -> list[int]:
    return [label for batch in loader for label in batch["label"].tolist()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("format", ["numpy", "arrow"])
def test_every_format_gives_the_same_rows(dataset: Dataset, format: str) -> None:
    expected = rows_of(dataset.loader(batch_size=64, shuffle=True, format="numpy"))

    batches = list(dataset.loader(batch_size=64, shuffle=True, format=format))  # type: ignore[arg-type]

    labels = [batch["label"] if format == "numpy" else batch.column("label") for batch in batches]
    assert [label for column in labels for label in (column.tolist() if format == "numpy" else column.to_pylist())] == (
        expected
    )


def test_neither_the_number_of_shards_nor_cache_nor_ranks_nor_threads_change_a_batch(
    tmp_path: Path, make_rows: Callable[..., dict[str, np.ndarray]]
) -> None:
    datasets = [ingest(make_rows(300), tmp_path / str(count), num_shards=count) for count in (1, 7)]
    expected = [batch["user"].tolist() for batch in datasets[0].loader(batch_size=32, shuffle=True, format="numpy")]

    for dataset, cache, prefetch, world_size in itertools.product(datasets, ("none", "memory"), (False, True), (1, 3)):
        loaders = [
            dataset.loader(batch_size=32, shuffle=True, format="numpy", cache=cache, prefetch=prefetch, rank=rank,
                           world_size=world_size)  # type: ignore[arg-type]  # names
            for rank in range(world_size)
        ]  # fmt: skip
        joined = [[user for part in parts for user in part["user"]] for parts in zip(*loaders, strict=True)]

        assert joined == expected


def test_a_window_reads_few_shards_at_a_time_and_every_row_once(dataset: Dataset) -> None:
    loader = dataset.loader(batch_size=50, window=1, format="numpy", columns=["label", "user"])

    users = [user for batch in loader for user in batch["user"]]

    stored = dataset.arrays(["user"])["user"].tolist()
    borders = np.cumsum([shard.num_rows for shard in dataset.shards])
    shards = np.searchsorted(borders, [stored.index(user) for user in users], side="right")
    assert sorted(users) == sorted(stored)
    assert np.count_nonzero(np.diff(shards)) == len(dataset.shards) - 1


def test_the_datasets_own_preparation_is_applied_unless_told_otherwise(dataset: Dataset) -> None:
    prepared = dataset.prepare(Preparation(columns={"label": [Cast("float32")]}))

    given = next(iter(prepared.loader(batch_size=8, format="numpy")))
    raw = next(iter(prepared.loader(batch_size=8, format="numpy", prepare=False)))
    some = next(iter(prepared.loader(batch_size=8, format="numpy", columns=["label"])))

    assert given["label"].dtype == np.float32
    assert raw["label"].dtype == np.int64
    assert list(some) == ["label"]
    assert given["label"].tolist() == raw["label"].tolist() == some["label"].tolist()


def test_images_are_decoded_on_the_way(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 6, 5), dtype=np.uint8)
    blobs = []
    for each in pixels:
        sink = io.BytesIO()
        image.fromarray(each).save(sink, "PNG")
        blobs.append(sink.getvalue())
    dataset = ingest({"image": np.array(blobs, object), "label": np.arange(20)}, tmp_path / "images")

    batches = list(dataset.loader(batch_size=8, shuffle=True, format="numpy", decode={"image": "png"}))

    found = {int(label): each for batch in batches for label, each in zip(batch["label"], batch["image"], strict=True)}
    assert all(np.array_equal(found[label], pixels[label]) for label in range(20))


def triple(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"label": batch["label"] * 3, "image": batch["image"]}


def test_finished_batches_are_kept_on_disk_for_an_epoch_that_is_run_again(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = [label * 3 for label in rows_of(dataset.loader(batch_size=64, shuffle=True, format="numpy"))]

    def run() -> list[int]:
        return rows_of(dataset.loader(batch_size=64, shuffle=True, format="numpy", cache="disk", transform=triple))

    first = run()
    for shard in dataset.shards:
        dataset.shard_path(shard).unlink()

    assert run() == first == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cache": "disk", "format": "arrow"}, "not Arrow's"),
        ({"cache": "ssd"}, "cache='ssd'"),
        ({"window": 2, "order": EpochOrder(500, seed=0, shuffle=True)}, "window and order"),
        ({"shuffle": True, "order": EpochOrder(500, seed=0, shuffle=True)}, "shuffle=True and order"),
        ({"prepare": True}, "has no preparation"),
        ({"prefetch": "always"}, "prefetch='always'"),
        ({"decode": ["image"]}, "decode=\\['image'\\]"),
        ({"transform": "x"}, "transform='x'"),
        ({"order": "stratified"}, "order='stratified'"),
        ({"order": Stratified}, "must be an order"),
        ({"prepare": Preparation(columns={})}, "must be a fitted preparation"),
        ({"window": 1.5}, "window=1.5"),
    ],
)
def test_settings_that_contradict_are_refused(dataset: Dataset, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dataset.loader(**{"batch_size": 8, "format": "numpy", **options})  # type: ignore[arg-type]  # what a user may write


@pytest.mark.parametrize("prepared", [False, True])
def test_one_name_is_no_list_of_columns(dataset: Dataset, prepared: bool) -> None:
    if prepared:
        dataset = dataset.prepare(Preparation(columns={"label": [Cast("float32")]}))

    with pytest.raises(InputError, match="columns='label' must be a list of names"):
        dataset.loader(batch_size=8, columns="label")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"colums": ["label"]}, "no option 'colums'.*did you mean columns"),
        ({"rank": 0, "world_size": 2}, "found out by as_torch"),
        ({"shuffle": "yes"}, "shuffle='yes'"),
        ({"decode": ["image"]}, "decode="),
    ],
)
def test_what_is_wrong_for_torch_is_said_before_anything_is_read(
    dataset: Dataset, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        TorchLoading(dataset, options.pop("batch_size", 8), options)


def test_a_declared_order_and_no_padding_are_fine_for_torch(dataset: Dataset) -> None:
    options = {"order": Stratified("label"), "pad": None, "shuffle": False}

    assert pickle.loads(pickle.dumps(TorchLoading(dataset, 8, options))).options == options


def test_a_sample_that_cannot_be_decoded_is_named_by_its_row_in_the_dataset(tmp_path: Path) -> None:
    dataset = ingest({"blob": np.array([b"ok"] * 9 + [b"bad"], object)}, tmp_path / "blobs")

    def decode(content: bytes) -> np.ndarray:
        assert content == b"ok", "damaged"
        return np.frombuffer(content, np.uint8)

    loader = dataset.loader(batch_size=10, shuffle=True, format="numpy", decode={"blob": decode})

    with pytest.raises(InputError) as failed:
        next(iter(loader))

    number = int(re.search(r"dataset\.row\((\d+)\)", str(failed.value.next_step))[1])  # type: ignore[index]  # it is there
    assert dataset.row(number)["blob"] == b"bad"
    assert f"row {number} of the dataset" in str(failed.value)

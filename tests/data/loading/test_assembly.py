import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shoal.base import ConfigError
from shoal.data import Dataset, ingest
from shoal.data.loading.order import EpochOrder
from shoal.data.prepare.cast import Cast
from shoal.data.prepare.preparation import Preparation


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
    ],
)
def test_settings_that_contradict_are_refused(dataset: Dataset, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dataset.loader(**{"batch_size": 8, "format": "numpy", **options})  # type: ignore[arg-type]  # what a user may write

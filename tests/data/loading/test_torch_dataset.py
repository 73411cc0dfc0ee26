import multiprocessing
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shoal.base import ConfigError, UnsupportedError
from shoal.data import Dataset, ingest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow  # importing torch takes seconds

COLUMNS = ["image", "label"]


def labels(batches: object) -> list[list[int]]:
    return [batch["label"].tolist() for batch in batches]  # type: ignore[attr-defined]  # any iterable of batches


def native(dataset: Dataset, num_epochs: int = 1, **options: object) -> list[list[int]]:
    loader = dataset.loader(batch_size=64, shuffle=True, columns=COLUMNS, **options)  # type: ignore[arg-type]
    return [batch for _ in range(num_epochs) for batch in labels(loader)]


def plain(dataset: object, **options: object) -> torch.utils.data.DataLoader:
    # Forking a process that has threads, as one with torch has, is what Python warns of.
    context = multiprocessing.get_context("spawn") if options.get("num_workers") else None
    return torch.utils.data.DataLoader(dataset, multiprocessing_context=context, **options)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_plain_data_loader_gives_the_loaders_batches_epoch_after_epoch(dataset: Dataset, num_workers: int) -> None:
    batches = plain(
        dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS), batch_size=None, num_workers=num_workers
    )

    found = labels(batches) + labels(batches)

    assert found == native(dataset, 2)


def test_batch_size_counts_rows_over_all_processes(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    for rank in range(4):
        group = SimpleNamespace(
            is_available=lambda: True,
            is_initialized=lambda: True,
            get_rank=lambda rank=rank: rank,
            get_world_size=lambda: 4,
        )
        monkeypatch.setitem(__import__("sys").modules, "torch.distributed", group)
        parts.append(labels(dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS)))
        monkeypatch.undo()

    assert [len(batch) for batch in parts[0]][:3] == [16, 16, 16]
    assert [[row for part in together for row in part] for together in zip(*parts, strict=True)] == native(dataset)


def test_set_epoch_chooses_the_next_epoch(dataset: Dataset) -> None:
    batches = dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS)

    batches.set_epoch(1)

    assert labels(batches) == native(dataset, 2)[len(batches) :]


def test_a_state_continues_in_the_native_loader_and_back(dataset: Dataset) -> None:
    batches = dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS)
    iterator = iter(batches)
    first = [next(iterator)["label"].tolist() for _ in range(3)]
    loader = dataset.loader(batch_size=64, shuffle=True, columns=COLUMNS)
    loader.load_state_dict(batches.state_dict())
    again = dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS)
    again.load_state_dict(batches.state_dict())

    assert first + labels(loader) == native(dataset)
    assert first + labels(again) == native(dataset)


@pytest.mark.parametrize("workers", [(1, 2, 0, 2), (2, 0, 1), (0, 2)])
def test_the_number_of_workers_may_change_between_epochs(dataset: Dataset, workers: tuple[int, ...]) -> None:
    batches = dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS)

    found = [batch for count in workers for batch in labels(plain(batches, batch_size=None, num_workers=count))]

    assert found == native(dataset, len(workers))
    assert batches.state_dict()["epoch"] == len(workers)


def test_workers_that_stay_go_on_from_epoch_to_epoch(dataset: Dataset) -> None:
    batches = dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS)
    loader = plain(batches, batch_size=None, num_workers=2, persistent_workers=True)

    found = labels(loader) + labels(loader)
    batches.set_epoch(5)
    chosen = labels(loader)

    assert found == native(dataset, 2)
    assert chosen == native(dataset, 6)[5 * len(batches) :]


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_a_loaded_state_goes_on_in_the_workers_whatever_trainers_set(dataset: Dataset, num_workers: int) -> None:
    loader = dataset.loader(batch_size=64, shuffle=True, columns=COLUMNS)
    iterator = iter(loader)
    first = [next(iterator)["label"].tolist() for _ in range(3)]
    batches = dataset.as_torch(batch_size=32, shuffle=True, columns=COLUMNS)
    batches.load_state_dict(loader.state_dict())
    batches.set_epoch(0)

    found = [*first, *labels(plain(batches, batch_size=None, num_workers=num_workers))]

    assert found == native(dataset)
    assert labels(plain(batches, batch_size=None, num_workers=num_workers)) == native(dataset, 2)[len(batches) :]


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"num_workers": 2}])
def test_where_workers_stand_is_told_between_epochs_alone(dataset: Dataset, options: dict[str, object]) -> None:
    batches = dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS)
    state = batches.state_dict()
    loader = plain(batches, batch_size=None, **options)

    found = []
    for batch in loader:
        found.append(batch["label"].tolist())
        # Also behind the last batch: whether it is the last is known only when there is no other.
        with pytest.raises(UnsupportedError, match="cannot tell where DataLoader workers stand"):
            batches.state_dict()
    ended = batches.state_dict()
    again = dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS)
    again.load_state_dict({**state, "row": 3 * 64})

    assert (ended["epoch"], ended["row"]) == (1, 0)
    assert found[3:] == labels(again)


def test_an_epoch_that_workers_were_left_in_has_no_state_until_one_is_chosen(dataset: Dataset) -> None:
    batches = dataset.as_torch(batch_size=4, shuffle=True, columns=COLUMNS)
    steps = iter(plain(batches, batch_size=None, num_workers=1))
    next(steps)
    del steps

    with pytest.raises(UnsupportedError, match="workers"):
        batches.state_dict()
    batches.set_epoch(1)

    assert (batches.state_dict()["epoch"], batches.state_dict()["row"]) == (1, 0)


def test_a_process_group_that_comes_up_later_is_found(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS)
    len(batches)
    group = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: 1, get_world_size=lambda: 4
    )
    monkeypatch.setitem(__import__("sys").modules, "torch.distributed", group)

    found = labels(batches)
    sent = pickle.loads(pickle.dumps(batches))
    monkeypatch.undo()

    assert found == [batch[len(batch) // 4 : len(batch) // 2] for batch in native(dataset)]
    assert sent._sender_place == (1, 4)


def stored(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8)


@pytest.mark.filterwarnings("ignore:.*fork")
def test_workers_forked_after_use_have_threads_of_their_own(tmp_path: Path) -> None:
    blobs = ingest({"blob": np.array([bytes([index]) * 3 for index in range(60)], object)}, tmp_path / "blobs")
    batches = blobs.as_torch(batch_size=20, decode={"blob": stored})
    decoders = batches._own_loader()._pipeline.decoders
    assert decoders is not None
    decoders.pool_size.size, decoders.pool_size.limit, decoders.pool_size.is_settled = 2, 2, True
    expected = [batch["blob"].tolist() for batch in batches]

    forked = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=2, multiprocessing_context="fork")

    assert [batch["blob"].tolist() for batch in forked] == expected


@pytest.mark.parametrize("option", [{"rank": 0}, {"prefetch": True}, {"format": "numpy"}])
def test_what_it_finds_out_itself_is_refused(dataset: Dataset, option: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="found out by as_torch"):
        dataset.as_torch(batch_size=4, **option)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_by_number_work_with_a_data_loaders_own_sampler(dataset: Dataset, num_workers: int) -> None:
    rows = dataset.as_torch_rows(COLUMNS)
    sampler = torch.utils.data.SequentialSampler(rows)

    batches = list(plain(rows, batch_size=32, sampler=sampler, num_workers=num_workers))

    stored = dataset.arrays(COLUMNS)
    assert torch.cat([batch["image"] for batch in batches]).tolist() == stored["image"].tolist()
    assert [row for batch in labels(batches) for row in batch] == stored["label"].tolist()
    assert batches[0]["image"].shape == (32, 4, 3)


def test_one_row_by_its_number(dataset: Dataset) -> None:
    rows = dataset.as_torch_rows(COLUMNS)

    assert rows[3]["label"] == dataset.row(3)["label"]
    assert rows[-1]["image"].tolist() == dataset.row(len(rows) - 1)["image"].tolist()
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_one_row_holds_all_of_what_varies_in_length(tmp_path: Path) -> None:
    rows = ingest(
        {"text": np.array(["one", "twenty"], object), "blob": np.array([b"1", b"22"], object),
         "plain_offsets": np.array([7, 8])},
        tmp_path / "rows",
    ).as_torch_rows()  # fmt: skip

    found = [rows[index] for index in range(2)]

    assert sorted(bytes(row["text"].numpy()) for row in found) == [b"one", b"twenty"]
    assert sorted(len(row["blob"]) for row in found) == [1, 2]
    assert sorted(int(row["plain_offsets"]) for row in found) == [7, 8]
    assert found[0]["plain_offsets"].shape == ()
    assert set(found[0]) == {"text", "blob", "plain_offsets"}


def test_a_dataset_travels_to_another_process_without_its_pages(dataset: Dataset) -> None:
    batches = dataset.as_torch(batch_size=64, shuffle=True, columns=COLUMNS)
    next(iter(batches))

    assert len(pickle.dumps(dataset.as_torch_rows(COLUMNS))) < 100_000

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler, TensorDataset

from shoal.base import ConfigError, InputError
from shoal.train.feeds import LOADER_WARNING, DataLoaderFeed, DatasetFeed, count_loader_rows, describe_loader

NUM_ROWS = 23


class Noisy(Dataset):
    """Draws from torch for each row, as augmentation does."""

    def __len__(self):
        return NUM_ROWS

    def __getitem__(self, row):
        return {"row": torch.tensor(row), "noise": torch.rand(2)}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(NUM_ROWS))


def loader(batch_size=5, **options):
    return DataLoader(Noisy(), batch_size=batch_size, shuffle=True, **options)


def epoch_rows(feed, epoch, size):
    stretches = [
        feed.stretch(epoch, first, min(size, feed.num_rows - first), 0, 1) for first in range(0, feed.num_rows, size)
    ]
    return {name: torch.cat([batch[name] for batch in stretches]) for name in stretches[0]}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_dataset_is_read_by_rows_and_parts(datasets):
    feed = DatasetFeed(datasets[0], batch_size=16, seed=3, shuffle=True)

    whole = feed.stretch(1, 5, 12, 0, 1)
    parts = [feed.stretch(1, 5, 12, part, 5) for part in range(5)]

    assert same(whole, {name: torch.cat([part[name] for part in parts]) for name in whole})
    assert feed.num_rows == 53
    plain = DatasetFeed(datasets[0], batch_size=16, seed=3, shuffle=False).stretch(0, 0, 53, 0, 1)
    numbers = torch.from_numpy(feed.row_numbers(1, 5, 12).copy())
    assert torch.equal(whole["features"], plain["features"][numbers])


# What a worker does up to its first batch; it begins when torch is loaded, and waits for everything else.
WORKER = """
import sys
import torch
before = set(sys.modules)
import shoal.train.worker.life
from shoal.base import Ref
from shoal.train.feeds import DatasetFeed
from shoal.train.plan import open_rows
feed = DatasetFeed(open_rows(Ref("dataset", *sys.argv[1:])), batch_size=16, seed=3, shuffle=True)
assert len(feed.stretch(0, 0, 16, 0, 1)["features"]) == 16
print(*(set(sys.modules) - before))
"""
# Each takes as long to load as a dataset to open.
HEAVY = {
    "pyarrow", "pandas", "obstore", "sqlalchemy", "tomllib", "shoal.data.ingestion", "shoal.data.prepare",
    "shoal.data.quality", "shoal.data.remote.objects", "shoal.data.remote.shadow", "shoal.data.sources.opening",
    "shoal.data.statistics", "shoal.data.versions.mirror", "shoal.runtime.code", "shoal.runtime.local",
    "shoal.train.elastic", "shoal.train.record",
}  # fmt: skip


@pytest.mark.slow
def test_a_worker_reads_its_rows_without_loading_what_only_makes_datasets(datasets):
    words = [datasets[0].address, datasets[0].digest]

    done = subprocess.run([sys.executable, "-c", WORKER, *words], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2))
def test_a_loader_gives_the_same_rows_whatever_the_batch_size(loaded, size, epoch):
    whole = epoch_rows(DataLoaderFeed(loader(), seed=1), epoch, NUM_ROWS)

    found = epoch_rows(DataLoaderFeed(loader(loaded), seed=1), epoch, size)

    assert same(found, whole)
    assert sorted(found["row"].tolist()) == list(range(NUM_ROWS))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        tuple(epoch_rows(DataLoaderFeed(loader(), seed=seed), epoch, 8)["row"].tolist())
        for seed, epoch in ((1, 0), (1, 1), (2, 0))
    ]

    assert len(set(orders)) == 3


def test_goes_on_in_the_middle_by_skipping():
    begun = DataLoaderFeed(loader(), seed=1)
    for first in (0, 6):
        begun.stretch(0, first, 6, 0, 1)

    resumed = DataLoaderFeed(loader(), seed=1)

    assert same(resumed.stretch(0, 12, 6, 1, 2), begun.stretch(0, 12, 6, 1, 2))


def test_goes_back_to_rows_that_it_has_passed():
    feed = DataLoaderFeed(loader(), seed=1)
    first = feed.stretch(0, 0, 6, 0, 1)
    feed.stretch(0, 18, 5, 0, 1)

    assert same(feed.stretch(0, 0, 6, 0, 1), first)


def test_leaves_the_models_random_numbers_alone():
    feed = DataLoaderFeed(loader(), seed=1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    feed.stretch(0, 0, 20, 0, 1)

    assert torch.equal(torch.rand(3), expected)


def test_what_was_drawn_before_changes_no_row():
    before = DataLoaderFeed(loader(generator=torch.Generator().manual_seed(1)), seed=1).stretch(0, 0, 9, 0, 1)
    torch.rand(100)

    after = DataLoaderFeed(loader(generator=torch.Generator().manual_seed(2)), seed=1).stretch(0, 0, 9, 0, 1)

    assert same(before, after)


@pytest.mark.slow
def test_the_loaders_own_processes_give_the_same_rows_again():
    data = TensorDataset(torch.arange(NUM_ROWS))
    options = {"shuffle": True, "num_workers": 2, "multiprocessing_context": "spawn"}
    feeds = [DataLoaderFeed(DataLoader(data, batch_size=5, **options), seed=1) for _ in range(2)]

    found = [epoch_rows(feed, 0, size)["0"].tolist() for feed, size in zip(feeds, (7, 10), strict=True)]

    assert found[0] == found[1]
    assert sorted(found[0]) == list(range(NUM_ROWS))


def test_memory_does_not_grow_with_the_epoch():
    feed = DataLoaderFeed(loader(7), seed=1)
    for first in range(0, 20, 2):
        feed.stretch(0, first, 2, 0, 1)

        assert sum(len(batch["row"]) for batch in feed._held) <= 9


def test_tuples_are_columns_by_number():
    data = TensorDataset(torch.arange(6), torch.arange(6) * 2)

    batch = DataLoaderFeed(DataLoader(data, batch_size=4), seed=0).stretch(0, 3, 2, 0, 1)

    assert same(batch, {"0": torch.tensor([3, 4]), "1": torch.tensor([6, 8])})


def test_positions_stand_for_rows():
    assert DataLoaderFeed(loader(), seed=0).row_numbers(2, 4, 3).tolist() == [4, 5, 6]


def test_rows_that_are_dropped_are_not_counted():
    assert count_loader_rows(loader(5, drop_last=True)) == 20
    assert count_loader_rows(loader(5)) == NUM_ROWS


@pytest.mark.parametrize(
    "wrong",
    [
        DataLoader(Stream(), batch_size=5),
        DataLoader(Noisy(), batch_sampler=BatchSampler(SequentialSampler(range(NUM_ROWS)), 5, drop_last=False)),
        DataLoader(Noisy(), batch_size=None),
    ],
    ids=["stream", "batch_sampler", "no batches"],
)
def test_a_loader_that_does_not_say_its_rows_is_refused(wrong):
    with pytest.raises(ConfigError, match="cannot train on a DataLoader"):
        DataLoaderFeed(wrong, seed=0)


def test_a_loader_that_ends_early_is_told():
    class Short(Stream):
        def __len__(self):
            return NUM_ROWS + 1

    feed = DataLoaderFeed(DataLoader(Short(), batch_size=4), seed=0)

    with pytest.raises(InputError, match=r"behind row 23: .* expected 24 rows"):
        feed.stretch(0, 20, 4, 0, 1)


@pytest.mark.parametrize("batch", ["text", {"a": "text"}, {"a": torch.zeros(3), "b": torch.zeros(2)}, {}])
def test_a_batch_without_rows_is_refused(batch):
    feed = DataLoaderFeed(DataLoader(Noisy(), batch_size=4, collate_fn=Collate(batch)), seed=0)

    with pytest.raises(InputError, match="expected a dict or tuple of tensors"):
        feed.stretch(0, 0, 4, 0, 1)


def test_rows_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="has 23 rows"):
        DataLoaderFeed(loader(), seed=0).stretch(0, 20, 4, 0, 1)


def test_the_record_tells_loaders_apart():
    described = describe_loader(loader())

    assert described["num_rows"] == NUM_ROWS
    assert described["dataset"].endswith(":Noisy")
    assert described != describe_loader(loader(6))


def test_the_warning_has_these_words():
    assert LOADER_WARNING == (
        "training reads a DataLoader, so three promises do not hold: every worker reads all rows and uses its part, so "
        "more workers do not read faster; an interrupted epoch goes on by reading its rows again up to that place; and "
        "the weights are the same bits for any number of workers only as far as the loader itself repeats its rows: "
        "what it draws from Python's or NumPy's random numbers, or from a clock, it does not. For all three: "
        "shoal.data.ingest()"
    )


@dataclass(frozen=True)
class Collate:
    batch: object

    def __call__(self, rows):
        return self.batch

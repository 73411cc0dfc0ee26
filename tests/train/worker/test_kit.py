import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from shoal.base import CorruptError, Ref
from shoal.train.feeds import DataLoaderFeed, DatasetFeed
from shoal.train.worker.kit import open_feed


def test_a_dataset_is_read_by_its_words(make_plan, datasets):
    plan = make_plan()

    feed = open_feed(plan.train, plan, shuffle=True)

    assert isinstance(feed, DatasetFeed)
    assert feed.num_rows == 53


def test_a_plain_loader_is_read_as_it_is(make_plan):
    loader = DataLoader(TensorDataset(torch.zeros(10, 2)), batch_size=3)

    feed = open_feed(loader, make_plan(), shuffle=True)

    assert isinstance(feed, DataLoaderFeed)
    assert feed.num_rows == 10


def test_another_dataset_than_the_run_s_is_refused(make_plan):
    plan = make_plan()

    with pytest.raises(CorruptError):
        open_feed(Ref(plan.train.kind, plan.train.address, "b3:other"), plan, shuffle=True)

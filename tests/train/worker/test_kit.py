import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from shoal.base import ConfigError, CorruptError, Ref
from shoal.train.feeds import DataLoaderFeed, DatasetFeed
from shoal.train.worker.kit import build_kit, open_feed
from shoal.train.worker.orders import Orders


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


def test_what_a_worker_computes_on_is_in_its_environment(make_plan):
    orders = Orders(plan=make_plan(), checkpoints="", first=None, device="cpu")

    kit = build_kit(orders, None, None, lambda _: None)

    assert kit.placement.device == torch.device("cpu")
    assert kit.environment["device"] == "cpu"


def test_a_device_that_is_not_there_ends_the_worker(make_plan, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ConfigError, match="finds no GPU"):
        build_kit(Orders(plan=make_plan(), checkpoints="", first=None, device="cuda"), None, None, lambda _: None)

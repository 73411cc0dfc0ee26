from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader

from shoal.base import ConfigError
from shoal.train.defaults import choose_workers, recorded_device, recorded_workers, usual_batch_size


@pytest.mark.parametrize(
    ("cpus", "threads", "expected"),
    [(8, 1, 4), (3, 1, 3), (1, 1, 2), (8, 3, 2)],
    ids=["most", "cpus", "least", "threads"],
)
def test_workers_fit_the_processors_within_their_limits(monkeypatch, cpus, threads, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cpus)), raising=False)

    assert choose_workers(2, 4, threads) == expected


def test_limits_that_are_none_are_refused():
    with pytest.raises(ConfigError, match=r"\(3, 2\)"):
        choose_workers(3, 2, 1)


def test_a_loader_s_own_batch_size_is_the_usual_one(datasets):
    assert usual_batch_size(DataLoader([1, 2, 3], batch_size=32)) == 32
    assert usual_batch_size(datasets[0]) == 64


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({"workers": "2-2"}, 2), ({"workers": "1-4"}, (1, 4)), ({}, 3)],
    ids=["number", "range", "older record"],
)
def test_a_run_remembers_its_workers(environment, expected):
    events = [
        SimpleNamespace(kind="generation", fields={"workers": [0, 1]}),
        SimpleNamespace(kind="worker_lost", fields={}),
        SimpleNamespace(kind="generation", fields={"workers": [0, 1, 2]}),
    ]
    store = SimpleNamespace(runs=SimpleNamespace(events=lambda _: events))

    assert recorded_workers(store, SimpleNamespace(id="r-0001", environment=environment)) == expected


@pytest.mark.parametrize(
    ("environment", "expected"), [({"device": "cuda:1"}, "cuda:1"), ({"device": "auto"}, None), ({}, None)]
)
def test_a_run_remembers_the_device_that_was_asked_for(environment, expected):
    assert recorded_device(SimpleNamespace(environment=environment)) == expected

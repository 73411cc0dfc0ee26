import pytest

from shoal.base import ConfigError
from shoal.train.session import choose_workers


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

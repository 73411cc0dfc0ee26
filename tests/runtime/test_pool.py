"""Beyond the contract: what a pool does when things go wrong around it."""

import pytest

from shoal.base import InputError, WorkerError
from shoal.runtime import starting as starting_module
from shoal.testing import members


def test_workers_are_started_when_they_are_needed(runtime):
    with runtime.pool(4) as pool:
        assert len(pool._workers) == 0

        pool.submit(members.own_pid).result()
        pool.submit(members.own_pid).result()

        assert len(pool._workers) == 1


def test_a_pool_that_cannot_start_any_worker_fails_its_futures(runtime, monkeypatch):
    def refuse(request):
        raise OSError("no room")

    with runtime.pool(2) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(starting_module, "spawn", refuse)
            failed = pool.submit(members.own_pid)

        assert isinstance(failed.exception(), WorkerError)
        assert isinstance(pool.submit(members.own_pid).result(), int)


def test_a_pool_that_cannot_grow_goes_on_with_what_it_has(runtime, monkeypatch):
    real, started = starting_module.spawn, []

    def only_one(request):
        if started:
            raise OSError("no room")
        started.append(real(request))
        return started[-1]

    monkeypatch.setattr(starting_module, "spawn", only_one)

    with runtime.pool(4) as pool:
        pids = {future.result() for future in [pool.submit(members.own_pid) for _ in range(8)]}

    assert pids == {started[0].pid}


def test_a_future_that_is_cancelled_in_time_is_not_run(runtime, tmp_path):
    with runtime.pool(1) as pool:
        first = pool.submit(members.divide, 4, 2)
        second = pool.submit(members.never_end, str(tmp_path / "begun"))
        was_cancelled = second.cancel()

        assert first.result() == 2
        assert was_cancelled
    assert not (tmp_path / "begun").exists()


def test_leaving_the_block_by_an_error_does_not_wait_for_what_runs(runtime, tmp_path):
    futures = []

    def fail_in_the_block():
        with runtime.pool(1) as pool:
            futures.append(pool.submit(members.never_end, str(tmp_path / "begun")))
            raise LookupError

    with pytest.raises(LookupError):
        fail_in_the_block()
    (future,) = futures
    assert isinstance(future.exception(), WorkerError)


def test_a_result_that_cannot_travel_fails_its_future(runtime):
    def make_lock():
        import threading

        return threading.Lock()

    with runtime.pool(1) as pool:
        error = pool.submit(make_lock).exception()

    assert isinstance(error, WorkerError)
    assert isinstance(error.__cause__, InputError)


def test_a_result_that_cannot_be_read_here_fails_its_future(runtime, tmp_path, monkeypatch):
    (tmp_path / "only_there.py").write_text("class Thing:\n    pass\n")

    def make(folder):
        import sys

        sys.path.insert(0, folder)
        from only_there import Thing

        return Thing()

    with runtime.pool(1) as pool:
        error = pool.submit(make, str(tmp_path)).exception()

    assert "cannot be read" in error.message
    assert isinstance(error.__cause__, ModuleNotFoundError)


def test_an_exception_that_cannot_travel_leaves_its_words(runtime):
    def fail():
        class OddError(Exception):
            def __init__(self, one, two):
                super().__init__("two arguments in, one kept")

        raise OddError(1, 2)

    with runtime.pool(1) as pool:
        error = pool.submit(fail).exception()

    assert "two arguments in, one kept" in error.message
    assert error.__cause__ is None


def test_an_error_of_ours_comes_back_with_all_that_it_says(runtime):
    def fail():
        raise InputError("what", next_step="then this")

    with runtime.pool(1) as pool:
        error = pool.submit(fail).exception()

    assert isinstance(error.__cause__, InputError)
    assert error.__cause__.next_step == "then this"


def test_a_callback_may_submit_more(runtime):
    results = []

    with runtime.pool(1) as pool:
        pool.submit(members.divide, 4, 2).add_done_callback(
            lambda future: results.append(pool.submit(members.divide, future.result(), 2))
        )
        while not results:
            pool.submit(members.own_pid).result()

        assert results[0].result() == 1

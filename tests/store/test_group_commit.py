import threading

import pytest

from shoal.base import ShoalError
from shoal.store.group_commit import GroupCommit


def test_many_commits_share_a_sync():
    syncs = []
    group = GroupCommit(lambda: syncs.append(1), interval_s=60)

    for _ in range(100):
        group.soon()
    group.close()

    assert syncs == [1]


def test_sync_comes_by_itself():
    synced = threading.Event()
    group = GroupCommit(synced.set, interval_s=0.001)

    group.soon()

    assert synced.wait(10)
    group.close()


def test_commit_during_a_sync_gets_another_one():
    entered, leave, again = threading.Event(), threading.Event(), threading.Event()

    def sync():
        if entered.is_set():
            again.set()
        entered.set()
        leave.wait(10)

    group = GroupCommit(sync, interval_s=0.001)
    group.soon()
    entered.wait(10)
    group.soon()
    leave.set()

    assert again.wait(10)
    group.close()


def test_a_failed_sync_is_tried_again_and_told_at_close():
    tries, done = [], threading.Event()

    def sync():
        tries.append(1)
        if len(tries) == 1:
            raise OSError(5, "Input/output error")
        done.set()

    group = GroupCommit(sync, interval_s=0.001)
    group.soon()

    assert done.wait(10)
    done.clear()
    group.soon()
    assert done.wait(10)
    with pytest.raises(ShoalError, match="Input/output error"):
        group.close()


def test_nothing_runs_where_nothing_was_written():
    group = GroupCommit(lambda: 1 / 0)

    group.close()
    group.soon()

    assert not any(thread.name == "shoal-group-commit" for thread in threading.enumerate())

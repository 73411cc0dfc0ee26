import dataclasses
from datetime import UTC, datetime

import pytest

from shoal.base import InputError
from shoal.store import MemoEntry

ENTRY = MemoEntry(
    key="k",
    flow="f",
    step="s",
    codec="bytes",
    inline=b"",
    artifact=None,
    explain=None,
    created=datetime(2026, 3, 1, tzinfo=UTC),
    seconds=0.0,
)


def test_empty_result_is_a_result(store):
    store.memo.put(ENTRY)

    assert store.memo.get("k").inline == b""


def test_same_key_twice_in_a_batch_is_one_result(store):
    store.memo.put_many([ENTRY, dataclasses.replace(ENTRY, inline=b"2")])

    assert store.memo.get("k").inline == b"2"


def test_empty_batches_change_nothing(store):
    store.memo.put_many([])

    assert store.memo.get_many([]) == {}
    assert store.memo.claim_many([], "a", 1) == {}


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan")])
def test_claim_needs_time(store, ttl_s):
    with pytest.raises(InputError, match="ttl_s"):
        store.memo.claim("k", "a", ttl_s)


def test_entry_of_a_killed_process_is_there(store, program):
    body = """
import os, signal
from datetime import UTC, datetime
parts = {"key": "k", "flow": "f", "step": "s", "codec": "bytes", "artifact": None, "explain": None, "seconds": 1.0}
store.memo.put(MemoEntry(**parts, inline=b"42", created=datetime.now(UTC)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    with program(body) as process:
        assert process.wait(30) == -9

    assert store.memo.get("k").inline == b"42"

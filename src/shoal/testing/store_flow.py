"""What every store must keep for those that follow it: the memo of flows and the change stream."""

import dataclasses
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shoal.base import ConflictError, InputError, ManualClock
from shoal.store import GateReport, GateResult, Label, MemoEntry, Store

_ENTRY = MemoEntry(
    key="k1",
    flow="nightly",
    step="train",
    codec="json",
    inline=b"\x00[1]",
    artifact=None,
    explain={"code": {"train": "b3:1"}, "inputs": ["b3:2"]},
    created=datetime(2026, 3, 1, 12, tzinfo=UTC),
    seconds=1.5,
)


class FlowContract:
    """The suite for `Memo` and `changes`; part of `StoreContract`, which has the fixtures."""

    def test_memo_entry_comes_back(self, store: Store) -> None:
        """What was put is found under its key, and under no other."""
        store.memo.put(_ENTRY)

        assert store.memo.get("k1") == _ENTRY
        assert store.memo.get("k2") is None

    def test_memo_put_replaces(self, store: Store) -> None:
        """A forced second computation takes the first one's place."""
        newer = dataclasses.replace(_ENTRY, inline=None, artifact="b3:" + "1" * 64)
        store.memo.put(_ENTRY)
        store.memo.put(newer)

        assert store.memo.get("k1") == newer

    def test_memo_holds_one_form_of_a_result(self, store: Store) -> None:
        """Two would be a question which one counts."""
        with pytest.raises(InputError, match="inline"):
            store.memo.put(dataclasses.replace(_ENTRY, artifact="b3:" + "1" * 64))

    def test_last_is_the_one_put_last(self, store: Store) -> None:
        """By the order of putting, of this step in this flow."""
        for key, flow, step in (
            ("k1", "nightly", "train"),
            ("k2", "nightly", "train"),
            ("k3", "hourly", "train"),
            ("k4", "nightly", "test"),
            ("k1", "nightly", "train"),
        ):
            store.memo.put(dataclasses.replace(_ENTRY, key=key, flow=flow, step=step))

        last = store.memo.last("nightly", "train")
        assert last is not None
        assert last.key == "k1"
        assert store.memo.last("nightly", "none") is None

    def test_many_results_are_kept_and_found_at_once(self, store: Store) -> None:
        """As one by one; a claim of a kept key is given back, another owner's or another key's is not."""
        entries = [dataclasses.replace(_ENTRY, key=f"k{index}", step=f"s{index}") for index in range(1200)]
        store.memo.claim_many(["k0", "other"], "a", 10)
        store.memo.claim("k1", "b", 10)
        store.memo.put_many(entries, owner="a")

        assert store.memo.get_many(["k0", "k1199", "none"]) == {"k0": entries[0], "k1199": entries[1199]}
        assert store.memo.claim_many(["k0", "k1", "other"], "c", 10) == {"k0": "c", "k1": "b", "other": "a"}

    def test_many_results_are_kept_all_or_none(self, store: Store) -> None:
        """One that cannot be kept keeps the others out."""
        with pytest.raises(InputError):
            store.memo.put_many([_ENTRY, dataclasses.replace(_ENTRY, key="k2", artifact="b3:" + "1" * 64)])

        assert store.memo.get("k1") is None

    def test_newest_has_each_step_of_the_flow_once(self, store: Store) -> None:
        """The one put last, without its bytes."""
        for key, flow, step in (
            ("k1", "nightly", "a"),
            ("k2", "nightly", "a"),
            ("k3", "nightly", "b"),
            ("k4", "x", "a"),
        ):
            store.memo.put(dataclasses.replace(_ENTRY, key=key, flow=flow, step=step))

        newest = store.memo.newest("nightly")

        assert {step: (entry.key, entry.inline) for step, entry in newest.items()} == {
            "a": ("k2", None),
            "b": ("k3", None),
        }

    def test_claim_is_held_by_one(self, store: Store) -> None:
        """Until it is released by its owner; others cannot release it."""
        assert store.memo.claim("k", "a", 10)
        assert not store.memo.claim("k", "b", 10)
        store.memo.release("k", "b")
        assert not store.memo.claim("k", "b", 10)
        store.memo.release("k", "a")

        assert store.memo.claim("k", "b", 10)

    def test_claim_of_a_dead_owner_lapses(self, store: Store, clock: ManualClock) -> None:
        """A renewed claim lives on, one that is not renewed ends."""
        store.memo.claim("k", "a", 10)
        clock.advance(9)
        assert store.memo.claim("k", "a", 10)
        clock.advance(9)
        assert not store.memo.claim("k", "b", 10)
        clock.advance(1)

        assert store.memo.claim("k", "b", 10)
        assert not store.memo.claim("k", "a", 10)

    def test_claim_race_has_one_winner(self, store: Store) -> None:
        """Of many threads at once exactly one computes."""
        start = threading.Barrier(8)
        won = []

        def race(owner: str) -> None:
            start.wait()
            if store.memo.claim("k", owner, 10):
                won.append(owner)

        threads = [threading.Thread(target=race, args=(str(index),)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(won) == 1

    def test_every_change_is_told_once_in_order(self, store: Store, tmp_path: Path) -> None:
        """What moves is in the stream, with numbers that grow by one."""
        run = store.runs.start(kind="train", name="n", config={})
        run.finish()
        store.runs.resume(run.id).finish("cancelled")
        (tmp_path / "one").write_text("1")
        (tmp_path / "two").write_text("2")
        one, two = (store.models.register("fashion", tmp_path / name) for name in ("one", "two"))
        passed = (GateResult(name="any", passed=True),)
        store.models.promote("fashion", one, results=GateReport(package_digest=one.digest, results=passed))
        store.models.canary("fashion", two, 0.2, results=GateReport(package_digest=two.digest, results=passed))
        store.models.promote("fashion", two, results=GateReport(package_digest=two.digest, results=passed))
        store.models.rollback("fashion")
        alert = store.alerts.record("drift", "fashion", {})
        store.alerts.close(alert.id)
        store.labels.put_many(
            [Label(prediction_id=f"fashion@1.abc.{row}", value=1, time=datetime.now(UTC)) for row in range(2)]
        )

        changes = list(store.changes(0))

        assert [(change.kind, change.subject) for change in changes] == [
            ("run.started", run.id),
            ("run.finished", run.id),
            ("run.resumed", run.id),
            ("run.finished", run.id),
            ("model.registered", "fashion"),
            ("model.registered", "fashion"),
            ("alias.moved", "fashion"),
            ("canary.set", "fashion"),
            ("alias.moved", "fashion"),
            ("canary.ended", "fashion"),
            ("alias.moved", "fashion"),
            ("alert.opened", "fashion"),
            ("alert.closed", "fashion"),
            ("labels.put", "fashion"),
        ]
        assert [change.sequence for change in changes] == list(range(1, 15))
        assert changes[10].fields == {"alias": "production", "version": 1, "previous": 2, "reason": "rollback"}
        assert list(store.changes(12)) == changes[12:]
        assert store.last_change() == 14

    def test_stream_is_read_in_pages(self, store: Store) -> None:
        """A long stream comes whole, also to a reader who writes meanwhile."""
        time = datetime.now(UTC)
        store.labels.put_many(Label(prediction_id=f"m{row}@1.abc.0", value=1, time=time) for row in range(1100))

        subjects = []
        for change in store.changes(0):
            if change.sequence == 1:
                store.alerts.record("drift", "late", {})
            subjects.append(change.subject)

        assert subjects == [*(f"m{row}" for row in range(1100)), "late"]

    def test_new_store_has_no_changes(self, store: Store) -> None:
        """The stream begins after 0."""
        assert store.last_change() == 0
        assert list(store.changes(0)) == []

    def test_close_flushes_open_runs(self, store: Store) -> None:
        """What a forgotten run has noted is not lost; afterwards the store refuses, and closing again is fine."""
        run = store.runs.start(kind="train", name="n", config={})
        run.metric("loss", 1.0, 0)
        before = store.url

        store.close()
        store.close()

        assert store.url == before
        with pytest.raises(ConflictError, match="closed"):
            store.runs.list()
        with pytest.raises(ConflictError, match="finished or closed"):
            run.metric("loss", 1.0, 1)

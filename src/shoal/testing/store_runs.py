"""What every store must keep about runs and their metrics."""

import math
import threading
from datetime import UTC, datetime

import pytest

from shoal.base import ConflictError, InputError, ManualClock, NotFoundError, Ref
from shoal.store import MetricPoint, Store

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class RunsContract:
    """The suite for `Runs`, `Metrics` and `Run`; part of `StoreContract`, which has the fixtures."""

    def test_run_comes_back_as_it_was_started(self, store: Store, clock: ManualClock) -> None:
        """Everything given at the start is in the record."""
        dataset = Ref("dataset", "/data/clicks@3", "b3:" + "0" * 64)
        parent = store.runs.start(kind="flow", name="nightly", config={})

        run = store.runs.start(
            kind="train",
            name="wide",
            config={"width": 32, "rates": [0.1]},
            code="b3:c",
            dataset=dataset,
            parent=parent.id,
        )

        record = store.runs.get(run.id)
        assert (record.kind, record.name, record.status, record.parent) == ("train", "wide", "running", parent.id)
        assert (record.config, record.code, record.dataset) == ({"width": 32, "rates": [0.1]}, "b3:c", dataset)
        assert (record.started, record.finished, record.error) == (clock.now(), None, None)
        assert {"python", "host", "pid"} <= record.environment.keys()

    def test_runs_are_numbered_and_have_a_folder(self, store: Store) -> None:
        """Ids grow by one, and each run has a place for its files."""
        runs = [store.runs.start(kind="train", name="n", config=None) for _ in range(2)]

        assert [run.id for run in runs] == ["r-0001", "r-0002"]
        assert all(run.folder.is_dir() and run.folder == store.home / "runs" / run.id for run in runs)

    @pytest.mark.parametrize("id", ["r-0001", "r-1", "nonsense", ""])
    def test_unknown_run_is_not_found(self, store: Store, id: str) -> None:
        """No call about an unknown run answers as if it were an empty one."""
        with pytest.raises(NotFoundError, match="cannot find run"):
            store.runs.get(id)
        with pytest.raises(NotFoundError):
            store.metrics.curve(id, "loss")
        with pytest.raises(NotFoundError):
            store.metrics.record(id, [])

    def test_list_is_newest_first_and_filtered(self, store: Store) -> None:
        """Kind, status and limit choose among the runs."""
        for name in ("a", "b", "c"):
            store.runs.start(kind="train", name=name, config={}).finish()
        store.runs.start(kind="serve", name="d", config={})

        assert [run.name for run in store.runs.list()] == ["d", "c", "b", "a"]
        assert [run.name for run in store.runs.list(kind="train", limit=2)] == ["c", "b"]
        assert [run.name for run in store.runs.list(status="running")] == ["d"]

    def test_context_manager_tells_how_the_run_ended(self, store: Store, clock: ManualClock) -> None:
        """Leaving normally is done, an exception is failed with its words, an interrupt is cancelled."""
        runs = [store.runs.start(kind="train", name="n", config={}) for _ in range(3)]
        with runs[0]:
            clock.advance(3)
        with pytest.raises(ValueError, match="bad"), runs[1]:
            raise ValueError("bad loss")
        with pytest.raises(KeyboardInterrupt), runs[2]:
            raise KeyboardInterrupt

        records = [store.runs.get(run.id) for run in runs]

        assert [record.status for record in records] == ["done", "failed", "cancelled"]
        assert [record.error for record in records] == [None, "ValueError: bad loss", "interrupted"]
        assert records[0].finished == clock.now()

    def test_metrics_are_there_after_a_flush(self, store: Store, clock: ManualClock) -> None:
        """A flush returns when the points can be read."""
        run = store.runs.start(kind="train", name="n", config={})

        run.metric("loss", 2.0, 0)
        run.metric("loss", 1.0, 1)
        run.flush()

        expected = [MetricPoint("loss", 2.0, 0, clock.now()), MetricPoint("loss", 1.0, 1, clock.now())]
        assert store.metrics.curve(run.id, "loss") == expected

    def test_finish_writes_what_is_left_and_refuses_more(self, store: Store) -> None:
        """Nothing is lost at the end, and nothing comes after it."""
        run = store.runs.start(kind="train", name="n", config={})
        run.metric("loss", 1.0, 0)
        run.event("checkpoint", step=1, files=["a"])

        run.finish()
        run.finish("failed")

        assert store.runs.get(run.id).status == "done"
        assert store.metrics.latest(run.id) == {"loss": 1.0}
        assert [(event.kind, event.fields) for event in store.runs.events(run.id)] == [
            ("checkpoint", {"step": 1, "files": ["a"]})
        ]
        with pytest.raises(ConflictError, match="resume"):
            run.metric("loss", 1.0, 1)

    def test_resumed_run_goes_on_under_its_number(self, store: Store) -> None:
        """A repeated step replaces its point, so a resumed curve is that of an uninterrupted run."""
        run = store.runs.start(kind="train", name="n", config={})
        for step in range(4):
            run.metric("loss", 10.0 + step, step)
        run.finish("failed", "killed")

        again = store.runs.resume(run.id)
        assert store.runs.get(run.id).status == "running"
        for step in range(2, 6):
            again.metric("loss", 20.0 + step, step)
        again.finish()

        curve = [(point.step, point.value) for point in store.metrics.curve(run.id, "loss")]
        assert curve == [(0, 10.0), (1, 11.0), (2, 22.0), (3, 23.0), (4, 24.0), (5, 25.0)]
        assert store.runs.get(run.id).error is None

    def test_any_float_comes_back(self, store: Store) -> None:
        """NaN and infinities are values too: a diverged loss must show."""
        run = store.runs.start(kind="train", name="n", config={})
        values = [math.nan, math.inf, -math.inf, 5e-324, -0.0, 1e308]

        store.metrics.record(run.id, [MetricPoint("x", value, step, _NOON) for step, value in enumerate(values)])

        found = [point.value for point in store.metrics.curve(run.id, "x")]
        assert [math.isnan(found[0]), *found[1:]] == [True, *values[1:]]

    def test_latest_is_the_value_at_the_highest_step(self, store: Store) -> None:
        """Neither the order of writing nor the size of the value counts."""
        run = store.runs.start(kind="train", name="n", config={})
        points = [
            MetricPoint("a", 1.0, 7, _NOON),
            MetricPoint("a", 9.0, 3, _NOON),
            MetricPoint("b", math.nan, 0, _NOON),
        ]

        store.metrics.record(run.id, points)

        latest = store.metrics.latest(run.id)
        assert latest["a"] == 1.0
        assert math.isnan(latest["b"])
        assert store.metrics.names(run.id) == ["a", "b"]
        assert store.metrics.curve(run.id, "c") == []

    def test_record_is_all_or_nothing(self, store: Store) -> None:
        """A point that cannot be written takes its batch with it."""
        run = store.runs.start(kind="train", name="n", config={})
        good = MetricPoint("a", 1.0, 0, _NOON)

        with pytest.raises(InputError, match="no zone"):
            store.metrics.record(run.id, [good, good._replace(step=1, time=_NOON.replace(tzinfo=None))])

        assert store.metrics.names(run.id) == []

    @pytest.mark.parametrize(("value", "step"), [("much", 0), (None, 0), (1.0, "first"), (1.0, 2**63)])
    def test_bad_point_is_refused_where_it_is_noted(self, store: Store, value: float, step: int) -> None:
        """The caller hears it, and the points around it are written."""
        run = store.runs.start(kind="train", name="n", config={})
        run.metric("loss", 1.0, 0)

        with pytest.raises(InputError, match="cannot record 'loss'"):
            run.metric("loss", value, step)

        run.finish()
        assert store.metrics.latest(run.id) == {"loss": 1.0}

    def test_threads_note_into_one_run(self, store: Store) -> None:
        """No point of any thread is lost."""
        run = store.runs.start(kind="train", name="n", config={})

        def note(name: str) -> None:
            for step in range(500):
                run.metric(name, step, step)

        threads = [threading.Thread(target=note, args=(f"m{index}",)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run.finish()

        assert [len(store.metrics.curve(run.id, f"m{index}")) for index in range(4)] == [500] * 4

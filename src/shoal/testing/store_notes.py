"""What every store must keep about artifacts, lineage, alerts and labels."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shoal.base import InputError, ManualClock, NotFoundError, Ref, digest_bytes, digest_tree
from shoal.store import Artifact, Label, Store

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class NotesContract:
    """The suite for `Artifacts`, `Lineage`, `Alerts` and `Labels`; part of `StoreContract`, which has the fixtures."""

    def test_artifacts_are_found_by_content(self, store: Store, tmp_path: Path) -> None:
        """Bytes, files and folders come back by digest, with their kind and size."""
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "a").write_bytes(b"123")

        put = [
            store.artifacts.put_bytes(b"12"),
            store.artifacts.put_file(tmp_path / "folder" / "a"),
            store.artifacts.put_folder(tmp_path / "folder"),
        ]

        assert put == [
            Artifact(digest=digest_bytes(b"12"), kind="bytes", size_bytes=2),
            Artifact(digest=digest_bytes(b"123"), kind="file", size_bytes=3),
            Artifact(digest=digest_tree(tmp_path / "folder"), kind="folder", size_bytes=3),
        ]
        assert store.artifacts.path(put[0].digest).read_bytes() == b"12"
        assert store.artifacts.put_bytes(b"12") == put[0]

    def test_unknown_artifact_is_not_found(self, store: Store) -> None:
        """A digest that nobody put has no path."""
        digest = digest_bytes(b"never put")

        assert not store.artifacts.contains(digest)
        with pytest.raises(NotFoundError, match=digest):
            store.artifacts.path(digest)

    def test_link_twice_is_one_edge(self, store: Store) -> None:
        """Recorders may repeat themselves; another relation is another edge."""
        a, b = Ref("dataset", "a@1", ""), Ref("run", "r-0001", "")

        for relation in ("trained_on", "trained_on", "evaluated_on"):
            store.lineage.link(a, b, relation)

        assert [(edge.source, edge.target, edge.relation) for edge in store.lineage.sources_of(b)] == [
            (a, b, "trained_on"),
            (a, b, "evaluated_on"),
        ]
        assert store.lineage.targets_of(a) == store.lineage.sources_of(b)

    def test_same_content_elsewhere_is_the_same_thing(self, store: Store) -> None:
        """A moved dataset keeps its lineage; without a digest the address decides."""
        digest = digest_bytes(b"rows")
        run = Ref("run", "r-0001", "")
        store.lineage.link(Ref("dataset", "/old/clicks@1", digest), run, "trained_on")

        assert len(store.lineage.targets_of(Ref("dataset", "/new/clicks@1", digest))) == 1
        assert store.lineage.targets_of(Ref("dataset", "/old/clicks@1", "")) == []

    def test_upstream_walks_meeting_ways_and_circles_once(self, store: Store) -> None:
        """Each edge comes once, nearest first, and a circle ends."""
        refs = {name: Ref("thing", name, "") for name in "abcd"}
        for source, target in ("ab", "ac", "bd", "cd", "da"):
            store.lineage.link(refs[source], refs[target], "made")

        edges = store.lineage.upstream(refs["d"])

        ways = [edge.source.address + edge.target.address for edge in edges]
        assert ways == ["bd", "cd", "ab", "ac", "da"]

    def test_upstream_is_wide(self, store: Store) -> None:
        """More sources than one statement takes values."""
        target = Ref("dataset", "all", "")
        for index in range(520):
            store.lineage.link(Ref("file", "origin", ""), Ref("file", str(index), ""), "copied")
            store.lineage.link(Ref("file", str(index), ""), target, "ingested")

        assert len(store.lineage.upstream(target)) == 1040

    def test_alerts_open_and_close(self, store: Store, clock: ManualClock) -> None:
        """Newest first; closing is remembered with its first time."""
        first = store.alerts.record("drift", "fashion", {"columns": ["image.mean"]})
        second = store.alerts.record("drift", "clicks", {})
        clock.advance(60)
        closed = store.alerts.close(first.id)
        clock.advance(60)

        assert store.alerts.close(first.id) == closed
        assert closed.closed == first.opened + timedelta(seconds=60)
        assert store.alerts.list() == [second, closed]
        assert store.alerts.list(subject="fashion") == [closed]
        with pytest.raises(NotFoundError, match="alert 99"):
            store.alerts.close(99)

    def test_last_label_wins(self, store: Store) -> None:
        """A correction replaces what is read, whenever it claims to be from."""
        store.labels.put("fashion@1.abc.0", 7, _NOON)
        store.labels.put("fashion@1.abc.0", {"class": 3}, _NOON - timedelta(days=1))

        assert store.labels.get(["fashion@1.abc.0", "fashion@1.abc.1"]) == {"fashion@1.abc.0": {"class": 3}}
        assert store.labels.count() == 1

    def test_labels_come_in_batches(self, store: Store) -> None:
        """Many at once, more than one statement takes values, counted by model."""
        new = [Label(prediction_id=f"fashion@1.abc.{row}", value=row, time=_NOON) for row in range(1200)]
        other = Label(prediction_id="clicks@4.abc.0", value=True, time=_NOON)

        assert store.labels.put_many([*new, other]) == 1201
        assert store.labels.put_many([]) == 0

        assert store.labels.get([label.prediction_id for label in new]) == {
            label.prediction_id: label.value for label in new
        }
        assert [store.labels.count(), store.labels.count("fashion"), store.labels.count("none")] == [1201, 1200, 0]

    def test_label_of_no_prediction_is_refused_with_its_batch(self, store: Store) -> None:
        """A wrong id is an error, not a label that nobody will ever find."""
        good = Label(prediction_id="fashion@1.abc.0", value=1, time=_NOON)

        with pytest.raises(InputError, match="'row 7'"):
            store.labels.put_many([good, Label(prediction_id="row 7", value=1, time=_NOON)])

        assert store.labels.count() == 0

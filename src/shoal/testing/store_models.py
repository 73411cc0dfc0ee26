"""What every store must keep about models: versions, gated aliases, canaries and the way back."""

import dataclasses
from pathlib import Path

import pytest

from shoal.base import ConflictError, CorruptError, GateError, InputError, NotFoundError, Ref, digest_tree
from shoal.store import GateReport, GateResult, ModelVersion, Store

_PASSED = GateResult(name="accuracy >= 0.9", passed=True, metric="accuracy", value=0.95, threshold=0.9)
_REFUSED = GateResult(name="p99_ms <= 5", passed=False, metric="p99_ms", value=7.0, threshold=5.0, message="too slow")


@dataclasses.dataclass(frozen=True)
class _Package:
    path: Path
    digest: str


def _report(version: ModelVersion, *results: GateResult) -> GateReport:
    return GateReport(package_digest=version.digest, results=results or (_PASSED,))


def _register(store: Store, tmp_path: Path, *contents: str) -> list[ModelVersion]:
    versions = []
    for content in contents:
        folder = tmp_path / f"package-{content}"
        folder.mkdir(exist_ok=True)
        (folder / "model.onnx").write_text(content)
        versions.append(store.models.register("fashion", folder))
    return versions


class ModelsContract:
    """The suite for `Models`; part of `StoreContract`, which has the fixtures."""

    def test_version_keeps_its_own_copy(self, store: Store, tmp_path: Path) -> None:
        """The original may go: the registered package stays, with all that was said about it."""
        run = store.runs.start(kind="train", name="n", config={})
        original = tmp_path / "package"
        original.mkdir()
        (original / "model.onnx").write_text("weights")
        digest = digest_tree(original)

        version = store.models.register("fashion", _Package(original, digest), run=run.id, metrics={"accuracy": 0.9})
        (original / "model.onnx").unlink()

        assert version == store.models.get("fashion@1")
        assert (version.address, version.digest, version.run) == ("fashion@1", digest, run.id)
        assert version.metrics == {"accuracy": 0.9}
        assert (version.path / "model.onnx").read_text() == "weights"

    def test_same_content_is_the_same_version(self, store: Store, tmp_path: Path) -> None:
        """Registering twice gives no second number; other content does, and another name counts by itself."""
        one, two, again = _register(store, tmp_path, "a", "b", "a")
        other = store.models.register("fashion-large", one.path)

        assert [one.version, two.version, again.version, other.version] == [1, 2, 1, 1]
        assert [version.version for version in store.models.versions("fashion")] == [1, 2]
        assert store.models.names() == ["fashion", "fashion-large"]

    def test_changed_package_is_refused(self, store: Store, tmp_path: Path) -> None:
        """What was judged and what is registered are the same bytes."""
        (tmp_path / "model.onnx").write_text("other weights")

        with pytest.raises(CorruptError, match=r"model\.onnx"):
            store.models.register("fashion", _Package(tmp_path / "model.onnx", "b3:" + "0" * 64))

        assert store.models.names() == []

    def test_unknown_run_is_refused(self, store: Store, tmp_path: Path) -> None:
        """A version never points to a run that is not there."""
        with pytest.raises(NotFoundError, match="r-0009"):
            store.models.register("fashion", tmp_path, run="r-0009")

    @pytest.mark.parametrize("name", ["", "a@b", "../up", ".hidden", "a b", "a/b", "x" * 200])
    def test_bad_name_is_refused(self, store: Store, tmp_path: Path, name: str) -> None:
        """Names become folders and parts of ids."""
        with pytest.raises(InputError, match="model name"):
            store.models.register(name, tmp_path)

    def test_bare_name_is_production_else_the_newest(self, store: Store, tmp_path: Path) -> None:
        """Before the first promote the newest is meant."""
        one, two = _register(store, tmp_path, "a", "b")
        before = store.models.get("fashion")

        store.models.promote("fashion", one, results=_report(one))

        assert before == two
        assert store.models.get("fashion") == store.models.get("fashion@production") == one
        assert store.models.aliases("fashion") == {"production": 1}

    @pytest.mark.parametrize("address", ["fashion@9", "fashion@staging", "fashio", "fashion@0"])
    def test_what_is_not_there_is_not_found(self, store: Store, tmp_path: Path, address: str) -> None:
        """Unknown models, versions and aliases say so by name."""
        _register(store, tmp_path, "a")

        with pytest.raises(NotFoundError, match=address):
            store.models.get(address)

    @pytest.mark.parametrize("case", ["none", "refused", "foreign", "missing"])
    def test_promote_needs_its_own_passed_gates(self, store: Store, tmp_path: Path, case: str) -> None:
        """Without results, with a refusal, or with results of other bytes the alias stays where it is."""
        one, two = _register(store, tmp_path, "a", "b")
        store.models.promote("fashion", one, results=_report(one))
        reports = {
            "none": GateReport(package_digest=two.digest, results=()),
            "refused": _report(two, _PASSED, _REFUSED),
            "foreign": _report(one),
            "missing": None,
        }
        before = store.last_change()

        with pytest.raises(GateError, match="cannot move fashion@2"):
            store.models.promote("fashion", two, results=reports[case])  # type: ignore[arg-type]  # "missing" is the case of a caller without types

        assert store.models.aliases("fashion") == {"production": 1}
        assert len(store.models.history("fashion")) == 1
        assert store.last_change() == before

    def test_promote_keeps_the_results(self, store: Store, tmp_path: Path) -> None:
        """The history says what allowed the move."""
        (one,) = _register(store, tmp_path, "a")

        store.models.promote("fashion", 1, alias="staging", results=_report(one, _PASSED))

        (move,) = store.models.history("fashion")
        assert (move.alias, move.version, move.previous, move.reason) == ("staging", 1, None, "promote")
        assert move.results == (_PASSED,)

    def test_rollback_and_forward_walk_the_history(self, store: Store, tmp_path: Path) -> None:
        """Back as often as there are versions before, forward as often as was gone back."""
        for version in _register(store, tmp_path, "a", "b", "c"):
            store.models.promote("fashion", version, results=_report(version))

        walked = [store.models.rollback("fashion").version, store.models.rollback("fashion").version]
        with pytest.raises(NotFoundError, match="no other held it before"):
            store.models.rollback("fashion")
        walked += [store.models.forward("fashion").version, store.models.forward("fashion").version]
        with pytest.raises(NotFoundError, match="no other was rolled back from"):
            store.models.forward("fashion")

        assert walked == [2, 1, 2, 3]
        assert store.models.get("fashion").version == 3
        assert [move.reason for move in store.models.history("fashion")[3:]] == ["rollback"] * 2 + ["forward"] * 2

    def test_promote_after_a_rollback_forgets_the_way_forward(self, store: Store, tmp_path: Path) -> None:
        """A rollback from the new version goes to what it replaced."""
        one, two, three = _register(store, tmp_path, "a", "b", "c")
        for version in (one, two):
            store.models.promote("fashion", version, results=_report(version))
        store.models.rollback("fashion")
        store.models.promote("fashion", three, results=_report(three))

        with pytest.raises(NotFoundError):
            store.models.forward("fashion")

        assert store.models.rollback("fashion") == one

    def test_canary_is_set_replaced_and_ended(self, store: Store, tmp_path: Path) -> None:
        """At most one canary per model."""
        one, two, three = _register(store, tmp_path, "a", "b", "c")
        store.models.promote("fashion", one, results=_report(one))

        store.models.canary("fashion", two, 0.2, results=_report(two))
        store.models.canary("fashion", three, 0.5, results=_report(three))
        canary = store.models.canary_of("fashion")
        store.models.end_canary("fashion")
        store.models.end_canary("fashion")

        assert canary == (three, 0.5)
        assert store.models.canary_of("fashion") is None

    def test_canary_needs_its_own_passed_gates(self, store: Store, tmp_path: Path) -> None:
        """Not one request of production goes to a version that passed nothing; the canary before stays."""
        one, two, three = _register(store, tmp_path, "a", "b", "c")
        store.models.promote("fashion", one, results=_report(one))
        store.models.canary("fashion", two, 0.2, results=_report(two))

        for report in (
            GateReport(package_digest=three.digest, results=()),
            _report(two),
            _report(three, _PASSED, _REFUSED),
        ):
            with pytest.raises(GateError):
                store.models.canary("fashion", three, 0.5, results=report)
        with pytest.raises(TypeError, match="results"):
            store.models.canary("fashion", three, 0.5)  # type: ignore[call-arg]  # the promise is that this fails

        assert store.models.canary_of("fashion") == (two, 0.2)

    def test_canary_that_becomes_production_ends(self, store: Store, tmp_path: Path) -> None:
        """The traffic is not shared between a version and itself; another canary stays."""
        one, two, three = _register(store, tmp_path, "a", "b", "c")
        store.models.promote("fashion", one, results=_report(one))
        store.models.canary("fashion", three, 0.2, results=_report(three))

        store.models.promote("fashion", two, results=_report(two))
        still = store.models.canary_of("fashion")
        store.models.promote("fashion", three, results=_report(three))

        assert still == (three, 0.2)
        assert store.models.canary_of("fashion") is None

    @pytest.mark.parametrize("share", [0, 1, -0.1, 20, float("nan")])
    def test_share_must_be_a_share(self, store: Store, tmp_path: Path, share: float) -> None:
        """20 is not 20%."""
        one, two = _register(store, tmp_path, "a", "b")
        store.models.promote("fashion", one, results=_report(one))

        with pytest.raises(InputError, match="share="):
            store.models.canary("fashion", two, share, results=_report(two))

    def test_canary_needs_another_production(self, store: Store, tmp_path: Path) -> None:
        """There must be someone to share with."""
        (one,) = _register(store, tmp_path, "a")
        with pytest.raises(ConflictError, match="no production version"):
            store.models.canary("fashion", one, 0.2, results=_report(one))
        store.models.promote("fashion", one, results=_report(one))
        with pytest.raises(ConflictError, match="is the production version"):
            store.models.canary("fashion", one, 0.2, results=_report(one))

        assert store.models.canary_of("fashion") is None

    def test_version_leads_back_to_run_and_package(self, store: Store, tmp_path: Path) -> None:
        """Registering writes the lineage that `why` walks."""
        run = store.runs.start(kind="train", name="n", config={})
        version = store.models.register("fashion", tmp_path, run=run.id)

        sources = {(edge.relation, edge.source.kind) for edge in store.lineage.sources_of(Ref.of(version))}

        assert sources == {("produced", "run"), ("registered_as", "package")}

import dataclasses
import sqlite3
from contextlib import closing

import pytest

import shoal.store
from shoal.base import InputError, NotFoundError, digest_tree, open_handle
from shoal.store import GateReport, GateResult

PASSED = (GateResult(name="any", passed=True),)


@pytest.fixture
def versions(store, tmp_path):
    made = []
    for content in "abc":
        (tmp_path / "model.onnx").write_text(content)
        made.append(store.models.register("fashion", tmp_path))
    return made


def test_version_of_another_model_is_refused(store, versions):
    report = GateReport(package_digest=versions[0].digest, results=PASSED)

    with pytest.raises(InputError, match="fashion@1"):
        store.models.promote("clicks", versions[0], results=report)


def test_version_changed_by_hand_does_not_carry_its_own_digest(store, versions):
    """The store's digest counts, not that of the value the caller holds."""
    forged = dataclasses.replace(versions[1], digest=versions[0].digest)

    with pytest.raises(shoal.base.GateError, match="are about"):
        store.models.promote("fashion", forged, results=GateReport(package_digest=versions[0].digest, results=PASSED))


def test_single_file_is_a_package_too(store, tmp_path):
    (tmp_path / "model.onnx").write_text("weights")

    version = store.models.register("plain", tmp_path / "model.onnx")

    assert version.path.read_text() == "weights"


def test_rollback_of_an_unset_alias_is_not_found(store, versions):
    with pytest.raises(NotFoundError, match="fashion@staging"):
        store.models.rollback("fashion", alias="staging")


def test_diverged_metric_is_kept(store, tmp_path):
    (tmp_path / "model.onnx").write_text("weights")

    store.models.register("fashion", tmp_path, metrics={"loss": float("nan"), "accuracy": 0.5})

    metrics = store.models.get("fashion").metrics
    assert metrics["loss"] != metrics["loss"]
    assert metrics["accuracy"] == 0.5


def test_version_travels_as_a_handle(store, versions, monkeypatch):
    monkeypatch.setenv("SHOAL_STORE", str(store.home))

    assert open_handle("model_version", "fashion@2", versions[1].digest) == versions[1]
    with pytest.raises(shoal.base.CorruptError, match="fashion@2"):
        open_handle("model_version", "fashion@2", versions[0].digest)


def test_two_processes_register_at_once(store, program, tmp_path):
    (tmp_path / "shared.onnx").write_text("shared")
    body = f"""
import os
from pathlib import Path
sys.stdin.readline()
for index in range(10):
    own = Path({str(tmp_path)!r}) / f"{{os.getpid()}}.onnx"
    own.write_text(f"{{os.getpid()}} {{index}}")
    store.models.register("fashion", own)
    store.models.register("fashion", Path({str(tmp_path)!r}) / "shared.onnx")
print("done")
"""
    with program(body) as first, program(body) as second:
        for process in (first, second):
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [first.stdout.readline(), second.stdout.readline()] == ["done\n", "done\n"]

    versions = store.models.versions("fashion")
    assert [version.version for version in versions] == list(range(1, 22))
    assert len({version.digest for version in versions}) == 21


def test_kill_in_the_middle_of_promotions_leaves_alias_history_and_stream_agreed(store, home, program, versions):
    """Every promotion that returned is there; what was cut off is there completely or not at all."""
    body = """
results = (GateResult(name="any", passed=True),)
versions = store.models.versions("fashion")
number = 0
while True:
    version = versions[number % 3]
    passed = [GateReport(package_digest=version.digest, results=results) for version in versions]
    following = (number + 1) % 3
    store.models.canary("fashion", versions[following], 0.2, results=passed[following]) if number else None
    store.models.promote("fashion", version, results=passed[number % 3])
    number += 1
    print(number)
"""
    with program(body) as process:
        for _ in range(40):
            returned = int(process.stdout.readline())
        process.kill()
        process.wait()

    with closing(sqlite3.connect(home / "store.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    history = store.models.history("fashion")
    moved = [change.fields["version"] for change in store.changes(0) if change.kind == "alias.moved"]
    assert len(history) >= returned
    assert [move.version for move in history] == moved
    assert store.models.aliases("fashion") == {"production": moved[-1]}
    canary = store.models.canary_of("fashion")
    assert canary is None or canary[0].version != moved[-1]
    assert store.models.rollback("fashion").version == moved[-2]


def test_package_is_copied_before_it_is_told(store, tmp_path, monkeypatch):
    """A kill between the two leaves an artifact that nobody names, and the next try succeeds."""
    (tmp_path / "model.onnx").write_text("weights")
    with monkeypatch.context() as patch:
        patch.setattr("shoal.store.models.tell", _die)
        with pytest.raises(KeyboardInterrupt):
            store.models.register("fashion", tmp_path)

    assert store.models.names() == []
    assert store.artifacts.contains(digest_tree(tmp_path))
    assert store.models.register("fashion", tmp_path).version == 1


def _die(*_args):
    raise KeyboardInterrupt

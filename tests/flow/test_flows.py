"""A flow runs its graph, reuses what is the same, and after an edit runs exactly what the edit can change."""

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import shoal.data
from shoal.base import ConfigError, InputError, StepError
from shoal.flow import File, flow, step
from shoal.flow.handles import OPENERS

CHAIN = """
    import helpers
    from helpers import Model
    from shoal.flow import File, flow, step

    SCALE = 2

    @step
    def work(x, data, extra=1):
        # a comment
        return helpers.grow(x) + SCALE + extra + Model().add(0) + len(data.path.read_text())

    @flow
    def chain(data, start=0):
        x = start
        for _ in range(20):
            x = work(x, data)
        return x
"""
HELPERS = '''
    def grow(x):
        """Say something."""
        return x + 1

    class Model:
        def add(self, x):
            return x + 5
'''


@pytest.mark.parametrize(
    ("edited", "old", "new", "num_run"),
    [
        ("steps", "SCALE = 2", "SCALE = 3", 20),
        ("helpers", "return x + 1", "return x + 2", 20),
        ("steps", "# a comment", "# another comment", 0),
        ("helpers", "Say something.", "Say something else.", 0),
        ("steps", "helpers.grow(x) + SCALE", "helpers.grow(x) - SCALE", 20),
        ("steps", "extra=1", "extra=2", 20),
        ("helpers", "return x + 5", "return x + 6", 20),
    ],
    ids=["constant", "helper", "comment", "docstring", "body", "default", "method"],
)
def test_an_edit_runs_what_it_can_change(project, store, tmp_path, edited, old, new, num_run):
    data = tmp_path / "data.txt"
    data.write_text("abc")
    sources = {"steps": CHAIN, "helpers": HELPERS}
    first = project("steps", **sources).chain.run(store=store, data=File(data))

    steps = project("steps", **{**sources, edited: sources[edited].replace(old, new)})
    again = steps.chain.run(store=store, data=File(data))

    assert (first.num_run, again.num_run, again.num_reused) == (20, num_run, 20 - num_run)
    assert again.value == steps.chain(File(data))


def test_another_content_of_an_input_file_runs_all(project, store, tmp_path):
    data = tmp_path / "data.txt"
    data.write_text("abc")
    chain = project("steps", steps=CHAIN, helpers=HELPERS).chain
    chain.run(store=store, data=File(data))

    data.write_text("abcd")

    assert chain.run(store=store, data=File(data)).num_run == 20


def test_the_same_content_of_an_input_file_elsewhere_runs_nothing(project, store, tmp_path):
    (tmp_path / "one.txt").write_text("abc")
    (tmp_path / "two.txt").write_text("abc")
    chain = project("steps", steps=CHAIN, helpers=HELPERS).chain
    chain.run(store=store, data=File(tmp_path / "one.txt"))

    assert chain.run(store=store, data=File(tmp_path / "two.txt")).num_run == 0


@step
def one():
    return 1


@step
def add(x, y):
    return x + y


@step
def total(values):
    return sum(values["all"])


@flow
def fan(width):
    first = one()
    return total({"all": [add(first, i) for i in range(width)]})


def test_a_hundred_fan_out_and_in(store):
    run = fan.run(store=store, width=100)

    assert run.value == sum(1 + i for i in range(100))
    assert run.num_run == 102
    assert [outcome.name for outcome in run.outcomes[:3]] == ["one", "add[0]", "add[1]"]
    assert fan.run(store=store, width=100).num_reused == 102


def test_a_wider_fan_runs_what_is_new(store):
    fan.run(store=store, width=10)

    assert fan.run(store=store, width=12).num_run == 3


def test_a_flow_called_is_plain_python():
    assert fan(3) == 6


def test_force_runs_all_again(store):
    fan.run(store=store, width=3)

    run = fan.run(store=store, width=3, force=True)

    assert run.num_run == 5
    assert run.outcomes[0].reason == "it was forced"
    assert fan.run(store=store, width=3).num_run == 0


@step
def give(kind):
    values = {
        "dict": {"b": 1, "a": [1.5, None, True, "x"]},
        "list": [1, 2, [3]],
        "tuple": (1, ("x", 2.5)),
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "large": {"w": np.arange(100_000, dtype=np.int64)},
        "mixed": {"rows": 3, "weights": [np.ones(2, np.int8)], "pair": (1, 2)},
        "bytes": b"\x00\xff",
        "none": None,
    }
    return values[kind]


@flow
def giving(kind):
    return give(kind)


@pytest.mark.parametrize("kind", ["dict", "list", "tuple", "array", "large", "mixed", "bytes", "none"])
def test_a_kept_result_is_what_was_returned(store, kind):
    expected = give(kind)
    giving.run(store=store, kind=kind)

    again = giving.run(store=store, kind=kind)

    assert again.num_reused == 1
    assert type(again.value) is type(expected)
    np.testing.assert_equal(again.value, expected)


@step(ignore=["path"])
def write(path, text):
    path.write_text(text)
    return {"file": File(path)}


@step
def read(made):
    return made["file"].path.read_text()


@flow
def through_a_file(path, text):
    return read(write(path, text))


def test_a_file_travels_as_a_handle(store, tmp_path):
    assert through_a_file.run(store=store, path=tmp_path / "made", text="abc").value == "abc"

    assert through_a_file.run(store=store, path=tmp_path / "made", text="abc").num_reused == 2


def test_a_result_whose_file_is_gone_is_made_again(store, tmp_path):
    through_a_file.run(store=store, path=tmp_path / "made", text="abc")
    (tmp_path / "made").unlink()

    run = through_a_file.run(store=store, path=tmp_path / "made", text="abc")

    assert [outcome.reused for outcome in run.outcomes] == [False, True]
    assert run.outcomes[0].reason.startswith("its result is lost: cannot read")
    assert (tmp_path / "made").read_text() == "abc"


def test_a_result_whose_artifact_is_gone_is_made_again(store):
    giving.run(store=store, kind="large")
    for blob in (store.home / "artifacts").glob("??/*"):
        blob.unlink()

    assert giving.run(store=store, kind="large").num_run == 1
    assert giving.run(store=store, kind="large").num_run == 0


def test_a_result_whose_artifact_was_damaged_is_made_again(store):
    giving.run(store=store, kind="large")
    for blob in (store.home / "artifacts").glob("??/*"):
        blob.chmod(0o644)
        blob.write_bytes(b"garbage")

    run = giving.run(store=store, kind="large")

    assert run.num_run == 1
    np.testing.assert_equal(run.value, give("large"))


@dataclass(frozen=True)
class Lost:
    """A handle whose target is not there."""

    kind: str
    address: str
    digest: str = "b3:0"


@step
def lose(kind, address):
    return {"made": Lost(kind, address)}


@flow
def losing(kind, address):
    return lose(kind, address)


# Opening a checkpoint imports torch.
KINDS = [pytest.param(kind, marks=[pytest.mark.slow] if kind == "checkpoint" else []) for kind in OPENERS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_whose_target_is_gone_is_made_again(store, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    inputs = {"kind": kind, "address": "gone@1" if kind == "model_version" else str(tmp_path / "gone@1")}
    losing.run(store=store, **inputs)

    (outcome,) = losing.run(store=store, **inputs).outcomes

    assert not outcome.reused
    assert outcome.reason.startswith("its result is lost: cannot ")


def test_a_result_that_a_newer_shoal_replaced_is_made_again(store, tmp_path):
    (tmp_path / "package.json").write_text('{"format": 99}')
    losing.run(store=store, kind="package", address=str(tmp_path))

    assert losing.run(store=store, kind="package", address=str(tmp_path)).num_run == 1


@step(ignore=["folder"])
def fill(folder):
    return shoal.data.ingest({"x": np.arange(9)}, folder)


@step
def add_up(dataset):
    return int(dataset.arrays()["x"].sum())


@flow
def filling(folder):
    return add_up(fill(folder))


@pytest.mark.parametrize("harm", ["delete", "truncate"])
def test_a_dataset_that_lost_bytes_is_ingested_again(store, tmp_path, harm):
    first = filling.run(store=store, folder=tmp_path / "rows")
    (shard,) = (tmp_path / "rows" / "shards").iterdir()
    shard.unlink() if harm == "delete" else shard.write_bytes(shard.read_bytes()[:100])

    again = filling.run(store=store, folder=tmp_path / "rows")

    assert [outcome.reused for outcome in again.outcomes] == [False, True]
    assert again.outcomes[0].reason.startswith("its result is lost: ")
    shoal.data.open(tmp_path / "rows").verify()
    assert again.value == first.value


@step(ignore=["edit"])
def read_while_edited(source, edit):
    edit()
    return source.path.read_text()


@flow
def edited_on_the_way(source, edit):
    return [read_while_edited(source, edit), read_while_edited(source, edit)]


@pytest.mark.parametrize("change", ["edit", "delete and make"])
def test_a_result_whose_input_file_changed_on_the_way_is_not_kept(store, tmp_path, change):
    path = tmp_path / "data.txt"
    path.write_text("old")

    def edit():
        if change != "edit":
            path.unlink()
        path.write_text("new")

    first = edited_on_the_way.run(store=store, source=File(path), edit=edit)
    path.write_text("old")
    again = edited_on_the_way.run(store=store, source=File(path), edit=lambda: None)

    assert first.outcomes[0].reason.endswith("its result is not kept: a file in input source changed while it ran")
    assert (again.value, again.num_run) == (["old", "old"], 1)


def test_a_result_whose_input_file_vanished_on_the_way_is_not_kept(store, tmp_path):
    path = tmp_path / "data.txt"
    path.write_text("old")
    vanishing.run(store=store, source=File(path))
    path.write_text("old")

    assert vanishing.run(store=store, source=File(path)).num_run == 1


@step
def consume(source):
    source.path.unlink()


@flow
def vanishing(source):
    return consume(source)


@step
def fail(x):
    return 1 / x


@flow
def partly_failing():
    return [add(fail(0), 1), add(1, 2), one()]


def test_a_failing_step_stops_only_what_needs_it(store):
    done = []

    with pytest.raises(StepError, match=r"step fail\(x=0\) failed: ZeroDivisionError") as caught:
        partly_failing.run(store=store, progress=lambda outcome: done.append(outcome.name))

    assert caught.value.step == "fail"
    assert caught.value.inputs == {"x": "0"}
    assert "return 1 / x" in caught.value.__notes__[0]
    assert "the 2 finished steps are not repeated" in caught.value.next_step
    assert sorted(done) == ["add[1]", "one"]


# Private: what a module itself changes is taken for a cache and does not count in keys.
_runs = Counter()


@step
def counted(i):
    _runs[i] += 1
    return i


@flow
def counting(num):
    return [counted(i) for i in range(num)]


def test_two_runs_at_once_compute_a_key_once(store):
    _runs.clear()
    start = threading.Barrier(2)
    found = []

    def run():
        start.wait()
        found.append(counting.run(store=store, num=50).value)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [list(range(50))] * 2
    assert set(_runs.values()) == {1}


@flow
def same_twice():
    return [counted(7), counted(7)]


def test_the_same_call_twice_in_a_flow_is_computed_once(store):
    _runs.clear()

    run = same_twice.run(store=store)

    assert (run.value, run.num_run, _runs[7]) == ([7, 7], 1, 1)
    assert run.outcomes[1].reason == "counted[0] has the same key"


@flow
def same_after_another():
    return counted(counted(7))


def test_the_same_call_that_comes_later_takes_a_result_not_yet_recorded(store, monkeypatch):
    monkeypatch.setattr("shoal.flow.engine.RECORD_WITHIN_S", 60.0)
    _runs.clear()

    run = same_after_another.run(store=store)

    assert (run.value, run.num_run, _runs[7]) == (7, 1, 1)


@step(memo=False)
def now():
    return object()


@step(memo=False)
def kind_of(thing):
    return type(thing).__name__


@flow
def unmemoised():
    return kind_of(now())


def test_a_step_without_memo_runs_every_time_and_may_return_anything(store):
    unmemoised.run(store=store)

    run = unmemoised.run(store=store)

    assert (run.value, run.num_run) == ("object", 2)
    assert run.outcomes[0].reason == "it is not memoised"


@step
def peek(path):
    return Path(path).read_text()


@flow
def peeking(path):
    return peek(path)


def test_a_file_read_without_being_declared_is_told_and_told_again(store, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("abc")

    outcomes = [peeking.run(store=store, path=str(secret)).outcomes[0] for _ in range(2)]

    assert [outcome.reused for outcome in outcomes] == [False, True]
    assert [outcome.undeclared for outcome in outcomes] == [(str(secret),)] * 2


def test_a_declared_file_is_not_told(store, tmp_path):
    (tmp_path / "data.txt").write_text("abc")

    assert peeking.run(store=store, path=File(tmp_path / "data.txt")).outcomes[0].undeclared == ()


@step
def evaluated(text):
    return eval(text)


@flow
def evaluating():
    return evaluated("1 + 1")


def test_a_call_that_cannot_be_followed_is_told(store):
    (outcome,) = evaluating.run(store=store).outcomes

    assert len(outcome.unseen) == 1
    assert outcome.unseen[0].endswith("evaluated calls builtins.eval: what it runs is not followed")


def test_a_result_that_no_codec_keeps_is_an_error_with_a_way_out(store):
    @step
    def make():
        return object()

    @flow
    def making():
        return make()

    with pytest.raises(StepError, match="no codec keeps it") as caught:
        making.run(store=store)

    assert "@step(memo=False)" in caught.value.next_step


def test_an_input_that_cannot_be_told_is_an_error(store):
    with pytest.raises(StepError, match="generator"):
        giving.run(store=store, kind=(i for i in ()))


def test_code_given_as_an_input_counts(project, store):
    source = """
        from shoal.flow import flow, step
        def double(x):
            return 2 * x
        @step
        def apply(function, x):
            return function(x)
        @flow
        def applying():
            return apply(double, 4)
    """
    project("steps", steps=source).applying.run(store=store)

    run = project("steps", steps=source.replace("2 * x", "3 * x")).applying.run(store=store)

    assert (run.value, run.num_run) == (12, 1)


def test_wrong_inputs_name_the_signature(store):
    with pytest.raises(InputError, match=r"missing a required argument: 'width'.*\(width\)"):
        fan.run(store=store)


def test_a_parameter_of_run_cannot_be_a_flows():
    with pytest.raises(ConfigError, match="store"):

        @flow
        def bad(store):
            return store


@pytest.mark.parametrize(("name", "value"), [("parallel", 0), ("runtime", "moon")])
def test_a_wrong_setting_is_refused(store, name, value):
    with pytest.raises(ConfigError, match=str(value)):
        fan.run(store=store, width=1, **{name: value})


def test_without_a_store_the_nearest_home_is_used(tmp_path, monkeypatch):
    (tmp_path / ".shoal").mkdir()
    monkeypatch.chdir(tmp_path)

    fan.run(width=2)

    assert fan.run(width=2, store=tmp_path / ".shoal").num_reused == 4

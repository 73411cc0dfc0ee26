"""What two looks at a folder tell, and what a watcher does about it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from shoal.base import ConfigError, CorruptError, NotFoundError
from shoal.model import package
from shoal.serve import Client, start
from shoal.serve.host.watching import Found, Held, Watcher, decide, plans, scan
from shoal.serve.links.messages import ModelPlan, Problem

EXAMPLE = {"image": np.zeros((2, 2, 2), np.uint8)}


class Supervision:
    """Remembers what it was told."""

    def __init__(self):
        self.planned, self.failing = {}, []

    def send_plan(self, name, planned):
        self.planned[name] = planned

    def drop_plan(self, name, *, keeps_place=False):
        del self.planned[name]
        return 7

    def plan_of(self, name):
        return self.planned.get(name)

    def problems(self):
        return self.failing


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def supervision():
    return Supervision()


@pytest.fixture
def watcher(folder, supervision):
    watcher = Watcher(folder, supervision)
    yield watcher
    watcher.stop()


def found(path, size):
    return {path: Found("m", None, path, (("m.onnx", size, 1),))}


def looks(watcher, num=2):
    for _ in range(num):
        watcher.look()


def test_a_file_is_taken_when_it_has_rested_for_a_look(tmp_path):
    path = tmp_path / "m.onnx"
    held = {path: Held((("m.onnx", 5, 1),), "m", "1", path)}

    assert decide({}, found(path, 5), {}).takes == []
    assert decide(found(path, 4), found(path, 5), {}).takes == []
    assert [each.path for each in decide(found(path, 5), found(path, 5), {}).takes] == [path]
    assert decide(found(path, 5), found(path, 5), held).takes == []


def test_a_file_is_gone_when_two_looks_miss_it(tmp_path):
    path = tmp_path / "m.onnx"
    held = {path: Held((("m.onnx", 5, 1),), "m", "1", path)}

    assert decide(found(path, 5), {}, held).drops == []
    assert decide({}, {}, held).drops == [path]


def test_the_highest_version_has_the_traffic(tmp_path):
    held = {tmp_path / version: Held((), "m", version, tmp_path / version) for version in ("9", "10", "beta")}
    held[tmp_path / "bad"] = Held((), "other")

    planned = plans(held)

    assert planned["m"].shares == {"10": 1.0}
    assert set(planned["m"].versions) == {"9", "10", "beta"}
    assert "other" not in planned


def test_files_versions_and_packages_are_models(folder, scorer):
    shutil.copy(scorer, folder / "my scorer.onnx")
    shutil.copy(scorer, folder / ".hidden.onnx")
    (folder / "notes.txt").write_text("nothing to serve")
    for version in ("1", "2"):
        (folder / "many" / version).mkdir(parents=True)
        shutil.copy(scorer, folder / "many" / version / "model.onnx")
    package(scorer, example=EXAMPLE, name="x", path=folder / "packed")

    models = {(each.name, each.version) for each in scan(folder).values()}

    assert models == {("my-scorer", None), ("many", "1"), ("many", "2"), ("packed", None)}


def test_models_come_change_and_go_with_their_files(folder, supervision, watcher, scorer, other_scorer):
    shutil.copy(scorer, folder / "m.onnx")
    looks(watcher)
    first = supervision.planned["m"]

    shutil.copy(other_scorer, folder / "m.onnx")
    looks(watcher)
    second = supervision.planned["m"]
    (folder / "m.onnx").unlink()
    looks(watcher)

    assert list(first.shares) != list(second.shares)
    assert supervision.planned == {}


def test_what_is_served_is_a_copy(folder, supervision, watcher, scorer):
    shutil.copy(scorer, folder / "m.onnx")
    looks(watcher)
    (path,) = supervision.planned["m"].versions.values()

    (folder / "m.onnx").write_bytes(b"half writ")

    assert Path(path).read_bytes() == scorer.read_bytes()


def test_a_file_that_no_replica_can_load_leaves_the_old_one(folder, supervision, watcher, scorer):
    shutil.copy(scorer, folder / "m.onnx")
    looks(watcher)
    good = supervision.planned["m"]
    (folder / "m.onnx").write_bytes(scorer.read_bytes()[:50])
    looks(watcher)
    (bad,) = supervision.planned["m"].shares

    supervision.failing = [Problem("m", bad, "it is cut", "mend it")]
    watcher.look()
    supervision.failing = []
    looks(watcher, 3)

    assert supervision.planned["m"] == good


def test_a_first_file_that_cannot_be_loaded_is_not_served_until_it_is_mended(folder, supervision, watcher, scorer):
    (folder / "m.onnx").write_bytes(b"not a model")
    looks(watcher)
    (bad,) = supervision.planned["m"].shares
    supervision.failing = [Problem("m", bad, "no model", "mend it")]
    watcher.look()
    supervision.failing = []

    assert supervision.planned == {}

    shutil.copy(scorer, folder / "m.onnx")
    looks(watcher)

    assert supervision.planned["m"].shares.keys() != {bad}


def test_a_damaged_package_leaves_the_old_one(folder, supervision, watcher, scorer, caplog):
    made = package(scorer, example=EXAMPLE, name="x", path=folder / "p" / "1")
    looks(watcher)
    good = supervision.planned["p"]

    shutil.copytree(made.path, folder / "p" / "2")
    (folder / "p" / "2" / "model.onnx").write_bytes(b"cut")
    looks(watcher)

    assert supervision.planned["p"] == good
    assert "what was served before still is" in caplog.text


def test_content_does_not_change_under_its_version(folder, supervision, watcher, scorer, other_scorer, caplog):
    (folder / "m" / "1").mkdir(parents=True)
    shutil.copy(scorer, folder / "m" / "1" / "model.onnx")
    looks(watcher)
    good = supervision.planned["m"]

    shutil.copy(other_scorer, folder / "m" / "1" / "model.onnx")
    looks(watcher)

    assert supervision.planned["m"] == good
    assert "put changed content into a new version" in caplog.text


def test_what_is_there_at_the_start_is_planned_at_once(folder, supervision, watcher, scorer):
    shutil.copy(scorer, folder / "m.onnx")

    watcher.start()

    assert isinstance(supervision.planned["m"], ModelPlan)


def test_a_folder_that_is_gone_changes_nothing_and_stops_nothing(folder, supervision, scorer, eventually, caplog):
    shutil.copy(scorer, folder / "m.onnx")
    watcher = Watcher(folder, supervision)
    watcher.start()

    shutil.rmtree(folder)
    watcher.look_now()
    eventually(lambda: "cannot look at the models" in caplog.text)
    watcher.stop()

    assert "m" in supervision.planned


def test_a_server_follows_its_folder(folder, scorer, other_scorer, eventually):
    shutil.copy(scorer, folder / "first.onnx")
    (folder / "broken.onnx").write_bytes(b"not a model")

    def shares():
        return server.status()["models"]

    with start(folder, port=0, replicas=1) as server, Client(server.url) as client:
        before = client.infer("first", EXAMPLE)
        shutil.copy(other_scorer, folder / "second.onnx")
        eventually(lambda: "second" in shares())
        shutil.copy(other_scorer, folder / "first.onnx")
        eventually(lambda: client.infer("first", EXAMPLE).version != before.version)
        changed = client.infer("first", EXAMPLE)
        (folder / "first.onnx").write_bytes(b"half")
        (folder / "second.onnx").unlink()
        eventually(lambda: "second" not in shares())

        assert client.infer("first", EXAMPLE).version == changed.version
        assert "broken" not in shares()


def test_an_empty_folder_is_served_until_something_comes(folder, scorer, eventually):
    with start(folder, port=0, replicas=1) as server, Client(server.url) as client:
        shutil.copy(scorer, folder / "late.onnx")
        eventually(lambda: "late" in server.status()["models"])

        assert client.infer("late", EXAMPLE).outputs["scores"].shape == (2, 3)


def test_an_unloaded_model_comes_back_when_its_file_changes(folder, supervision, watcher, scorer, other_scorer):
    shutil.copy(scorer, folder / "m.onnx")
    looks(watcher)
    first = supervision.planned["m"]
    watcher.unload("m")
    looks(watcher, 3)
    unloaded = dict(supervision.planned)
    shutil.copy(other_scorer, folder / "m.onnx")
    looks(watcher)

    assert unloaded == {}
    assert supervision.planned["m"] != first


def test_an_unloaded_model_whose_new_file_is_damaged_stays_unloaded(folder, supervision, watcher, scorer):
    shutil.copy(scorer, folder / "m.onnx")
    looks(watcher)
    watcher.unload("m")
    (folder / "m.onnx").write_bytes(b"cut")
    looks(watcher)
    (bad,) = supervision.planned["m"].shares
    supervision.failing = [Problem("m", bad, "it is cut", "mend it")]
    watcher.look()
    supervision.failing = []
    looks(watcher, 3)

    assert supervision.planned == {}


def test_a_load_does_not_wait_for_a_second_look(folder, supervision, watcher, scorer):
    shutil.copy(scorer, folder / "m.onnx")

    watcher.load("m")
    first = supervision.planned["m"]
    looks(watcher, 3)

    assert supervision.planned["m"] == first


def test_all_versions_of_a_model_go_and_come(folder, supervision, watcher, scorer):
    for version in ("1", "2"):
        (folder / "m" / version).mkdir(parents=True)
        shutil.copy(scorer, folder / "m" / version / "model.onnx")
    looks(watcher)
    both = supervision.planned["m"]
    watcher.unload("m")
    assert supervision.planned == {}
    watcher.load("m")

    assert supervision.planned["m"] == both


def test_a_load_tells_what_is_wrong_with_the_newest_version_alone(folder, supervision, watcher, scorer):
    made = package(scorer, example=EXAMPLE, name="x", path=folder / "p" / "2")
    looks(watcher)
    shutil.copytree(made.path, folder / "p" / "1")
    (folder / "p" / "1" / "model.onnx").write_bytes(b"cut")

    watcher.load("p")

    assert list(supervision.planned["p"].versions) == ["2"]

    shutil.copytree(folder / "p" / "1", folder / "p" / "3")
    with pytest.raises(CorruptError, match=r"model\.onnx"):
        watcher.load("p")

    assert list(supervision.planned["p"].versions) == ["2"]


def test_a_load_tells_of_content_that_changed_under_its_version(folder, supervision, watcher, scorer, other_scorer):
    (folder / "m" / "1").mkdir(parents=True)
    shutil.copy(scorer, folder / "m" / "1" / "model.onnx")
    looks(watcher)
    shutil.copy(other_scorer, folder / "m" / "1" / "model.onnx")

    with pytest.raises(ConfigError, match="put changed content into a new version"):
        watcher.load("m")


def test_what_is_not_in_the_folder_is_neither_loaded_nor_unloaded(folder, watcher, scorer):
    shutil.copy(scorer, folder / "m.onnx")

    with pytest.raises(NotFoundError, match="there is no model 'x' in the folder that is served, only m"):
        watcher.load("x")
    with pytest.raises(NotFoundError, match="there is no model 'm'"):
        watcher.unload("m")


def test_unloading_what_is_not_served_changes_nothing(folder, supervision, watcher, scorer):
    shutil.copy(scorer, folder / "m.onnx")
    looks(watcher)

    first, second = watcher.unload("m"), watcher.unload("m")

    assert (first, second) == (7, None)

"""What wishes change in the plan, and what they are answered; fronts are played by the test."""

import threading

import numpy as np
import pytest

import shoal.store
from shoal.base import (
    ConfigError,
    ConflictError,
    CorruptError,
    InputError,
    NotFoundError,
    ServeError,
    StorageFullError,
    UnavailableError,
)
from shoal.model import package
from shoal.runtime import Member, Report
from shoal.serve.host.following import Follower
from shoal.serve.host.repository import Repository, status_of
from shoal.serve.host.settings import ServeSettings
from shoal.serve.host.supervision import Supervision
from shoal.serve.host.target import Target, single
from shoal.serve.host.watching import Watcher
from shoal.serve.links.messages import Plan, Problem, Serving, Wish, WishDone, encode_message, read_for_front

EXAMPLE = {"image": np.zeros((2, 2, 2), np.uint8)}


class Fronts:
    """Two fronts that serve at once what is planned, but for versions that are broken; `is_silent` makes them hang."""

    restarts = 0

    def __init__(self, supervision):
        self.supervision, self.broken, self.is_silent = supervision, set(), False
        self.shares, self.answers, self.came = {}, [], threading.Semaphore(0)

    def send(self, rank, message):
        told = read_for_front(message)
        if isinstance(told, WishDone):
            self.answers.append((rank, told))
            self.came.release()
        elif isinstance(told, Plan) and not self.is_silent:
            self.follow(rank, told)

    def follow(self, rank, plan):
        problems = []
        before, self.shares[rank] = self.shares.get(rank, {}), {}
        for name, planned in plan.models.items():
            failing = sorted(set(planned.versions) & self.broken)
            problems += [Problem(name, version, "it is cut", "mend it") for version in failing]
            if not failing:
                self.shares[rank][name] = planned.shares
            elif name in before:
                self.shares[rank][name] = before[name]
        told = Serving(plan.generation, self.shares[rank], problems)
        self.supervision._on_front(Report(Member("front", rank), encode_message(told)))

    def served(self):
        """What both serve: model -> versions."""
        first, second = self.shares[0], self.shares[1]
        assert first == second
        return {name: list(shares) for name, shares in first.items()}

    def answer(self):
        assert self.came.acquire(timeout=20)
        return self.answers[-1]

    def pids(self):
        return {}

    def stop(self, grace_s=5.0): ...


class House:
    """A supervision with such fronts, and the repository over it."""

    def __init__(self, folder, target, *, follows=False, timeout_s=20.0):
        self.supervision = Supervision(ServeSettings(port=0, fronts=2), None, folder)
        self.fronts = self.supervision._front = self.supervision._replicas = Fronts(self.supervision)
        self.watcher = Watcher(target.folder, self.supervision) if target.folder is not None else None
        follower = Follower(target.store, target.name, target.alias, self.supervision, since=0) if follows else None
        self.repository = Repository(
            self.supervision, target, watcher=self.watcher, follower=follower, timeout_s=timeout_s
        )
        for name, planned in target.plans.items():
            self.supervision.send_plan(name, planned)
        if self.watcher is not None:
            self.watcher.look()
            self.watcher.look()

    def wish(self, action, model, rank=1):
        self.repository.take(rank, Wish("a1", action, model))
        return self.fronts.answer()


@pytest.fixture
def two(tmp_path, scorer, other_scorer):
    """A server of two files."""
    return House(tmp_path, Target("m", single(str(scorer)), beside={"n": single(str(other_scorer))}))


@pytest.fixture
def folder(tmp_path, scorer):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(scorer.read_bytes())
    return folder


@pytest.fixture
def watched(tmp_path, folder):
    house = House(tmp_path, Target("models", single(""), folder=folder))
    yield house
    house.watcher.stop()


@pytest.fixture
def registry(tmp_path, scorer, other_scorer):
    """A registry with two models."""
    with shoal.store.open(tmp_path / ".shoal") as store:
        for path in (scorer, other_scorer):
            made = package(path, example=EXAMPLE, name=path.stem, path=tmp_path / path.stem)
            store.models.register(path.stem, made)
        yield store


def from_registry(tmp_path, store, **options):
    main = store.models.get("scorer")
    return House(tmp_path, Target("scorer", single(str(main.path)), store, ""), **options)


def test_what_the_server_was_started_with_goes_and_comes_back(two):
    two.repository.unload("m")
    without = two.fronts.served()
    two.repository.unload("m")
    two.repository.load("m")

    assert without == {"n": ["1"]}
    assert two.fronts.served() == {"m": ["1"], "n": ["1"]}


def test_what_was_swapped_in_comes_back_as_it_was(two, other_scorer):
    two.supervision.send_plan("m", single(str(other_scorer), "2"))
    two.repository.unload("m")
    two.repository.load("m")

    assert two.fronts.served()["m"] == ["2"]


@pytest.mark.parametrize("action", ["load", "unload"])
def test_a_name_that_is_nowhere_is_told_with_those_that_are(two, action):
    with pytest.raises(NotFoundError, match=r"there is no model 'x' that could be loaded or unloaded here, only m, n;"):
        getattr(two.repository, action)("x")


def test_a_version_does_not_come_to_mean_other_content(tmp_path, scorer, other_scorer):
    path = tmp_path / "m.onnx"
    path.write_bytes(scorer.read_bytes())
    house = House(tmp_path, Target("m", single(str(path))))
    path.write_bytes(other_scorer.read_bytes() + b"\0")

    for _ in range(2):
        with pytest.raises(ConfigError, match=r"m\.onnx was changed since it was first served as m@1"):
            house.repository.load("m")
        house.repository.unload("m")


def test_a_load_that_fails_leaves_what_was_served(two, other_scorer):
    two.supervision.send_plan("m", single(str(other_scorer), "2"))
    two.repository.unload("m")
    two.fronts.broken = {"2"}

    with pytest.raises(ServeError, match="cannot load m@2: it is cut; next: mend it") as caught:
        two.repository.load("m")

    assert caught.value.status == 422
    assert two.fronts.served() == {"n": ["1"]}
    two.fronts.broken = set()
    two.repository.load("m")
    assert two.fronts.served()["m"] == ["2"]


def test_what_takes_too_long_is_told(tmp_path, scorer):
    house = House(tmp_path, Target("m", single(str(scorer))), timeout_s=0.01)
    house.fronts.is_silent = True

    with pytest.raises(UnavailableError, match="m is not unloaded on every front after"):
        house.repository.unload("m")
    with pytest.raises(UnavailableError, match="m is not loaded on every front after"):
        house.repository.load("m")


def test_whoever_is_overtaken_by_the_opposite_wish_hears_so(two, eventually):
    two.fronts.is_silent = True
    two.repository.take(0, Wish("a1", "unload", "m"))
    eventually(lambda: two.supervision.plan_of("m") is None)
    two.fronts.is_silent = False

    two.repository.load("m")

    assert two.fronts.answer()[1].status == 409
    assert two.fronts.served()["m"] == ["1"]


def test_a_watched_model_stays_unloaded_until_it_is_loaded(watched):
    (version,) = watched.fronts.served()["m"]
    watched.repository.unload("m")
    watched.repository.unload("m")
    for _ in range(3):
        watched.watcher.look()
    without = watched.fronts.served()
    watched.repository.load("m")

    assert without == {}
    assert watched.fronts.served() == {"m": [version]}


def test_a_damaged_file_of_the_folder_is_told_and_the_old_one_stays(watched, folder):
    (version,) = watched.fronts.served()["m"]
    (folder / "m.onnx").write_bytes(b"cut")
    # Which version that is, its content says.
    watched.fronts.broken = AllBut(version)
    with pytest.raises(ServeError, match="cannot load m@"):
        watched.repository.load("m")

    assert watched.fronts.served() == {"m": [version]}


class AllBut:
    """All versions but one."""

    def __init__(self, version):
        self.version = version

    def __rand__(self, versions):
        return versions - {self.version}


def test_a_name_that_is_not_in_the_folder_is_told(watched):
    for action in (watched.repository.load, watched.repository.unload):
        with pytest.raises(NotFoundError, match="there is no model 'x' in the folder"):
            action("x")


@pytest.mark.parametrize("follows", [True, False])
def test_any_model_of_the_registry_can_be_loaded(tmp_path, registry, follows):
    house = from_registry(tmp_path, registry, follows=follows)

    house.repository.load("other")
    both = house.fronts.served()
    house.repository.unload("scorer")
    house.repository.unload("scorer")
    house.repository.load("scorer")
    house.repository.unload("other")

    assert both == {"scorer": ["1"], "other": ["1"]}
    assert house.fronts.served() == {"scorer": ["1"]}


@pytest.mark.parametrize("name", ["absent", "scorer@1", "../scorer", ""])
def test_what_is_no_name_in_the_registry_is_not_found(tmp_path, registry, name):
    with pytest.raises(NotFoundError):
        from_registry(tmp_path, registry).repository.load(name)


def test_a_damaged_package_is_refused_before_it_is_planned(tmp_path, registry):
    house = from_registry(tmp_path, registry)
    path = registry.models.get("other").path / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(CorruptError, match=r"model\.onnx"):
        house.repository.load("other")

    assert house.fronts.served() == {"scorer": ["1"]}


def test_a_model_of_the_registry_that_no_replica_can_load_is_not_served(tmp_path, registry):
    house = from_registry(tmp_path, registry, follows=True)
    house.fronts.broken = {"1"}
    house.repository.unload("scorer")

    with pytest.raises(ServeError, match="cannot load other@1"):
        house.repository.load("other")

    assert house.fronts.served() == {}


def test_a_wish_is_answered_at_the_front_that_it_came_by(two):
    assert two.wish("unload", "m", rank=0) == (0, WishDone("a1", 200))
    rank, done = two.wish("load", "x", rank=1)

    assert (rank, done.status) == (1, 404)
    assert "start the server with a folder of models" in done.next_step


@pytest.mark.parametrize(("error", "status"), [(OSError("the disk is away"), 503), (RuntimeError("a bug"), 500)])
def test_whatever_goes_wrong_the_client_is_answered(two, monkeypatch, error, status):
    def fail(name):
        raise error

    monkeypatch.setattr(two.repository, "load", fail)

    assert two.wish("load", "m")[1].status == status


def test_more_wishes_than_there_is_room_for_are_refused(two):
    while two.repository._slots.acquire(blocking=False):
        pass

    assert two.wish("unload", "m")[1].status == 503


def test_an_answer_for_a_front_that_is_gone_is_dropped(two, monkeypatch):
    def send(rank, message):
        raise InputError("no such rank", next_step="")

    monkeypatch.setattr(two.supervision, "_send", send)

    two.repository._answer(0, WishDone("a1", 200))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("no", next_step=""), 404),
        (ConflictError("no", next_step=""), 409),
        (ConfigError("no", next_step=""), 409),
        (CorruptError("no", next_step=""), 422),
        (ServeError("no", next_step="", status=422), 422),
        (UnavailableError("no", next_step=""), 503),
        (StorageFullError("no", next_step=""), 503),
    ],
)
def test_each_error_has_its_status(error, status):
    assert status_of(error) == status

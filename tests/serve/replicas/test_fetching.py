import os
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from shoal.base import CorruptError, NotFoundError, UnavailableError, digest_bytes
from shoal.model import open_package, package
from shoal.serve.host.model_files import ModelFiles
from shoal.serve.links.files import QUESTIONS, Absent, Content, Part, Parts, hear, tell
from shoal.serve.links.proof import answer, new_token
from shoal.serve.replicas import fetching
from shoal.serve.replicas.carrying import carry, receive
from shoal.serve.replicas.fetching import Fetcher, own_folder
from shoal.serve.replicas.loading import load_model

TOKEN = new_token()


@pytest.fixture
def elsewhere(monkeypatch):
    """As on a machine that has none of the files."""
    monkeypatch.setattr(fetching, "_is_here", lambda root, parts: False)


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path):
    monkeypatch.setattr(fetching, "_PAUSES_S", ())
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder / f"shoal-fetched-{os.getuid()}"


@pytest.fixture
def fetcher():
    files = ModelFiles("127.0.0.1", TOKEN, lambda source: "unplanned" not in source)
    yield Fetcher("127.0.0.1", files.port, TOKEN)
    files.close()


def test_what_is_there_already_is_used_as_it_is(fetcher, scorer, temporary):
    with fetcher.fetched(str(scorer)) as place:
        assert place == str(scorer)

    assert list(temporary.iterdir()) == []


def test_a_file_is_fetched_for_as_long_as_it_is_needed(fetcher, scorer, elsewhere, temporary):
    with fetcher.fetched(str(scorer)) as place:
        content = Path(place).read_bytes()
        model = load_model(place)

    assert place != str(scorer)
    assert Path(place).name == scorer.name
    assert content == scorer.read_bytes()
    assert list(temporary.iterdir()) == []
    # Loaded is loaded.
    (scores,) = model.run([np.ones((2, 2, 2), np.uint8)])
    assert scores.shape == (2, 3)


def test_another_file_under_the_same_path_is_not_taken_for_it(fetcher, scorer, other_scorer, tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    shutil.copyfile(scorer, path)
    found = []

    # Read by the supervisor as it is, and then by the replica, on whose machine somebody has put another one there.
    def is_here(root, parts):
        shutil.copyfile(other_scorer, path)
        found.append(real(root, parts))
        shutil.copyfile(scorer, path)
        return found[-1]

    real = fetching._is_here
    monkeypatch.setattr(fetching, "_is_here", is_here)
    with fetcher.fetched(str(path)) as place:
        assert Path(place).read_bytes() == scorer.read_bytes()

    assert found == [False]


def test_weights_beside_the_file_come_along(fetcher, tmp_path, elsewhere):
    (tmp_path / "m.onnx").write_bytes(b"graph")
    (tmp_path / "m.onnx.data").write_bytes(b"weights" * 100_000)
    (tmp_path / "other").write_bytes(b"no part of it")

    with fetcher.fetched(str(tmp_path / "m.onnx")) as place:
        found = {path.name: path.read_bytes() for path in Path(place).parent.iterdir()}

    assert found == {"m.onnx": b"graph", "m.onnx.data": b"weights" * 100_000}


def test_a_package_comes_whole(fetcher, scorer, tmp_path, elsewhere):
    made = package(scorer, example={"image": np.ones((2, 2, 2), np.uint8)}, path=tmp_path / "made")

    with fetcher.fetched(str(made.path)) as place:
        assert place != str(made.path)
        assert open_package(place).digest == made.digest


def test_python_that_the_supervisor_carries_comes_along(fetcher, elsewhere):
    class Local:
        def predict(self, batch):
            return batch

    with fetcher.fetched(carry(Local)) as place:
        assert receive(place).__name__ == "Local"


def test_a_class_in_a_file_comes_with_the_file(fetcher, tmp_path, elsewhere):
    (tmp_path / "mine.py").write_text("class Mine: ...")

    with fetcher.fetched(f"{tmp_path}/mine.py:Mine") as place:
        path, _, name = place.rpartition(":")
        assert name == "Mine"
        assert Path(path).read_text() == "class Mine: ..."


def test_a_module_is_there_or_is_not():
    with Fetcher("127.0.0.1", 1, TOKEN).fetched("package.module:Class") as place:
        assert place == "package.module:Class"


def test_what_is_not_planned_is_not_to_be_had(fetcher):
    with pytest.raises(NotFoundError, match="not served"), fetcher.fetched("/unplanned.onnx"):
        """It never comes here."""


def test_what_is_gone_is_told(fetcher, tmp_path):
    with pytest.raises(NotFoundError, match=r"gone\.onnx"), fetcher.fetched(str(tmp_path / "gone.onnx")):
        """It never comes here."""


def test_a_supervisor_that_cannot_be_reached_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(UnavailableError, match="cannot fetch"), Fetcher("127.0.0.1", port, TOKEN).fetched("/m.onnx"):
        """It never comes here."""


def test_a_hiccup_of_the_network_is_no_reason_to_give_up(answers, monkeypatch):
    monkeypatch.setattr(fetching, "_PAUSES_S", (0.0, 0.0))
    told = [Parts([part()], is_folder=False)]
    fetcher = answers([told], [told, [Content(3), b"ab"]], [told, [Content(3), b"abc"]])

    with fetcher.fetched("/nowhere/m.onnx") as place:
        assert Path(place).read_bytes() == b"abc"


def test_a_supervisor_with_another_token_is_not_believed(fetcher):
    other = Fetcher(*fetcher._place[:2], new_token())

    with pytest.raises(UnavailableError), other.fetched("/m.onnx"):
        """It never comes here."""


@pytest.fixture
def answers():
    """A supervisor that says what it is told to say on each connection, whatever is asked."""
    threads = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def start(*calls):
            def serve():
                for replies in calls:
                    connection, _ = listener.accept()
                    with connection:
                        assert answer(connection, TOKEN)
                        for reply in replies:
                            hear(connection, QUESTIONS)
                            for each in reply:
                                connection.sendall(each) if isinstance(each, bytes) else tell(connection, each)

            threads.append(threading.Thread(target=serve))
            threads[-1].start()
            return Fetcher("127.0.0.1", listener.getsockname()[1], TOKEN)

        yield start
        for thread in threads:
            thread.join()


def part(name="m.onnx", content=b"abc"):
    return Part(name, len(content), digest_bytes(content))


@pytest.mark.parametrize(
    ("replies", "error", "words"),
    [
        ([[Parts([part("../../m.onnx")], is_folder=True)]], CorruptError, "something else"),
        ([[Parts([part("/etc/m.onnx")], is_folder=True)]], CorruptError, "something else"),
        ([[Parts([part("")], is_folder=True)]], CorruptError, "something else"),
        ([[Content(3)]], CorruptError, "something else"),
        ([[Parts([part()], is_folder=False)], [Content(4)]], CorruptError, "something else"),
        ([[Parts([part()], is_folder=False)], [Content(3), b"abd"]], CorruptError, "changed"),
        ([[Parts([part()], is_folder=False)], [Content(3), b"ab"]], UnavailableError, "hung up"),
        ([[Parts([part()], is_folder=False)], [Absent("gone", "wait")]], NotFoundError, "gone"),
        ([[Parts([part()], is_folder=False)]], UnavailableError, "hung up"),
        ([[b"\xff\xff\xff\xff"]], CorruptError, "message of"),
    ],
)
def test_what_is_not_as_announced_is_refused_and_leaves_nothing(answers, temporary, replies, error, words):
    fetcher = answers(replies)

    with pytest.raises(error, match=words), fetcher.fetched("/nowhere/m.onnx"):
        """It never comes here."""

    assert not temporary.exists() or list(temporary.iterdir()) == []


def test_folders_of_the_dead_go_and_those_of_the_living_stay(temporary):
    with own_folder() as first:
        (first / "file").write_bytes(b"x")
        dead = temporary / "dead"
        dead.mkdir()
        (dead / "file").write_bytes(b"x")
        with own_folder() as second:
            assert sorted(temporary.iterdir()) == sorted([first, second])
            assert (first / "file").exists()

    assert list(temporary.iterdir()) == []


def test_a_folder_that_may_be_somebody_elses_is_not_used(temporary, tmp_path):
    temporary.symlink_to(tmp_path)

    with pytest.raises(UnavailableError, match="somebody else"), own_folder():
        """It never comes here."""

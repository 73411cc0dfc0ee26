import socket

import pytest

from shoal.base import digest_bytes
from shoal.serve.host import model_files
from shoal.serve.host.model_files import ModelFiles
from shoal.serve.links.files import REPLIES, Absent, Ask, Content, Get, Part, Parts, hear, receive_exactly, tell
from shoal.serve.links.proof import call, new_token

TOKEN = new_token()


@pytest.fixture
def planned():
    return set()


@pytest.fixture
def files(planned):
    files = ModelFiles("127.0.0.1", TOKEN, planned.__contains__)
    yield files
    files.close()


@pytest.fixture
def caller(files):
    with call("127.0.0.1", files.port, TOKEN) as connection:
        connection.settimeout(20)
        yield connection


def ask(connection, question):
    tell(connection, question)
    return hear(connection, REPLIES)


def test_a_planned_file_is_told_and_given(caller, planned, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"graph")
    planned.add(str(path))

    found = ask(caller, Ask(str(path)))
    content = ask(caller, Get(digest_bytes(b"graph")))

    assert found == Parts([Part("m.onnx", 5, digest_bytes(b"graph"))], is_folder=False)
    assert content == Content(5)
    assert receive_exactly(caller, 5) == b"graph"


def test_a_planned_folder_is_told_with_all_in_it(caller, planned, tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "empty").write_bytes(b"")
    (tmp_path / "a").write_bytes(b"a")
    planned.add(str(tmp_path))

    found = ask(caller, Ask(str(tmp_path)))
    empty = ask(caller, Get(digest_bytes(b"")))

    assert [part.name for part in found.parts] == ["a", "inner/empty"]
    assert found.is_folder
    assert empty == Content(0)


def test_nothing_else_is_told_or_given(caller, planned, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    planned.add(str(tmp_path / "gone.onnx"))

    assert isinstance(ask(caller, Ask(str(secret))), Absent)
    assert isinstance(ask(caller, Get(digest_bytes(b"secret"))), Absent)
    assert isinstance(ask(caller, Ask(str(tmp_path / "gone.onnx"))), Absent)


def test_a_file_that_went_since_it_was_told_is_told_as_gone(caller, planned, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"graph")
    planned.add(str(path))
    ask(caller, Ask(str(path)))
    path.unlink()

    assert isinstance(ask(caller, Get(digest_bytes(b"graph"))), Absent)


def test_who_does_not_know_the_token_hears_nothing(files):
    with pytest.raises(OSError, match="hung up"):
        call("127.0.0.1", files.port, new_token())


@pytest.mark.parametrize("noise", [b"\xff\xff\xff\xff", b"\x02\0\0\0\xc1\xc1"])
def test_who_talks_nonsense_is_left(caller, noise):
    caller.sendall(noise)

    assert caller.recv(100) == b""


def test_more_callers_than_there_is_room_for_come_again(monkeypatch):
    monkeypatch.setattr(model_files, "_MOST_UNPROVED", 1)
    files = ModelFiles("127.0.0.1", TOKEN, lambda _: False)
    with socket.create_connection(("127.0.0.1", files.port)) as stranger:
        assert stranger.recv(100)
        with socket.create_connection(("127.0.0.1", files.port)) as another:
            assert another.recv(100) == b""
    while True:
        try:
            connection = call("127.0.0.1", files.port, TOKEN)
        except OSError:
            continue
        break
    connection.close()
    files.close()

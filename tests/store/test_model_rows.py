import pytest

from shoal.base import NotFoundError
from shoal.store.addresses import parse_address
from shoal.store.model_rows import find_row, newest_version, read_aliases, read_moves


@pytest.fixture
def registered(store, tmp_path):
    for content in "ab":
        (tmp_path / "model.onnx").write_text(content)
        store.models.register("fashion", tmp_path)


@pytest.mark.parametrize(
    ("address", "words", "next_step"),
    [
        ("fashio", "no model 'fashio'", "did you mean 'fashion'"),
        ("zebra", "no model 'zebra'", "register"),
        ("fashion@7", "its newest is 2", "versions"),
        ("fashion@staging", r"its aliases are \[\]", "versions"),
    ],
)
def test_message_names_what_there_is(store, registered, database, address, words, next_step):
    with database.read() as connection, pytest.raises(NotFoundError, match=words) as caught:
        find_row(connection, parse_address(address))

    assert next_step in caught.value.next_step


def test_unknown_model_has_nothing(database):
    with database.read() as connection:
        assert newest_version(connection, "none") == 0
        assert read_aliases(connection, "none") == {}
        assert read_moves(connection, "none") == []

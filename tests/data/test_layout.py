from shoal.data import Column
from shoal.data.layout import Layout, layout_of, with_ids

A = Column(name="a", dtype="int64", id=0)
B = Column(name="b", dtype="int64", id=1)


def test_a_column_is_found_by_its_id_whatever_it_is_called_now() -> None:
    layout = layout_of((A, B))

    assert layout.name_of(Column(name="b", dtype="int64", id=0)) == "a"


def test_a_column_that_came_later_is_not_there() -> None:
    assert layout_of((A,)).name_of(B) is None


def test_a_column_without_an_id_goes_by_its_name() -> None:
    assert Layout(()).name_of(Column(name="x", dtype="int64")) == "x"


def test_new_columns_get_numbers_that_none_ever_had() -> None:
    columns, next_id = with_ids((A, Column(name="c", dtype="int64")), (A, B), 7)

    assert [column.id for column in columns] == [0, 7]
    assert next_id == 8


def test_known_names_keep_their_numbers() -> None:
    columns, next_id = with_ids((Column(name="b", dtype="int64"), Column(name="a", dtype="int64")), (A, B), 2)

    assert [column.id for column in columns] == [1, 0]
    assert next_id == 2


def test_a_name_that_was_given_away_starts_anew() -> None:
    renamed = Column(name="b", dtype="int64", id=0)

    columns, next_id = with_ids((renamed, Column(name="a", dtype="int64")), (A,), 1)

    assert [column.id for column in columns] == [0, 1]
    assert next_id == 2

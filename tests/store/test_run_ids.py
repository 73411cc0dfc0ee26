import pytest

from shoal.base import NotFoundError
from shoal.store.run_ids import check_run, run_id, run_number


@pytest.mark.parametrize(("number", "id"), [(1, "r-0001"), (9999, "r-9999"), (10000, "r-10000")])
def test_id_and_number_are_one_to_one(number, id):
    assert run_id(number) == id
    assert run_number(id) == number


@pytest.mark.parametrize("id", ["r-1", "r-00001", "1", "R-0001", "r-0001 ", "r-١٢٣٤", "r-" + "9" * 30])
def test_other_text_is_no_run(id):
    with pytest.raises(NotFoundError, match="expected an id"):
        run_number(id)


def test_run_that_is_not_there_is_not_found(database):
    with database.read() as connection, pytest.raises(NotFoundError, match="r-0042"):
        check_run(connection, "r-0042")

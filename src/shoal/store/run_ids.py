"""Run ids: "r-0001" for people, 1 for the tables."""

import re

from sqlalchemy import Connection, select

from shoal.base import NotFoundError
from shoal.store.schema import runs

_ID = re.compile(r"r-(\d{4,18})")


def run_id(number: int) -> str:
    """The id of the run with this number."""
    return f"r-{number:04d}"


def run_number(id: str) -> int:
    """The number in the id; NotFoundError for text of another form, as no run can bear it."""
    match = _ID.fullmatch(id)
    if match is None or run_id(int(match[1])) != id:
        raise NotFoundError(
            f"cannot find run {id!r}: expected an id such as 'r-0001'", next_step="list the runs: store.runs.list()"
        )
    return int(match[1])


def check_run(connection: Connection, id: str) -> int:
    """The run's number, after a look that it is there.

    Raises:
        NotFoundError: this store has no such run.
    """
    number = run_number(id)
    if connection.execute(select(runs.c.number).where(runs.c.number == number)).first() is None:
        raise NotFoundError(f"cannot find run {id} in this store", next_step="list the runs: store.runs.list()")
    return number

"""The SQL store keeps the whole contract, and opens without its weight."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import shoal.store
from shoal.base import ConflictError
from shoal.testing import StoreContract


class TestSqlStore(StoreContract):
    @pytest.fixture
    def store(self, home, clock):
        with shoal.store.open(home, clock=clock) as store:
            yield store


def test_part_is_made_once_by_racing_threads(store):
    with ThreadPoolExecutor(8) as threads:
        parts = list(threads.map(lambda _: store.runs, range(8)))

    assert len({id(part) for part in parts}) == 1


def test_store_that_was_never_used_closes(home):
    store = shoal.store.open(home)

    store.close()

    with pytest.raises(ConflictError, match="open it again"):
        _ = store.memo


def test_url_opens_the_same_store(store):
    run = store.runs.start(kind="train", name="n", config={})

    with shoal.store.open(store.url) as again:
        assert again.runs.get(run.id).name == "n"


def test_import_and_open_load_no_database_library(home):
    code = f"""
import sys, shoal.store
assert not {{"sqlalchemy", "alembic"}} & sys.modules.keys(), "import"
store = shoal.store.open({str(home)!r})
assert not {{"sqlalchemy", "alembic"}} & sys.modules.keys(), "open"
store.runs.list()
assert "alembic" not in sys.modules, "use"
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr

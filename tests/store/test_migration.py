import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import shoal.store
from shoal.base import CorruptError, UnsupportedError
from shoal.store import migration
from shoal.store.migration import REVISIONS, bring_up_to_date, read_revision
from shoal.store.schema import metadata


def _objects(path):
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        return set(found.fetchall())


@pytest.fixture
def first(tmp_path):
    """A store as the first revision left it, with a run in it."""
    path = tmp_path / "store.db"
    bring_up_to_date(path, target="0001")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO runs (kind, name, status, config, environment, started_us) "
            "VALUES ('train', 'old', 'done', '{\"width\":32}', '{}', 1700000000000000)"
        )
    return path


def test_revisions_are_those_of_the_scripts():
    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")

    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]

    assert tuple(reversed(scripts)) == REVISIONS == tuple(sorted(REVISIONS))


def test_migrations_lead_to_the_schema(home):
    engine = create_engine(f"sqlite:///{home / 'store.db'}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()

    assert differences == []


def test_schema_says_every_detail_that_the_migrations_say(home, tmp_path):
    """Also what alembic does not compare: row ids, numbering, foreign keys."""
    plain = create_engine(f"sqlite:///{tmp_path / 'plain.db'}")
    metadata.create_all(plain)
    plain.dispose()

    made = {entry for entry in _objects(home / "store.db") if "alembic" not in entry[1]}

    assert made == _objects(tmp_path / "plain.db")


def test_store_of_the_first_revision_is_carried_forward(first, home):
    with shoal.store.open(first.parent) as store:
        record = store.runs.get("r-0001")
        alert = store.alerts.record("drift", "fashion", {})

    assert (record.name, record.config) == ("old", {"width": 32})
    assert alert.id == 1
    assert _objects(first) == _objects(home / "store.db")


def test_failed_migration_leaves_the_store_as_it_was(first, monkeypatch):
    before = _objects(first)

    def fail(*_args, **_options):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        # The last table of revision 2: everything before it is made already.
        patch.setattr("sqlalchemy.sql.ddl.CreateTable.__init__", _fail_for("memo_claims", fail))
        with pytest.raises(RuntimeError, match="power cut"):
            bring_up_to_date(first)

    assert (read_revision(first), _objects(first)) == ("0001", before)
    bring_up_to_date(first)
    assert read_revision(first) == REVISIONS[-1]


def _fail_for(table, fail):
    from sqlalchemy.sql.ddl import CreateTable

    original = CreateTable.__init__

    def init(self, element, *args, **options):
        (fail if element.name == table else original)(self, element, *args, **options)

    return init


def test_store_of_a_newer_shoal_is_refused_untouched(home):
    path = home / "store.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")

    with pytest.raises(UnsupportedError, match=r"0999.*upgrade shoal"):
        bring_up_to_date(path)

    assert read_revision(path) == "0999"


def test_garbage_is_refused_untouched(tmp_path):
    path = tmp_path / "store.db"
    path.write_bytes(b"garbage" * 1000)

    with pytest.raises(CorruptError, match=r"store\.db"):
        bring_up_to_date(path)

    assert path.read_bytes() == b"garbage" * 1000


def test_empty_file_of_a_killed_beginning_becomes_a_store(tmp_path):
    path = tmp_path / "store.db"
    path.touch()

    bring_up_to_date(path)

    assert read_revision(path) == REVISIONS[-1]


def test_rivals_make_one_store(tmp_path):
    path = tmp_path / "store.db"

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: bring_up_to_date(path), range(4)))

    assert read_revision(path) == REVISIONS[-1]


def test_processes_that_open_a_new_store_at_once_make_one(home, program):
    for path in home.iterdir():
        path.unlink()
    body = 'print(store.runs.start(kind="train", name="n", config={}).id)'

    with program(body) as first, program(body) as second:
        ids = {first.stdout.readline(), second.stdout.readline()}

    assert ids == {"r-0001\n", "r-0002\n"}

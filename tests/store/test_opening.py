from pathlib import Path

import pytest

import shoal.store
from shoal.base import CorruptError, NotFoundError, UnsupportedError


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """An empty folder to work in, with no settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in ("SHOAL_STORE", "SHOAL_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_new_store_is_made_in_the_working_folder(somewhere):
    with shoal.store.open() as store:
        assert store.home == somewhere / ".shoal"

    assert (somewhere / ".shoal" / "store.db").is_file()


def test_nearest_store_upwards_is_found(somewhere, monkeypatch):
    shoal.store.open().close()
    (somewhere / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(somewhere / "deep" / "down")

    with shoal.store.open() as store:
        assert store.home == somewhere / ".shoal"


def test_setting_names_the_store(somewhere, monkeypatch):
    monkeypatch.setenv("SHOAL_STORE", str(somewhere / "team"))

    with shoal.store.open() as store:
        assert store.home == somewhere / "team"


@pytest.mark.parametrize("form", ["{0}", "{0}/store.db", "sqlite:///{0}/store.db"])
def test_folder_file_and_url_mean_the_same(somewhere, form):
    shoal.store.open(somewhere / "home").close()

    with shoal.store.open(form.format(somewhere / "home"), create=False) as store:
        assert (store.home, store.url) == (somewhere / "home", f"sqlite:///{somewhere}/home/store.db")


def test_missing_store_is_not_made_unasked(somewhere):
    with pytest.raises(NotFoundError):
        shoal.store.open(create=False)
    with pytest.raises(NotFoundError, match="home"):
        shoal.store.open(somewhere / "home", create=False)

    assert list(somewhere.iterdir()) == []


@pytest.mark.parametrize("url", ["postgresql://db/shoal", "s3://bucket", "sqlite:///"])
def test_other_urls_are_refused_by_name(url):
    with pytest.raises(UnsupportedError, match=url):
        shoal.store.open(url)


def test_file_that_is_no_database_is_refused(somewhere):
    (somewhere / "store.db").write_text("notes " * 1000)

    with pytest.raises(CorruptError, match=r"store\.db"):
        shoal.store.open(somewhere)


def test_strange_folder_names_are_just_names(somewhere):
    home = somewhere / "100% ä #1?mode=ro"

    with shoal.store.open(home) as store:
        run = store.runs.start(kind="train", name="n", config={})
        run.finish()
    with shoal.store.open(Path(str(home))) as store:
        assert store.runs.get(run.id).status == "done"

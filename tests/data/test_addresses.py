from pathlib import Path

import pytest

import shoal
from shoal.base import ConfigError, InputError
from shoal.data.addresses import folder_for_writing, local_address


@pytest.fixture
def clicks(tmp_path, home, make_rows):
    """A dataset in a folder that is opened by a URL."""
    shoal.data.ingest(make_rows(50), tmp_path / "clicks")
    return f"file://{tmp_path}/clicks"


def test_a_url_becomes_an_address_on_this_machine(clicks):
    address = local_address(clicks)

    assert address.endswith("/clicks@1")
    assert Path(address.removesuffix("@1")).is_dir()


def test_what_follows_the_version_is_kept(clicks):
    assert local_address(f"{clicks}@1#0-8000").endswith("/clicks@1#0-8000")


def test_two_versions_at_once_are_refused(clicks):
    with pytest.raises(InputError, match="version=2"):
        local_address(f"{clicks}@1", 2)


def test_options_are_for_urls(tmp_path):
    with pytest.raises(ConfigError, match="options"):
        folder_for_writing(tmp_path, {"region": "x"})


def test_a_folder_stays_a_folder(tmp_path):
    assert folder_for_writing(tmp_path / "clicks") == tmp_path / "clicks"


def test_a_dataset_in_a_folder_opens_by_its_url(clicks, tmp_path):
    remote = shoal.data.open(clicks)

    assert remote.digest == shoal.data.open(tmp_path / "clicks").digest
    assert len(remote.arrays()["label"]) == 50

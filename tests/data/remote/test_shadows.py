import pickle
import shutil

import numpy as np
import pytest

import shoal
from shoal.data.remote import shadows
from shoal.data.remote.shadows import file_at, shadow_of


@pytest.fixture
def clicks(server, home, make_rows):
    """A dataset of 400 rows in 4 shards, written to a bucket; its URL."""
    url = server.s3_url("bucket/clicks")
    shoal.data.ingest(make_rows(400), url, num_shards=4)
    home()
    return url


def test_a_dataset_that_travelled_is_still_remote(clicks, make_rows):
    dataset = shoal.data.open(clicks)
    data = pickle.dumps(dataset)
    shutil.rmtree(dataset.path.parents[2])
    shadows._known.clear()

    found = pickle.loads(data).arrays(["user"])["user"]

    assert np.array_equal(np.sort(found), np.sort(make_rows(400)["user"]))


def test_a_folder_in_the_cache_is_a_shadow_for_whoever_has_not_opened_it(clicks):
    opened = shoal.data.open(clicks)
    profile = opened.path / "profiles" / f"{opened.manifest.profile.removeprefix('b3:')}.arrow"
    profile.unlink()
    shadows._known.clear()

    assert str(shadow_of(opened.path).location) == clicks
    assert file_at(opened.path, f"profiles/{profile.name}").exists()


def test_an_ordinary_folder_is_no_shadow(dataset):
    assert shadow_of(dataset.path) is None
    assert dataset.origin is None

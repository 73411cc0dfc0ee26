import os

import numpy as np
import pytest

from shoal.base import RemoteError
from shoal.data.remote.elsewhere import fetch_elsewhere
from shoal.data.remote.fetching import Content
from shoal.data.remote.forking import is_forked_child, note_use
from shoal.data.remote.location import parse_location
from shoal.data.remote.objects import ObjectStore
from shoal.data.storage.chunks import chunk_sums


def test_a_forked_child_knows_that_it_is_one():
    note_use()
    child = os.fork()
    if child == 0:
        os._exit(7 if is_forked_child() else 0)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not is_forked_child()


@pytest.mark.slow
def test_a_process_of_its_own_fetches_the_same(server, put, tmp_path):
    data = put("x.bin", 100_000)
    store = ObjectStore(parse_location(server.s3_url("bucket")))
    content = Content(len(data), *chunk_sums(np.frombuffer(data, np.uint8)))

    fetch_elsewhere(store, "x.bin", tmp_path / "target", content)

    assert (tmp_path / "target").read_bytes() == data


@pytest.mark.slow
def test_its_failure_is_told_here(server, tmp_path):
    store = ObjectStore(parse_location(server.s3_url("bucket")))

    with pytest.raises(RemoteError, match="bucket/nothing"):
        fetch_elsewhere(store, "nothing", tmp_path / "target", Content(3, "", 65_536))

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shoal.base import CorruptError
from shoal.data import Dataset
from shoal.data.storage.seal import sealed
from shoal.data.versions.manifest import load_manifest, manifest_path


def rewrite(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change a version's file and seal it anew, as someone who means harm would."""
    fields = json.loads(path.read_text())
    del fields["seal"]
    change(fields)
    path.write_bytes(sealed(fields))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sums", "AAA"),
        ("sums", "not base64!"),
        ("sums", "AAAA"),
        ("sums", ""),
        ("chunk_bytes", 0),
        ("chunk_bytes", -65_536),
        ("chunk_bytes", 65_537),
        ("first_hash", "xyz"),
        ("first_hash", "0x00000000000000"),
        ("first_hash", None),
        ("first_hash", "f" * 16),
        ("last_hash", "8" * 17),
        ("num_rows", -1),
        ("size_bytes", -1),
        ("order", "arrival"),
    ],
)
def test_a_field_of_a_shard_that_cannot_be_so_is_named(dataset: Dataset, field: str, value: object) -> None:
    rewrite(manifest_path(dataset.path, 1), lambda fields: fields["shards"][0].update({field: value}))

    with pytest.raises(CorruptError, match=r"shards\[0\]") as caught:
        load_manifest(dataset.path)

    assert field in caught.value.message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda fields: fields["columns"][0].update(dtype="float99"), "float99"),
        (lambda fields: fields["columns"][1].update(shape=[0]), "columns has label"),
        (lambda fields: fields["columns"][3].update(is_list=True), "columns has user"),
        (lambda fields: fields["columns"][1].update(name="image"), "columns cannot be stored"),
        (lambda fields: fields.update(key="height"), "key is 'height'"),
        (lambda fields: fields["sources"][0].update(num_rows=-1), r"sources\[0\].num_rows is -1"),
        (lambda fields: fields.update(next_column=-1), "next_column is -1"),
    ],
)
def test_a_field_that_cannot_be_so_is_named(dataset: Dataset, change: Callable[..., None], named: str) -> None:
    rewrite(manifest_path(dataset.path, 1), change)

    with pytest.raises(CorruptError, match=named):
        load_manifest(dataset.path)

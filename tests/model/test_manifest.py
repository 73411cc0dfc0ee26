import json

import pytest

from shoal.base import CorruptError, PackageError, Ref, UnsupportedError
from shoal.model.manifest import MANIFEST_FILE, Manifest, read_manifest
from shoal.model.signature import Signature, TensorSpec

MANIFEST = Manifest(
    name="tiny",
    kind="classification",
    signature=Signature((TensorSpec("x", "float32", (None, 2)),), (TensorSpec("scores", "float32", (None, 3)),)),
    metrics={"accuracy": 0.5},
    run="r-0001",
    code=None,
    dataset=Ref("dataset", "/data@3", "b3:1"),
    parent=None,
    files={"model.onnx": "b3:2"},
)


@pytest.fixture
def path(tmp_path):
    (tmp_path / MANIFEST_FILE).write_bytes(MANIFEST.to_bytes())
    return tmp_path / MANIFEST_FILE


def test_reads_what_was_written(path):
    assert read_manifest(path.parent) == MANIFEST


def test_refuses_a_changed_figure_by_the_file_s_name(path):
    path.write_text(path.read_text().replace("0.5", "0.9"))

    with pytest.raises(CorruptError, match=r"package\.json was changed"):
        read_manifest(path.parent)


def test_refuses_a_file_cut_at_any_place(path):
    whole = path.read_bytes()

    for size in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptError, match=r"package\.json"):
            read_manifest(path.parent)


def test_layout_of_the_file_does_not_count(path):
    path.write_text(json.dumps(json.loads(path.read_text())))

    assert read_manifest(path.parent) == MANIFEST


def test_refuses_a_later_format_before_it_judges_the_content(path):
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))

    with pytest.raises(UnsupportedError, match="2"):
        read_manifest(path.parent)


def test_a_folder_without_manifest_is_no_package(tmp_path):
    with pytest.raises(PackageError, match=r"no package\.json"):
        read_manifest(tmp_path / "nowhere")

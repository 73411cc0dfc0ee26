import subprocess
import sys

import numpy as np
import pytest

from shoal.base import CorruptError, Handle, digest_tree, is_handle
from shoal.model import open_package, open_package_handle

FILES = ["model.onnx", "examples.arrow", "package.json"]


def test_is_a_handle_of_its_folder(packaged):
    handle: Handle = packaged

    assert is_handle(packaged)
    assert (handle.kind, handle.address) == ("package", str(packaged.path))
    assert handle.digest == digest_tree(packaged.path)


def test_travels_as_kind_address_and_digest(packaged):
    assert open_package_handle(packaged.address, packaged.digest) == packaged


@pytest.mark.parametrize("name", FILES)
def test_refuses_a_changed_file_by_name(packaged, name):
    path = packaged.path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(CorruptError, match=name):
        open_package(packaged.path)


@pytest.mark.parametrize("name", FILES[:2])
def test_refuses_a_missing_file_by_name(packaged, name):
    (packaged.path / name).unlink()

    with pytest.raises(CorruptError, match=f"{name} is missing"):
        open_package(packaged.path)


def test_refuses_a_file_that_does_not_belong(packaged):
    (packaged.path / "code.py").write_text("print('hello')")

    with pytest.raises(CorruptError, match=r"code\.py does not belong"):
        open_package(packaged.path)


def test_refuses_another_package_than_was_recorded(packaged):
    with pytest.raises(CorruptError, match="another package"):
        open_package(packaged.path, digest="b3:0")


def test_keeps_examples_of_both_sides(packaged, images):
    inputs, outputs = packaged.examples()

    np.testing.assert_array_equal(inputs["image"], images[:8])
    assert outputs["scores"].shape == (8, 3)


def test_has_no_profile_unless_one_was_given(packaged):
    assert packaged.profile is None


def test_opens_without_torch_onnx_runtime_or_store(packaged):
    code = (
        f"import sys; from shoal.model import open_package; open_package({str(packaged.path)!r}); print(*sys.modules)"
    )

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"torch", "onnx", "onnxruntime", "sqlalchemy"} & set(loaded)

import onnx
import pytest

from shoal.base import CorruptError, NotFoundError, PackageError, Ref, UnsupportedError
from shoal.model.onnx_file import OnnxFile, find_model, load_session, open_model, open_onnx_file


@pytest.fixture
def plain(graph, tmp_path):
    onnx.save(graph, tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


@pytest.fixture
def divided(graph, tmp_path):
    """A file that keeps its weights in another one."""
    onnx.save(
        graph,
        tmp_path / "divided.onnx",
        save_as_external_data=True,
        location="divided.weights",
        size_threshold=0,
        convert_attribute=True,
    )
    return tmp_path / "divided.onnx"


def test_a_file_and_a_folder_are_told_apart(plain, packaged):
    assert find_model(plain) == OnnxFile(plain)
    assert find_model(packaged.address) == packaged
    assert find_model(packaged) is packaged


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [("gone.onnx", NotFoundError, "gone.onnx"), ("model.pt", UnsupportedError, r"expected .* an \.onnx file")],
)
def test_what_is_no_model_is_named(tmp_path, name, kind, message):
    (tmp_path / "model.pt").write_bytes(b"")

    with pytest.raises(kind, match=message):
        find_model(tmp_path / name)


def test_a_folder_that_is_no_package_is_named(tmp_path):
    with pytest.raises(PackageError, match=r"there is no package\.json in it"):
        find_model(tmp_path)


def test_a_handle_opens_the_same_content_only(plain):
    ref = Ref.of(OnnxFile(plain))

    assert open_model(ref.kind, ref.address, ref.digest) == OnnxFile(plain)
    plain.write_bytes(plain.read_bytes() + b"\x00")
    with pytest.raises(CorruptError, match=r"plain\.onnx was changed"):
        open_onnx_file(ref.address, ref.digest)
    plain.unlink()
    with pytest.raises(NotFoundError, match="no such file"):
        open_onnx_file(ref.address, ref.digest)


def test_weights_beside_the_file_are_part_of_its_content(divided, images):
    before = OnnxFile(divided).digest
    first = load_session(OnnxFile(divided)).run({"image": images})["logits"]
    weights = divided.with_name("divided.weights")
    weights.write_bytes(weights.read_bytes()[::-1])

    assert OnnxFile(divided).digest != before
    assert (load_session(OnnxFile(divided)).run({"image": images})["logits"] != first).any()


def test_an_empty_file_has_a_digest_too(tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")

    assert OnnxFile(tmp_path / "empty.onnx").digest.startswith("b3:")

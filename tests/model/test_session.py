import threading

import numpy as np
import onnx
import pytest

from shoal.base import ConfigError, InputError, NotFoundError, PackageError
from shoal.model import Session, TensorSpec


def test_a_package_gives_its_recorded_outputs(packaged):
    inputs, outputs = packaged.examples()

    found = Session(packaged).run(inputs)

    np.testing.assert_array_equal(found["scores"], outputs["scores"])


def test_a_plain_file_tells_its_signature(graph, tmp_path):
    onnx.save(graph, tmp_path / "plain.onnx")

    signature = Session(tmp_path / "plain.onnx").signature

    assert signature.inputs == (TensorSpec("image", "uint8", (None, 4, 4)),)
    assert signature.outputs == (TensorSpec("logits", "float32", (None, 3)),)


def test_wrong_inputs_never_reach_the_model(packaged, images):
    with pytest.raises(InputError, match=r"'image' has dtype float32, expected uint8"):
        Session(packaged).run({"image": images.astype(np.float32)})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"gone\.onnx"):
        Session(tmp_path / "gone.onnx")


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x09"])
def test_garbage_is_refused_by_name(tmp_path, content):
    (tmp_path / "bad.onnx").write_bytes(content)

    with pytest.raises(PackageError, match=r"bad\.onnx"):
        Session(tmp_path / "bad.onnx")


def test_a_model_that_fails_on_good_inputs_is_to_blame(make_graph):
    # 4x4 pixels of one row cannot become rows of 7: fails for every batch that is no multiple of 7.
    shape = onnx.numpy_helper.from_array(np.array([7, -1]), "shape")
    graph = make_graph(final=[onnx.helper.make_node("Reshape", ["logits", "shape"], ["out"])])
    graph.graph.initializer.append(shape)

    with pytest.raises(PackageError, match="failed on a batch of 2 rows"):
        Session(graph.SerializeToString()).run({"image": np.zeros((2, 4, 4), np.uint8)})


def test_threads_must_be_positive(packaged):
    with pytest.raises(ConfigError, match="threads=0"):
        Session(packaged, threads=0)


def test_threads_may_share_a_session(packaged, images):
    session = Session(packaged)
    alone = session.run({"image": images})["scores"]
    found = []

    workers = [
        threading.Thread(target=lambda: found.append(session.run({"image": images})["scores"])) for _ in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert len(found) == 8
    assert all(np.array_equal(scores, alone) for scores in found)


def test_examples_that_come_out_differently_refuse_the_package(packaged, monkeypatch):
    inputs, outputs = packaged.examples()
    monkeypatch.setattr(type(packaged), "examples", lambda self: (inputs, {"scores": outputs["scores"][::-1]}))

    with pytest.raises(PackageError, match="gives other outputs on this machine: 'scores'"):
        Session(packaged, replay=True)


def test_examples_that_come_out_the_same_are_no_hindrance(packaged):
    Session(packaged, replay=True)

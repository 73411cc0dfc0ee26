import numpy as np
import onnx
import pytest
from onnx import helper

from shoal.base import NotFoundError, PackageError, UnsupportedError
from shoal.model import Session
from shoal.model import graph as graphs


def test_logits_become_probabilities(graph, images):
    logits = Session(graph.SerializeToString()).run({"image": images})

    graphs.add_scores(graph, logits)

    scores = Session(graph.SerializeToString()).run({"image": images})["scores"]
    np.testing.assert_allclose(scores, graphs.softmax(logits["logits"]), atol=1e-6)


def test_probabilities_get_no_second_softmax(make_graph, images):
    graph = make_graph(final=[helper.make_node("Softmax", ["logits"], ["out"], axis=-1)])
    before = Session(graph.SerializeToString()).run({"image": images})

    graphs.add_scores(graph, before)

    after = Session(graph.SerializeToString()).run({"image": images})["scores"]
    np.testing.assert_array_equal(after, before["out"])


@pytest.mark.parametrize(
    "outputs",
    [
        {"a": np.zeros((2, 3), np.float32), "b": np.zeros((2, 3), np.float32)},
        {"a": np.zeros(2, np.float32)},
        {"a": np.zeros((2, 3), np.int64)},
        {},
    ],
)
def test_refuses_what_is_no_classifier(graph, outputs):
    with pytest.raises(PackageError, match="cannot package as a classifier"):
        graphs.add_scores(graph, outputs)


def test_traces_of_the_making_are_removed(graph):
    graph.doc_string = "made on host-17"
    graph.graph.node[0].doc_string = "File /home/ann/secret.py"
    graph.graph.node[0].metadata_props.add(key="stack", value="/home/ann/secret.py")

    graphs.strip(graph)

    assert b"secret" not in graphs.to_bytes(graph)
    assert b"host-17" not in graphs.to_bytes(graph)


def test_weights_in_files_beside_come_along(graph, tmp_path):
    onnx.save(graph, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="weights.bin")

    loaded = graphs.load_graph(tmp_path / "m.onnx")

    (tmp_path / "weights.bin").unlink()
    assert Session(graphs.to_bytes(loaded)).run({"image": np.zeros((1, 4, 4), np.uint8)})["logits"].shape == (1, 3)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"gone\.onnx"):
        graphs.load_graph(tmp_path / "gone.onnx")


def test_garbage_is_refused_by_name(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")

    with pytest.raises(PackageError, match=r"bad\.onnx"):
        graphs.load_graph(tmp_path / "bad.onnx")


def test_a_model_beyond_one_file_is_refused(graph, monkeypatch):
    monkeypatch.setattr(graphs, "MAX_BYTES", 100)

    with pytest.raises(UnsupportedError, match="at most 100"):
        graphs.to_bytes(graph)


def test_tells_shares_from_other_numbers():
    assert graphs.is_distribution(np.array([[0.2, 0.8], [1.0, 0.0]]))
    assert not graphs.is_distribution(np.array([[0.2, 0.9]]))
    assert not graphs.is_distribution(np.array([[-0.2, 1.2]]))
    assert not graphs.is_distribution(np.array([[np.nan, 1.0]]))

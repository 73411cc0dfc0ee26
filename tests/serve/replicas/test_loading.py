import numpy as np
import onnx
import pytest

from shoal.base import NotFoundError, PackageError, ServeError
from shoal.serve import Client, start
from shoal.serve.replicas.loading import load_model


def test_a_plain_file_tells_what_it_takes_and_what_it_costs(scorer):
    model = load_model(str(scorer))

    assert [(field.name, field.datatype, field.shape) for field in model.interface.inputs] == [
        ("image", "UINT8", (None, 2, 2))
    ]
    assert model.interface.batched
    assert [rows for rows, _ in model.timings] == [1, 4, 8, 32]
    assert all(seconds > 0 for _, seconds in model.timings)
    assert model.model_kind == "unknown"


def test_outputs_come_in_the_interfaces_order(adder):
    model = load_model(str(adder))

    (total,) = model.run([np.array([[1, 2], [3, 4]], np.float32), np.array([True, False])])

    assert total.tolist() == [4, 7]


def test_a_model_for_one_fixed_row_takes_no_batches(fixed_scorer):
    assert not load_model(str(fixed_scorer)).interface.batched


def test_an_output_that_is_not_by_row_means_no_batches(model_folder, save_model):
    path = save_model(
        "total",
        [("ReduceSum", ["x"], ["sum"], {"keepdims": 1})],
        [("x", 1, ["n", 2])],
        [("sum", 1, ["one", 1])],
    )

    assert not load_model(str(path)).interface.batched


def test_a_model_that_cannot_run_zeros_is_served_without_timings(save_model):
    path = save_model(
        "strict",
        [("Reshape", ["x", "shape"], ["y"], {})],
        [("x", 1, ["n", "m"])],
        [("y", 1, ["n", 3])],
        [("shape", np.array([-1, 3], np.int64))],
    )

    assert load_model(str(path)).timings == []


@pytest.mark.parametrize(("content", "error"), [(None, NotFoundError), (b"not a model", PackageError)])
def test_what_is_no_model_is_told(tmp_path, content, error):
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(error, match=r"broken\.onnx"):
        load_model(str(path))


def test_text_outputs_are_given(save_model):
    path = save_model("words", [("Identity", ["x"], ["y"], {})], [("x", 8, ["n"])], [("y", 8, ["n"])])

    model = load_model(str(path))

    assert model.interface.outputs[0].datatype == "BYTES"
    assert model.run([np.array(["a", "bc"])])[0].tolist() == ["a", "bc"]


def test_texts_are_taken(save_model):
    path = save_model(
        "sizes", [("Shape", ["x"], ["size"], {}), ("Expand", ["one", "size"], ["y"], {})], [("x", 8, ["n"])],
        [("y", 1, ["n"])], [("one", np.float32(1))],
    )  # fmt: skip

    model = load_model(str(path))

    assert [(field.name, field.datatype) for field in model.interface.inputs] == [("x", "BYTES")]
    assert model.run([np.array(["a", "bc"])])[0].tolist() == [1, 1]


def _cut(content):
    return content[: len(content) // 2]


def _wrong_opset(content):
    model = onnx.load_from_string(content)
    model.opset_import[0].version = 9999
    return model.SerializeToString()


def _unknown_operator(content):
    model = onnx.load_from_string(content)
    model.graph.node[0].op_type = "NoSuchOperator"
    return model.SerializeToString()


DAMAGES = [_cut, _wrong_opset, _unknown_operator, lambda _: b"", lambda _: b"\x89PNG not a model at all"]


@pytest.mark.parametrize("damage", DAMAGES, ids=["cut", "opset", "operator", "empty", "picture"])
def test_a_damaged_or_foreign_file_is_refused_by_its_name(tmp_path, scorer, damage):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damage(scorer.read_bytes()))

    with pytest.raises(PackageError, match=r"damaged\.onnx"):
        load_model(str(path))


@pytest.mark.parametrize("damage", DAMAGES, ids=["cut", "opset", "operator", "empty", "picture"])
def test_a_server_over_such_a_file_does_not_start(tmp_path, scorer, damage):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damage(scorer.read_bytes()))

    with pytest.raises(ServeError, match=r"cannot serve damaged@1: .*damaged\.onnx"):
        start(path, port=0, replicas=1)


def test_a_swap_to_damaged_files_leaves_the_old_one_serving(tmp_path, scorer):
    with start(scorer, port=0, replicas=1) as server, Client(server.url) as client:
        for version, damage in enumerate(DAMAGES, 2):
            path = tmp_path / f"damaged{version}.onnx"
            path.write_bytes(damage(scorer.read_bytes()))
            server.swap("scorer", {str(version): path})

            with pytest.raises(ServeError, match=rf"damaged{version}\.onnx"):
                server.wait_for("scorer", version)

            assert client.infer("scorer", {"image": np.ones((1, 2, 2), np.uint8)}).version == "1"

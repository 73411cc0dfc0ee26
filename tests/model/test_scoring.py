import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

import shoal.data
from shoal.base import CorruptError, InputError, PackageError, Ref, UnsupportedError
from shoal.model import OnnxFile, Session, Signature, TensorSpec, package
from shoal.model.scoring import Part, Scorer, fixed_batch, inputs_of, score_part


def test_scoring_a_part_again_gives_the_same_file(packaged, dataset, tmp_path):
    files = [tmp_path / "a.arrow", tmp_path / "b.arrow"]

    for file in files:
        score_part(Ref.of(packaged), Ref.of(dataset), Part(100, 250, file), 64)

    assert files[0].read_bytes() == files[1].read_bytes()
    assert pa.ipc.open_file(files[0]).read_all()["row"].to_pylist() == list(range(100, 250))


def test_a_missing_value_is_named_by_its_row(tmp_path, make_graph, rows):
    table = pa.table({"x": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))})
    holed = shoal.data.ingest(table, tmp_path / "holed")
    missing = int(np.flatnonzero(~holed.take(np.arange(3))["x_mask"])[0])
    model = package(_doubling(), example={"x": np.ones((2, 2), np.float32)}, kind="regression", path=tmp_path / "p")

    with pytest.raises(InputError, match=f"'x' has no value in row {missing}"):
        score_part(Ref.of(model), Ref.of(holed), Part(0, 3, tmp_path / "part.arrow"), 2)

    assert not (tmp_path / "part.arrow").exists()


def test_another_dataset_under_the_address_is_refused(packaged, dataset, tmp_path):
    other = Ref("dataset", dataset.address, "b3:0")

    with pytest.raises(CorruptError, match="another dataset than at the start"):
        score_part(Ref.of(packaged), other, Part(0, 1, tmp_path / "part.arrow"), 1)


def test_texts_and_missing_values_go_along(packaged, rows, tmp_path):
    table = pa.table({"name": pa.array(["a", None, "c"] * 200)})
    images = pa.FixedShapeTensorArray.from_numpy_ndarray(rows["image"])
    named = shoal.data.ingest(table.append_column("image", images), tmp_path / "named")

    batch = Scorer(Session(packaged), named, ("name",)).score(3, 9)

    assert batch.schema.names == ["row", "name", "scores"]
    assert batch["name"].to_pylist() == pa.Table.from_batches(named.batches(["name"]))["name"].to_pylist()[3:9]


@pytest.mark.parametrize("bad", [0, 1, 7, 8, 15])
def test_the_first_row_that_is_refused_is_found(tmp_path, bad):
    x = np.column_stack([np.zeros(16), np.arange(16) >= bad])
    rows = shoal.data.ingest({"x": x, "id": np.arange(16)}, tmp_path / "rows")
    first = int(np.flatnonzero(rows.arrays()["x"][:, 1])[0])

    with pytest.raises(PackageError, match=rf"failed on row {first} of .*rows@1: "):
        Scorer(Session(_refusing().SerializeToString()), rows).score(0, 16)


def test_rows_that_are_refused_together_alone_are_told(tmp_path):
    rows = shoal.data.ingest({"x": np.zeros((16, 2), np.float64)}, tmp_path / "rows")
    session = Session(_refusing().SerializeToString())

    class Crowded:
        signature = session.signature

        def run(self, inputs):
            if len(inputs["x"]) > 8:
                raise PackageError("no memory", next_step="")
            return session.run(inputs)

    with pytest.raises(PackageError, match=r"rows 0 to 15 of .* together, and on no smaller part of them: no memory"):
        Scorer(Crowded(), rows).score(0, 16)


def test_an_output_without_a_row_each_is_refused(dataset, tmp_path):
    model = _graph([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [])
    rows = shoal.data.ingest({"x": np.ones((4, 2))}, tmp_path / "ones")

    with pytest.raises(
        UnsupportedError, match=r"output 'y' has shape \[\] for 4 rows, expected one row of it for each"
    ):
        Scorer(Session(model.SerializeToString()), rows).score(0, 4)


def test_an_output_of_changing_shape_is_refused_with_its_row(tmp_path):
    # The columns that are kept are as many as the batch has rows.
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], start=0, end=1),
        helper.make_node("MatMul", ["x", "wide"], ["all"]),
        helper.make_node("Slice", ["all", "zero", "shape", "one"], ["y"]),
    ]
    constants = {"wide": np.ones((2, 9)), "zero": np.array([0]), "one": np.array([1])}
    model = _graph(nodes, ["n", "m"], constants)
    onnx.save(model, tmp_path / "model.onnx")
    rows = shoal.data.ingest({"x": np.ones((7, 2))}, tmp_path / "ones")
    file = OnnxFile(tmp_path / "model.onnx")

    with pytest.raises(UnsupportedError, match=r"output 'y' is .* from row 4 on and was .* before"):
        score_part(Ref.of(file), Ref.of(rows), Part(0, 7, tmp_path / "part.arrow"), 4)

    assert not (tmp_path / "part.arrow").exists()


def test_texts_in_two_dimensions_are_refused(tmp_path):
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)]
    model = _graph(nodes, ["n", 2], kind=TensorProto.STRING)
    rows = shoal.data.ingest({"x": np.ones((4, 2))}, tmp_path / "ones")

    with pytest.raises(UnsupportedError, match="cannot store the outputs"):
        Scorer(Session(model.SerializeToString()), rows).score(0, 4)


def test_inputs_of_different_batch_sizes_are_refused():
    signature = Signature(
        (TensorSpec("a", "float32", (2, 3)), TensorSpec("b", "float32", (4,))), (TensorSpec("y", "float32", (2,)),)
    )

    with pytest.raises(UnsupportedError, match=r"inputs take \{'a': 2, 'b': 4\} rows at once"):
        fixed_batch(signature)


def test_a_column_of_another_type_is_named_with_its_dataset(packaged, rows, tmp_path):
    other = shoal.data.ingest({"image": rows["image"].astype(np.float32)}, tmp_path / "floats")

    with pytest.raises(InputError, match=r"cannot predict .*floats@1: input 'image' has dtype float32"):
        inputs_of(packaged.signature, other, 0, 10)


def _graph(nodes, shape, constants=None, kind=TensorProto.DOUBLE):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "made",
        [value("x", TensorProto.DOUBLE, ["n", 2])],
        [value("y", kind, shape)],
        [onnx.numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _refusing():
    """Gives one of two constants by the second number of each row, and fails where that is neither 0 nor below 1."""
    nodes = [
        helper.make_node("Cast", ["x"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["known", "index"], ["y"]),
    ]
    return _graph(nodes, ["n", 2], {"known": np.array([0.5])})


def _doubling():
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("y", TensorProto.FLOAT, ["n", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

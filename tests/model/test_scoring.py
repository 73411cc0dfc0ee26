import numpy as np
import pyarrow as pa
import pytest

import shoal.data
from shoal.base import CorruptError, InputError, Ref
from shoal.model import package
from shoal.model.scoring import Part, score_part


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


def _doubling():
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("y", TensorProto.FLOAT, ["n", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

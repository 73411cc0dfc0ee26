import numpy as np
import onnx
from onnx import TensorProto, helper

from shoal.model import Session
from shoal.model.estimators.example import Column
from shoal.model.estimators.wrapping import Form, wrap

DOUBLES = Form(numbers=TensorProto.DOUBLE, keeps_integers=False, matrix=None)


def summing(kind, columns):
    """A graph as skl2onnx makes them: the sum of its inputs, [batch, 1] each."""
    inputs = [helper.make_tensor_value_info(name, kind, [None, 1]) for name in columns]
    outputs = [helper.make_tensor_value_info("variable", kind, [None, 1])]
    body = helper.make_graph([helper.make_node("Sum", columns, ["variable"])], "sum", inputs, outputs)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(graph: onnx.ModelProto, rows):
    return Session(graph.SerializeToString()).run(rows)


def test_columns_of_any_number_type_are_summed_in_doubles():
    columns = [Column("a", np.array([1, 2])), Column("b", np.array([True, False]))]

    graph = wrap(summing(TensorProto.DOUBLE, ["a", "b"]), columns, DOUBLES, None, labels_by_score=False)

    found = run(graph, {"a": np.array([1, 2]), "b": np.array([True, False])})
    assert found["output"].tolist() == [2.0, 2.0]


def test_a_gap_reaches_the_estimator_as_nan():
    columns = [Column("a", np.array([1.0, 0.0]), np.array([True, False]))]

    graph = wrap(summing(TensorProto.DOUBLE, ["a"]), columns, DOUBLES, None, labels_by_score=False)

    found = run(graph, {"a": np.array([1.0, 5.0]), "a_mask": np.array([True, False])})
    assert found["output"][0] == 1
    assert np.isnan(found["output"][1])


def test_columns_are_joined_where_the_estimator_takes_a_matrix():
    inputs = [helper.make_tensor_value_info("joined", TensorProto.FLOAT, [None, 2])]
    outputs = [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, 2])]
    body = helper.make_graph([helper.make_node("Identity", ["joined"], ["variable"])], "same", inputs, outputs)
    inner = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    form = Form(numbers=TensorProto.FLOAT, keeps_integers=False, matrix="joined")
    columns = [Column("a", np.array([1, 2])), Column("b", np.array([0.5, 0.25]))]

    graph = wrap(inner, columns, form, None, labels_by_score=False)

    found = run(graph, {"a": np.array([1, 2]), "b": np.array([0.5, 0.25])})
    assert found["output"].tolist() == [[1, 0.5], [2, 0.25]]


def test_the_label_is_the_likeliest_class():
    inputs = [helper.make_tensor_value_info("p", TensorProto.DOUBLE, [None, 2])]
    outputs = [
        helper.make_tensor_value_info("first", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("second", TensorProto.DOUBLE, [None, 2]),
    ]
    nodes = [
        helper.make_node("ArgMin", ["p"], ["first"], axis=1, keepdims=0),
        helper.make_node("Identity", ["p"], ["second"]),
    ]
    body = helper.make_graph(nodes, "classes", inputs, outputs)
    inner = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    rows = {"p": np.array([[0.25, 0.75]])}
    columns = [Column("p", rows["p"])]

    likeliest = wrap(inner, columns, DOUBLES, ("no", "yes"), labels_by_score=True)
    own = wrap(inner, columns, DOUBLES, (7, 8), labels_by_score=False)

    assert run(likeliest, rows)["label"].tolist() == ["yes"]
    assert run(own, rows)["label"].tolist() == [0]
    assert run(own, rows)["scores"].dtype == np.float32

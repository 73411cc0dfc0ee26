"""A package takes raw rows and gives what the model gives for prepared ones, wherever it runs."""

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

import shoal.data
from shoal.base import InputError, PackageError
from shoal.data import Preparation
from shoal.data.prepare import Clip, Concatenate, Encode, HashBucket, Impute, Log1p, Standardise
from shoal.model import Session, open_package, package, predict
from shoal.model.joining import with_preparation

NUM_FEATURES = 7
PREPARATION = Preparation(
    {
        "age": [Impute("median", indicator=True), Clip(quantiles=(0.01, 0.99)), Standardise()],
        "distance": [Impute("mean"), Log1p(), Standardise()],
        "city": [Impute("most_frequent"), Encode(to="one_hot")],
        "user": [HashBucket(32)],
        "features": Concatenate(["age", "age_missing", "distance", "city"]),
    },
    keep=["label"],
)


def make_table(num_rows, seed=0):
    rng = np.random.default_rng(seed)
    cities = np.array(["Oslo", "Rom", "Lima"], object)[rng.integers(0, 3, num_rows)]
    distance = rng.lognormal(1, 2, num_rows)
    distance[rng.random(num_rows) < 0.1] = np.nan
    return pa.table(
        {
            "age": pa.array(rng.integers(18, 90, num_rows), mask=rng.random(num_rows) < 0.1),
            "distance": distance,
            "city": pa.array(cities, mask=rng.random(num_rows) < 0.1),
            "user": rng.integers(0, 2**40, num_rows),
            "label": rng.integers(0, 3, num_rows),
        }
    )


def make_model(inputs=("features", "user"), dtype=TensorProto.FLOAT):
    """features float32 [batch, 7], user int64 [batch] -> logits float32 [batch, 3]; inside, names of raw columns."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(NUM_FEATURES, 3)).astype(np.float32)
    table = rng.normal(size=(32, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [inputs[0], "age"], ["city"]),
            helper.make_node("Gather", ["distance", inputs[1]], ["label"]),
            helper.make_node("Add", ["city", "label"], ["logits"]),
        ],
        "linear",
        [
            helper.make_tensor_value_info(inputs[0], dtype, ["batch", NUM_FEATURES]),
            helper.make_tensor_value_info(inputs[1], TensorProto.INT64, ["batch"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "age"), numpy_helper.from_array(table, "distance")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def rentals(tmp_path):
    """2,000 rows, prepared on four fifths of them."""
    shoal.data.ingest(make_table(2_000), tmp_path / "rentals", num_shards=3).split(0.8, 0.2)[0].prepare(PREPARATION)
    return shoal.data.open(tmp_path / "rentals")


@pytest.fixture
def packaged(rentals, tmp_path):
    train, held_out = rentals.split(0.8, 0.2)
    return package(
        make_model(),
        example=train.take(np.arange(40)),
        dataset=train,
        profile_on=(train, held_out),
        path=tmp_path / "p",
    )


def expected_scores(fitted, raw):
    prepared = fitted.apply(raw)
    logits = Session(make_model().SerializeToString()).run({name: prepared[name] for name in ("features", "user")})
    powers = np.exp(logits["logits"] - logits["logits"].max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_raw_rows_give_what_prepared_rows_gave(rentals, packaged):
    session = Session(open_package(packaged.path), replay=True)

    for batch in rentals.split(0.8, 0.2)[1].loader(batch_size=128, format="numpy", prepare=False):
        raw = packaged.signature.inputs_from(batch)
        np.testing.assert_allclose(
            session.run(raw)["scores"], expected_scores(rentals.preparation, batch), rtol=1e-6, atol=1e-7
        )


def test_the_graph_computes_the_very_bits_before_the_model(rentals):
    fitted, raw = rentals.preparation, rentals.take(np.arange(500))
    joined = with_preparation(make_model(), fitted)
    joined.graph.output.append(helper.make_tensor_value_info("prepared.features", TensorProto.FLOAT, None))
    session = Session(joined.SerializeToString())

    found = session.run(session.signature.inputs_from(raw))["prepared.features"]

    assert found.tobytes() == fitted.apply(raw)["features"].tobytes()


def test_the_signature_is_of_raw_rows(packaged):
    assert {(spec.name, spec.dtype) for spec in packaged.signature.inputs} == {
        ("age", "int64"), ("age_mask", "bool"), ("distance", "float64"), ("city", "string"), ("city_mask", "bool"),
        ("user", "int64"),
    }  # fmt: skip
    assert packaged.signature.columns == ("age", "distance", "city", "user")


def test_the_preparation_is_recorded(rentals, packaged):
    assert packaged.manifest.preparation == rentals.preparation.digest
    assert open_package(packaged.path).preparation == rentals.preparation


def test_the_profile_is_of_raw_rows(rentals, packaged):
    train = rentals.split(0.8, 0.2)[0]

    assert set(packaged.profile.columns) >= {"age", "distance", "city", "user", "scores.confidence"}
    for name in ("age", "distance", "city"):
        assert packaged.profile.columns[name].nulls == train.profile.columns[name].nulls > 0


def test_offline_prediction_takes_raw_rows(rentals, packaged, tmp_path):
    held_out = rentals.split(0.8, 0.2)[1]

    scored = predict(packaged, held_out, tmp_path / "scored", batch_size=100)

    found = scored.arrays(["scores"])["scores"]
    np.testing.assert_allclose(found, expected_scores(rentals.preparation, held_out.arrays()), rtol=1e-6, atol=1e-7)


def test_without_a_preparation_the_model_takes_its_own_inputs(rentals, tmp_path):
    prepared = rentals.preparation.apply(rentals.take(np.arange(20)))

    made = package(make_model(), example=prepared, dataset=rentals, preparation=False, path=tmp_path / "bare")

    assert made.signature.columns == ("features", "user")
    assert made.preparation is None
    assert made.manifest.preparation is None


def test_what_is_derived_from_it_keeps_the_record(packaged, rentals, tmp_path):
    derived = package(packaged.onnx_path, example=packaged.examples()[0], parent=packaged, path=tmp_path / "derived")

    assert derived.preparation == packaged.preparation


def test_a_prepared_example_is_refused(rentals, tmp_path):
    prepared = rentals.preparation.apply(rentals.take(np.arange(20)))

    with pytest.raises(InputError, match=r"column 'age' is missing.*rows as they are stored"):
        package(make_model(), example=prepared, dataset=rentals, path=tmp_path / "p")


def test_an_input_that_is_not_prepared_is_refused(rentals):
    with pytest.raises(PackageError, match="no column 'image'; the columns are label, user, features"):
        with_preparation(make_model(inputs=("image", "user")), rentals.preparation)


def test_another_type_is_refused(rentals):
    with pytest.raises(PackageError, match=r"takes 'features' as .*DOUBLE, and the preparation gives .*FLOAT"):
        with_preparation(make_model(dtype=TensorProto.DOUBLE), rentals.preparation)


def test_the_model_itself_is_not_changed(rentals):
    model = make_model()
    before = model.SerializeToString(deterministic=True)

    joined = with_preparation(model, rentals.preparation)

    onnx.checker.check_model(joined, full_check=True)
    assert model.SerializeToString(deterministic=True) == before

"""Operators over one column, and the proof that a graph gives what NumPy gave."""

from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime
import pytest

from shoal.data import FittedPreparation, Preparation
from shoal.data.prepare.base import Operator

Rows = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def fit_one() -> Callable[..., FittedPreparation]:
    """Fit operators of a column "x" on values, of which only those in the mask are there."""

    def fit(operators: Sequence[Operator], values: np.ndarray, mask: np.ndarray | None = None) -> FittedPreparation:
        batch = {"x": values} if mask is None else {"x": values, "x_mask": mask}
        return Preparation({"x": operators}).fit([batch])

    return fit


@pytest.fixture(scope="session")
def run_graph() -> Callable[[FittedPreparation, Rows], Rows]:
    """Run a preparation's graph in ONNX Runtime on a raw batch."""

    def run(fitted: FittedPreparation, batch: Rows) -> Rows:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            fitted.to_onnx().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feed = {}
        for node in session.get_inputs():
            values = batch[node.name]
            is_text = values.dtype == object
            feed[node.name] = np.array(["" if v is None else v for v in values], object) if is_text else values
        names = [node.name for node in session.get_outputs()]
        found = dict(zip(names, session.run(names, feed), strict=True))
        return {name.removeprefix("prepared."): values for name, values in found.items()}

    return run


@pytest.fixture(scope="session")
def assert_same_bits(run_graph) -> Callable[[FittedPreparation, Rows], Rows]:
    """Apply a preparation in NumPy and in its graph, and compare every bit; return what both gave."""

    def check(fitted: FittedPreparation, batch: Rows) -> Rows:
        prepared, found = fitted.apply(batch), run_graph(fitted, batch)
        assert set(found) == set(fitted.output_schema.names)
        for column in fitted.output_schema.columns:
            mine, theirs = prepared[column.name], found[column.name]
            assert mine.dtype == theirs.dtype == column.numpy_dtype, column
            assert mine.shape == theirs.shape == (len(mine), *column.shape), column
            if mine.dtype == object:
                assert mine.tolist() == theirs.tolist()
            else:
                assert mine.tobytes() == theirs.tobytes(), column.name
        return prepared

    return check


@pytest.fixture(scope="session")
def make_rentals() -> Callable[..., Rows]:
    """Rows as they come: text and numbers with gaps, a long tail, ids, images; another seed has other values."""

    def make(num_rows: int, seed: int = 0) -> Rows:
        rng = np.random.default_rng(seed)
        knows_age, knows_city = rng.random(num_rows) > 0.1, rng.random(num_rows) > 0.2
        distance = rng.lognormal(1, 2, num_rows).astype(np.float32)
        distance[rng.random(num_rows) < 0.05] = np.nan
        cities = np.array(["Oslo", "Rom", "Lima", "Łódź", "Oslo"], object)[rng.integers(0, 5, num_rows)]
        return {
            "age": np.where(knows_age, rng.integers(18, 90, num_rows), 0),
            "age_mask": knows_age,
            "distance": distance,
            "city": np.where(knows_city, cities, None),
            "city_mask": knows_city,
            "user": rng.integers(-(2**63), 2**63 - 1, num_rows),
            "duration": rng.exponential(3, num_rows),
            "hour": rng.integers(0, 24, num_rows).astype(np.int8),
            "is_member": rng.random(num_rows) > 0.5,
            "photo": rng.integers(0, 256, (num_rows, 4, 5, 3), dtype=np.uint8),
            "station": np.array([f"station {i}" for i in rng.integers(0, 50 + seed, num_rows)], object),
            "label": rng.integers(0, 2, num_rows),
        }

    return make


@pytest.fixture(scope="session")
def rentals_preparation() -> Preparation:
    """Every operator at once."""
    from shoal.data.prepare import (
        Bucketise,
        Cast,
        Clip,
        Concatenate,
        Encode,
        HashBucket,
        Impute,
        Log1p,
        MinMax,
        ScaleImage,
        Standardise,
    )  # fmt: skip

    return Preparation(
        {
            "age": [Impute("median", indicator=True), Clip(quantiles=(0.01, 0.99)), Standardise()],
            "distance": [Impute("mean"), Log1p(), MinMax()],
            "city": [Impute("most_frequent"), Encode(to="one_hot")],
            "user": [HashBucket(100)],
            "duration": [Bucketise(num_buckets=5)],
            "hour": [Encode(max_categories=12)],
            "is_member": [Cast()],
            "photo": [ScaleImage(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))],
            "station": [HashBucket(16)],
            "features": Concatenate(["age", "age_missing", "distance", "city", "duration", "is_member"]),
        }
    )

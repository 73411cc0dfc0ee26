from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import ConfigError
from shoal.data import Column, Schema
from shoal.data.loading.decoders import Decoders
from shoal.data.loading.formats import NumpyFormat
from shoal.data.loading.gather import RowGatherer, Stretch
from shoal.data.loading.pipeline import Pipeline
from shoal.data.storage.shard import OpenBatch

SCHEMA = Schema(
    (Column(name="n", dtype="int64"), Column(name="text", dtype="string"), Column(name="b", dtype="binary"))
)


class Doubling:
    """A preparation: n is doubled, text becomes its length, blobs pass."""

    input_schema = SCHEMA
    output_schema = Schema((Column(name="n", dtype="int64"), Column(name="length", dtype="int64"), SCHEMA["b"]))

    def apply(self, batch: Mapping[str, object]) -> dict[str, object]:
        lengths = np.array([len(text) for text in batch["text"]])  # type: ignore[attr-defined]
        return {"n": batch["n"] * 2, "length": lengths, "b": batch["b"]}  # type: ignore[operator]


def gatherer() -> RowGatherer:
    batch = pa.RecordBatch.from_pydict(
        {"n": [1, 2, 3], "text": ["a", "bb", ""], "b": pa.array([b"\1\2", b"\3\4", b"\5\6"], pa.binary())}
    )
    return RowGatherer([Stretch(lambda: OpenBatch(batch), 0, 3)], SCHEMA)


def test_steps_come_in_order_prepare_decode_transform_format() -> None:
    seen = []

    def transform(batch: dict[str, object]) -> dict[str, object]:
        seen.append({name: np.asarray(values).tolist() for name, values in batch.items()})
        return {**batch, "sum": batch["n"] + batch["length"]}  # type: ignore[operator]

    given = Doubling.output_schema
    decoders = Decoders({"b": lambda content: np.frombuffer(content, np.uint8)}, given)
    pipeline = Pipeline(gatherer(), SCHEMA, given, NumpyFormat(given, {}), Doubling(), decoders, transform)

    batch = pipeline.make(np.array([1, 0]))

    assert seen == [{"n": [4, 2], "length": [2, 1], "b": [[3, 4], [1, 2]]}]
    assert batch["sum"].tolist() == [6, 3]


def test_a_transform_sees_text_as_text() -> None:
    pipeline = Pipeline(
        gatherer(), SCHEMA, SCHEMA, NumpyFormat(SCHEMA, {}), transform=lambda batch: {"upper": [*batch["text"]]}
    )

    assert pipeline.make(np.array([2, 1]))["upper"] == ["", "bb"]


def test_a_transform_must_return_a_batch() -> None:
    pipeline = Pipeline(gatherer(), SCHEMA, SCHEMA, NumpyFormat(SCHEMA, {}), transform=lambda batch: batch["n"])

    with pytest.raises(ConfigError, match="transform returned ndarray"):
        pipeline.make(np.array([0]))

import numpy as np
import pyarrow as pa

from shoal.data import FittedPreparation, Preparation
from shoal.data.prepare import Cast, Clip, Encode, Impute, Standardise
from shoal.data.prepare.batches import Batches
from shoal.data.prepare.fitting import Fitting

BATCH = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array(["x", "y", "x"], object), "c": np.arange(3)}


def start(preparation):
    return preparation.start(Batches([BATCH]).schema)


def test_a_pass_reads_the_columns_that_learn():
    fitting = start(Preparation({"a": [Standardise()], "b": [Encode()], "c": [Cast()]}))

    assert fitting.column_names == ("a", "b")


def test_without_anything_to_learn_it_is_ready_at_once():
    assert isinstance(start(Preparation({"a": [Clip(0, 1)], "c": [Cast()]})), FittedPreparation)


def test_readers_share_the_work():
    preparation = Preparation({"a": [Impute("mean"), Standardise()], "b": [Encode()]})
    readers = [start(preparation) for _ in range(3)]
    for index, reader in enumerate(readers):
        reader.update({name: values[index : index + 1] for name, values in BATCH.items()})

    merged = readers[2].merge(readers[0]).merge(readers[1])

    assert merged.num_rows == 3
    assert isinstance(merged, Fitting)
    assert merged.finish() == preparation.fit([BATCH])


def test_arrow_and_arrays_teach_the_same():
    preparation = Preparation({"a": [Impute("mean"), Standardise()], "b": [Encode()]})
    table = pa.table({"a": BATCH["a"], "b": pa.array(BATCH["b"]), "c": BATCH["c"]})
    schema = pa.schema([field.with_nullable(False) for field in table.schema])

    assert preparation.fit(table.cast(schema).to_batches()).plan == preparation.fit([BATCH]).plan

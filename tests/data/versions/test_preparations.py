import numpy as np
import pyarrow as pa
import pytest

import shoal.data
from shoal.base import ConflictError, CorruptError, SchemaError
from shoal.data import Preparation
from shoal.data.prepare import Encode, Impute, Standardise
from shoal.data.versions.preparations import preparation_path

PREPARATION = Preparation({"weight": [Standardise()], "label": [Encode()]}, drop=["user", "image"])


def test_it_belongs_to_a_new_version(dataset):
    prepared = dataset.prepare(PREPARATION)

    assert prepared.version == dataset.version + 1
    assert prepared.manifest.change == "prepare"
    assert dataset.preparation is None
    opened = shoal.data.open(dataset.path)
    assert opened.preparation == prepared.preparation
    assert opened.preparation.fitted_on.digest == dataset.digest


def test_the_rows_stay_raw(dataset):
    prepared = dataset.prepare(PREPARATION)

    assert np.array_equal(prepared.arrays(["weight"])["weight"], dataset.arrays(["weight"])["weight"])
    assert prepared.profile == dataset.profile


def test_nothing_is_learned_of_the_other_rows(dataset):
    train, validation = dataset.split(0.7, 0.3)

    prepared = train.prepare(PREPARATION)

    source = prepared.preparation.fitted_on
    assert (source.address, source.digest, source.num_rows) == (train.address, train.digest, train.num_rows)
    assert prepared.num_rows == train.num_rows
    learned = prepared.preparation.plan.chains[0].operators[0]
    weights = train.arrays(["weight"])["weight"].astype(np.float64)
    assert learned.mean == pytest.approx(weights.mean(), rel=1e-5)
    assert learned == PREPARATION.fit(list(train.batches(batch_rows=37))).plan.chains[0].operators[0]
    assert validation.num_rows


def test_every_part_keeps_it(dataset):
    prepared = dataset.split(0.7, 0.3)[0].prepare(PREPARATION)
    whole = shoal.data.open(dataset.path)

    parts = [*prepared.split(0.5, 0.5), whole.split(0.7, 0.3)[1], whole.sample(0.5)]

    assert {part.preparation.digest for part in parts} == {prepared.preparation.digest}


@pytest.mark.parametrize("columns", [None, ["weight"], ["label", "weight"]])
def test_loaders_apply_it(dataset, columns):
    prepared = dataset.split(0.7, 0.3)[0].prepare(PREPARATION)
    loaders = [prepared.loader(batch_size=64, shuffle=True, seed=3, format="numpy", prepare=each, columns=names)
               for each, names in ((None, columns), (False, None))]  # fmt: skip

    for batch, raw in zip(*loaders, strict=True):
        expected = prepared.preparation.apply(raw)
        assert set(batch) == set(columns or expected)
        assert all(batch[name].tobytes() == expected[name].tobytes() for name in batch)


def test_texts_and_gaps_come_to_it_as_they_are(tmp_path):
    rows = {"city": pa.array(["Rom", None, "Łódź", "Rom"] * 10), "age": pa.array([1, 2, None, 4] * 10)}
    gaps = shoal.data.ingest(pa.table(rows), tmp_path / "gaps", num_shards=2)
    prepared = gaps.prepare(
        Preparation({"city": [Impute("constant", "?"), Encode()], "age": [Impute("mean", indicator=True)]})
    )

    for format_ in ("numpy", "torch"):
        (batch,) = prepared.loader(batch_size=40, format=format_)
        expected = prepared.preparation.apply(gaps.arrays())
        assert {name: np.asarray(values).tolist() for name, values in batch.items()} == {
            name: values.tolist() for name, values in expected.items()
        }


def test_preparing_again_changes_nothing(dataset):
    first = dataset.prepare(PREPARATION)

    assert dataset.prepare(PREPARATION).version == first.version
    assert dataset.prepare(first.preparation).version == first.version


def test_appending_keeps_it(dataset, make_rows):
    prepared = dataset.prepare(PREPARATION)

    assert prepared.append(make_rows(10, seed=9)).preparation == prepared.preparation


def test_a_damaged_file_is_refused(dataset):
    prepared = dataset.prepare(PREPARATION)
    path = preparation_path(dataset.path, prepared.manifest.preparation)
    text = path.read_text()

    path.write_text(text.replace('"keep": null', '"keep": []', 1))
    with pytest.raises(CorruptError, match="was changed"):
        _ = shoal.data.open(dataset.path).preparation
    path.write_text(PREPARATION.fit(list(dataset.batches())).to_json())
    with pytest.raises(CorruptError, match="holds another preparation"):
        _ = shoal.data.open(dataset.path).preparation
    path.unlink()
    with pytest.raises(CorruptError, match=r"\.json is missing.*prepare the dataset again"):
        _ = shoal.data.open(dataset.path).preparation


def test_a_wrong_preparation_publishes_nothing(dataset):
    with pytest.raises(SchemaError, match="no column 'height'"):
        dataset.prepare(Preparation({"height": [Standardise()]}))

    assert shoal.data.open(dataset.path).version == dataset.version


def test_columns_that_changed_meanwhile_are_a_conflict(dataset, make_rows, tmp_path):
    fitted = dataset.prepare(PREPARATION).preparation
    other = shoal.data.ingest({"weight": make_rows(5)["label"]}, tmp_path / "other")

    with pytest.raises(ConflictError, match="the newest version has"):
        other.prepare(fitted)

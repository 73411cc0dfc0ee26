import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import shoal.store
from shoal.base import InputError, NotFoundError, PredictionId, Ref, SegmentLog, decode, encode
from shoal.model import package, why


@pytest.fixture(scope="module")
def empty_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    shoal.store.open(home).close()
    return home


@pytest.fixture
def store(empty_home, tmp_path):
    with shoal.store.open(shutil.copytree(empty_home, tmp_path / "home")) as opened:
        yield opened


@pytest.fixture
def made(store, graph, rows, dataset, tmp_path):
    """A trained, packaged and registered model version."""
    train, _ = dataset.split(0.5, 0.5)
    with store.runs.start(kind="train", name="t", config={}, code="b3:code", dataset=Ref.of(train)) as run:
        pass
    packaged = package(graph, example=rows, name="tiny", path=tmp_path / "p", run=run.id, dataset=train)
    return store.models.register("tiny", packaged, run=run.id)


@pytest.fixture
def log(store):
    """Two segments of the prediction log, as the service writes it; gives the id of a row in the second."""
    image = pa.fixed_shape_tensor(pa.uint8(), [4, 4])
    fields = [("prediction_id", pa.string()), ("version", pa.string()), ("time_us", pa.int64()), ("image", image)]
    schema = pa.schema(fields)
    with SegmentLog(store.home / "predictions" / "tiny", schema) as opened:
        for first in (0, 5):
            ids = [str(PredictionId("tiny", "1", opened.log_id, row)) for row in range(first, first + 5)]
            pixels = np.full((5, 4, 4), first, np.uint8)
            columns = [ids, ["1"] * 5, [1_000_000] * 5, pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)]
            opened.append(pa.record_batch(columns, schema=schema))
            opened.seal()
    return PredictionId("tiny", "1", opened.log_id, 7)


def test_leads_from_the_id_to_the_sources(store, made, log, dataset):
    found = why(str(log), store)

    assert found.gaps == ()
    assert (found.model, found.package_digest, found.run, found.code) == ("tiny@1", made.digest, "r-0001", "b3:code")
    assert found.input_row == 2
    assert pa.ipc.open_file(found.input_shard).read_all()["prediction_id"][2].as_py() == str(log)
    assert found.values == {"image": [[5] * 4] * 4}
    assert found.time.isoformat() == "1970-01-01T00:00:01+00:00"
    assert found.dataset == dataset.split(0.5, 0.5)[0].address
    assert set(found.shards) < {str(dataset.shard_path(shard)) for shard in dataset.shards}
    assert found.sources == dataset.sources


def test_leads_to_the_log_beside_for_a_version_with_other_columns(store, log):
    beside = store.home / "predictions" / "tiny-0123abcd"
    with SegmentLog(beside, pa.schema([("prediction_id", pa.string()), ("time_us", pa.int64())])) as opened:
        wanted = str(PredictionId("tiny", "2", opened.log_id, 0))
        opened.append(pa.record_batch([[wanted], [1_000_000]], schema=opened.schema))

    found = why(wanted, store)

    assert Path(found.input_shard).parent == beside
    assert found.input_row == 0


def test_is_json(store, made, log):
    assert decode(encode(why(str(log), store)))["values"]["image"] == [[5] * 4] * 4


def test_a_dataset_that_is_gone_is_a_named_gap(store, made, log, dataset):
    shutil.rmtree(dataset.path)

    found = why(str(log), store)

    assert found.run == "r-0001"
    assert found.dataset == dataset.split(0.5, 0.5)[0].address
    assert found.shards == ()
    assert [gap.partition(":")[0] for gap in found.gaps] == ["dataset"]


def test_a_dataset_with_other_content_is_a_named_gap(store, made, log, dataset, rows):
    shutil.rmtree(dataset.path)
    shoal.data.ingest({**rows, "label": rows["label"] * 0}, dataset.path, key="id")

    (gap,) = why(str(log), store).gaps

    assert "now has the digest" in gap


def test_a_changed_package_is_a_named_gap(store, made, log):
    path = made.path / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(b"else")

    gaps = why(str(log), store).gaps

    assert "model.onnx was changed" in gaps[0]


def test_an_unregistered_model_still_has_its_input(store, log):
    found = why(str(log), store)

    assert found.input_row == 2
    assert [gap.partition(":")[0] for gap in found.gaps] == ["model", "run", "dataset"]


def test_a_run_of_another_store_is_a_named_gap(store, log, graph, rows, dataset, tmp_path):
    packaged = package(graph, example=rows, name="tiny", path=tmp_path / "p", run="r-0042", dataset=dataset)
    store.models.register("tiny", packaged)

    found = why(str(log), store)

    assert found.run == "r-0042"
    assert found.sources == dataset.sources
    assert [gap.partition(":")[0] for gap in found.gaps] == ["run"]


@pytest.mark.parametrize("text", ["", "tiny", "tiny@1.abc", "tiny@1.abc.x"])
def test_what_is_no_id_is_refused(store, log, text):
    with pytest.raises(InputError, match="prediction id"):
        why(text, store)


def test_an_id_of_another_log_is_not_mistaken(store, log):
    with pytest.raises(NotFoundError, match="the id is of zzzzzz"):
        why(f"tiny@1.zzzzzz.{log.row}", store)


def test_a_row_that_another_version_answered_is_not_mistaken(store, log):
    with pytest.raises(NotFoundError, match="row 7 of its log holds"):
        why(f"tiny@2.{log.log_id}.7", store)


def test_a_row_that_was_never_written_is_not_found(store, log):
    with pytest.raises(NotFoundError, match="99"):
        why(f"tiny@1.{log.log_id}.99", store)

from dataclasses import replace
from pathlib import Path

import pytest

from shoal.base import ConfigError, ConflictError, InputError, NotFoundError, Ref, UnsupportedError
from shoal.model import Signature, TensorSpec
from shoal.model.prediction_plan import (
    Plan,
    Request,
    carried_columns,
    check_folder,
    check_request,
    find_plan,
    read_prediction_plan,
    settle_plan,
    with_addresses,
)

PACKAGE, DATASET = Ref("package", "/p", "b3:1"), Ref("dataset", "/d@1", "b3:2")
PLAN = Plan(package=PACKAGE, dataset=DATASET, num_rows=250, part_rows=100, batch_size=8, columns=("id",))
REQUEST = Request(package=PACKAGE, dataset=DATASET, columns=("id",), batch_size=None)
SIGNATURE = Signature((TensorSpec("image", "uint8", (None, 4, 4)),), (TensorSpec("scores", "float32", (None, 3)),))


def test_parts_cover_every_row_once(tmp_path):
    parts = PLAN.parts(tmp_path)

    assert [(part.start, part.stop) for part in parts] == [(0, 100), (100, 200), (200, 250)]
    assert [part.path.name for part in parts] == sorted({part.path.name for part in parts})


def test_sources_name_the_dataset_and_the_model():
    assert [(fact.path, fact.digest, fact.num_rows) for fact in PLAN.sources] == [
        ("/d@1", "b3:2", 250),
        ("/p", "b3:1", 250),
    ]


def test_the_first_plan_stays(tmp_path):
    assert find_plan(tmp_path, REQUEST) is None
    assert settle_plan(tmp_path, PLAN, REQUEST) == PLAN

    assert settle_plan(tmp_path, replace(PLAN, batch_size=16), REQUEST) == PLAN
    assert read_prediction_plan(tmp_path) == PLAN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"package": Ref("package", "/p", "b3:9")}, "holds predictions of package b3:1"),
        ({"dataset": Ref("dataset", "/d@2", "b3:9")}, "holds predictions of dataset b3:2"),
        ({"columns": ()}, r"beside the columns \['id'\], asked for \[\]"),
        ({"batch_size": 9}, "with batch_size=8, asked for 9"),
    ],
)
def test_another_request_is_refused(tmp_path, change, message):
    settle_plan(tmp_path, PLAN, REQUEST)

    with pytest.raises(ConflictError, match=message):
        find_plan(tmp_path, replace(REQUEST, **change))


def test_what_was_moved_is_still_the_same(tmp_path):
    moved = replace(REQUEST, package=Ref("package", "/elsewhere", "b3:1"), batch_size=8)
    settle_plan(tmp_path, PLAN, REQUEST)

    assert with_addresses(find_plan(tmp_path, moved), moved).package.address == "/elsewhere"


def test_a_plan_of_another_version_is_named(tmp_path):
    (tmp_path / "prediction.json").write_text('{"package": {}}')

    with pytest.raises(ConflictError, match=r"prediction\.json was written by another version"):
        find_plan(tmp_path, REQUEST)


def test_a_folder_without_a_plan_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="no predictions were begun"):
        read_prediction_plan(tmp_path)


def test_the_key_goes_along_unless_others_are_asked_for(dataset):
    assert carried_columns(dataset, None) == ("id",)
    assert carried_columns(dataset, ["label", "id", "label"]) == ("label", "id")
    assert carried_columns(dataset, []) == ()


def test_an_unknown_column_is_named(dataset):
    with pytest.raises(InputError, match=r"'lable' is no column of .*rows@1: found id, image, label"):
        carried_columns(dataset, ["lable"])


def test_a_url_is_no_folder():
    assert check_folder("out") == Path("out").absolute()
    with pytest.raises(UnsupportedError, match="expected a folder"):
        check_folder("s3://bucket/out")


def test_columns_that_would_stand_twice_are_named(dataset, rows, tmp_path):
    import shoal.data

    clash = Signature(SIGNATURE.inputs, (TensorSpec("label", "float32", (None,)),))
    with pytest.raises(InputError, match="output 'label' has the name of a column"):
        check_request(clash, dataset, replace(REQUEST, columns=("label",)))

    numbered = shoal.data.ingest({**rows, "row": rows["id"]}, tmp_path / "numbered")
    with pytest.raises(InputError, match=r"'row' .*cannot go along"):
        check_request(SIGNATURE, numbered, replace(REQUEST, columns=("row",)))


def test_a_model_of_one_batch_size_gets_no_other(dataset):
    fixed = Signature((TensorSpec("image", "uint8", (7, 4, 4)),), (TensorSpec("scores", "float32", (7, 3)),))

    check_request(fixed, dataset, replace(REQUEST, batch_size=7))
    with pytest.raises(ConfigError, match="takes exactly 7 rows"):
        check_request(fixed, dataset, replace(REQUEST, batch_size=8))

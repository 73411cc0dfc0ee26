import io
import json

import numpy as np
import pyarrow as pa
import pytest
from onnx import helper

import shoal.data
from shoal.data.prepare import Concatenate, Encode, Impute, Preparation, Standardise
from shoal.model import package
from shoal.serve import start
from shoal.serve.wire.http import Head
from shoal.serve.wire.images import Picture
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.predicting import Predicting, predicting_for
from shoal.serve.wire.refusal import RefusedError

Image = pytest.importorskip("PIL.Image")

BODY = json.dumps({"image": [[1, 2], [3, 4]]}).encode()
PIXELS = np.array([[1, 2], [3, 4]], np.uint8)


def png():
    sink = io.BytesIO()
    Image.fromarray(PIXELS).save(sink, "PNG")
    return sink.getvalue()


def form(content, *, name="file", kind="image/png"):
    return (
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: {kind}\r\n\r\n'.encode()
        + content
        + b"\r\n--b--\r\n"
    )


def head(kind=None, query=""):
    headers = {} if kind is None else {b"content-type": kind.encode("latin-1")}
    return Head("POST", "/predict", headers, keeps_alive=True, is_old=False, query=query)


@pytest.fixture
def reads(interface):
    return Predicting(interface)


@pytest.fixture
def floats():
    return Predicting(
        Interface((TensorField("x", "FP32", (None,)),), (TensorField("y", "FP32", (None,)),), batched=True)
    )


def refused(reads, *arguments, body=BODY, **more):
    with pytest.raises(RefusedError) as caught:
        reads.read(head(*arguments, **more), body)
    return caught.value


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/vnd.mine+json",
        "application/x-www-form-urlencoded",
        "text/plain",
    ],
)
def test_json_is_read_by_whatever_name_clients_send_it(reads, kind):
    assert reads.read(head(kind), BODY).arrays[0].tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize("kind", ["application/octet-stream", "image/gif", "text/html", "nonsense", "\xff"])
def test_another_type_is_415_and_told_before_the_body(reads, kind):
    with pytest.raises(RefusedError) as caught:
        reads.check(head(kind))

    assert (caught.value.status, caught.value.field) == (415, "Content-Type")
    assert "image/png" in caught.value.expected


def test_another_charset_is_415(reads):
    assert refused(reads, "application/json; charset=utf-16").status == 415


@pytest.mark.parametrize("query", ["resize=true", "x", "white=1&white=2"])
def test_json_has_no_query(reads, query):
    error = refused(reads, "application/json", query=query)

    assert (error.status, error.field.partition(".")[0]) == (400, "query")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("image/png", png()),
        ("multipart/form-data; boundary=b", form(png())),
        ('multipart/form-data; boundary="b"', form(png(), name="image")),
        ("multipart/form-data; boundary=b", form(png(), kind="application/octet-stream")),
    ],
)
def test_a_picture_is_read_bare_or_in_a_form(reads, kind, body):
    picture = reads.read(head(kind), body)

    assert isinstance(picture, Picture)
    call = reads.call(picture.decode())
    assert call.arrays[0].tolist() == [PIXELS.tolist()]
    assert (call.id, call.num_rows) == (None, 1)


def test_a_model_without_pixels_takes_no_picture(floats):
    for kind in ("image/png", "multipart/form-data; boundary=b"):
        error = refused(floats, kind, body=png())
        assert (error.status, error.expected) == (415, "application/json")
        assert "no single input of pixels" in error.next_step


@pytest.mark.parametrize(
    ("kind", "body", "field", "status"),
    [
        ("multipart/form-data", form(png()), "Content-Type", 400),
        ("multipart/form-data; boundary=c", form(png()), "body", 400),
        ("multipart/form-data; boundary=b", form(png(), name="picture"), "form.picture", 400),
        ("multipart/form-data; boundary=b", form(png(), kind="text/csv"), "Content-Type", 415),
        ("multipart/form-data; boundary*=utf-8''b", form(png()), "Content-Type", 400),
        ("image/jpeg", png(), "body", 400),
    ],
)
def test_a_wrong_form_is_refused(reads, kind, body, field, status):
    error = refused(reads, kind, body=body)

    assert (error.field, error.status) == (field, status)


def test_a_picture_takes_the_query_that_images_know(reads):
    assert refused(reads, "image/png", query="size=2", body=png()).field == "query.size"
    assert refused(reads, "image/png", query="resize=true&resize=true", body=png()).field == "query"
    assert isinstance(reads.read(head("image/png", query="resize=true"), png()), Picture)


def test_without_pillow_a_picture_is_refused_before_its_body(reads, monkeypatch):
    monkeypatch.setattr("shoal.serve.wire.predicting.has_pillow", lambda: False)

    with pytest.raises(RefusedError, match="Pillow is not installed") as caught:
        reads.check(head("image/png"))

    assert caught.value.status == 415


def test_a_reader_is_made_once_for_an_interface(interface):
    assert predicting_for(interface) is predicting_for(interface)


def ask(wire, path, body, kind="application/json"):
    status, _, answer = wire.ask("POST", path, body, Content_Type=kind)
    return status, json.loads(answer)


def test_a_server_answers_plain_json_and_pictures_alike(wire):
    expected = wire.infer(
        "scorer", {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}]}
    )[1]["outputs"][0]["data"]

    answers = [
        ask(wire, "/predict", BODY),
        ask(wire, "/v2/models/scorer/predict", png(), "image/png"),
        ask(wire, "/v2/models/scorer/versions/1/predict", form(png()), "multipart/form-data; boundary=b"),
        ask(wire, "/v2/models/fixed/predict", BODY),
        ask(wire, "/v2/models/scorer/predict?resize=true", large_png(), "image/png"),
    ]

    assert [status for status, _ in answers] == [200] * 5
    assert all(answer["scores"] == expected for _, answer in answers[:4])
    assert len(answers[4][1]["scores"]) == 3


def large_png():
    sink = io.BytesIO()
    Image.effect_noise((600, 400), 50).save(sink, "PNG")
    return sink.getvalue()


def test_rows_are_answered_in_order_with_ids_that_follow_one_another(wire):
    rows = [{"values": [number, 0.5], "flags": number % 2 == 0} for number in range(3)]

    status, answers = ask(wire, "/v2/models/adder/predict", json.dumps({"rows": rows}).encode())

    assert status == 200
    assert [answer["total"] for answer in answers] == [1.5, 1.5, 3.5]
    prefixes, numbers = zip(*(answer["prediction_id"].rsplit(".", 1) for answer in answers), strict=True)
    assert len(set(prefixes)) == 1
    assert [int(number) - int(numbers[0]) for number in numbers] == [0, 1, 2]


def test_an_output_that_json_cannot_carry_is_422(wire):
    status, answer = ask(wire, "/v2/models/picker/predict", b'{"index": 0}')

    assert (status, answer["field"]) == (422, "outputs.logarithm")


@pytest.mark.slow
def test_a_package_with_preparation_takes_rows_with_nulls_and_texts(tmp_path, connect):
    table = pa.table({"age": [20, None, 40, 60] * 9, "city": ["Rom", "Łódź", None, "Rom"] * 9, "label": [0, 1] * 18})
    preparation = Preparation(
        {
            "age": [Impute("mean"), Standardise()],
            "city": [Impute("most_frequent"), Encode(to="one_hot")],
            "features": Concatenate(["age", "city"]),
        }
    )
    dataset = shoal.data.ingest(table, tmp_path / "people").prepare(preparation)
    given, seen = (helper.make_tensor_value_info(name, 1, ["n", 4]) for name in ("features", "seen"))
    graph = helper.make_graph([helper.make_node("Identity", ["features"], ["seen"])], "seen", [given], [seen])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    raw = dataset.take(np.arange(36))
    made = package(model, example=raw, dataset=dataset, kind="regression", path=tmp_path / "package")
    rows = [
        {name: raw[name].tolist()[place] if raw[f"{name}_mask"][place] else None for name in ("age", "city")}
        for place in range(len(raw["age"]))
    ]

    with start(made, replicas=1, port=0) as server:
        status, answers = ask(connect(server.port), "/predict", json.dumps({"rows": rows}).encode())

    assert status == 200
    assert None in [row["age"] for row in rows]
    assert None in [row["city"] for row in rows]
    assert [answer["seen"] for answer in answers] == dataset.preparation.apply(raw)["features"].tolist()

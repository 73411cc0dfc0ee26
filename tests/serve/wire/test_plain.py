import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.outputs import BatchOutputs
from shoal.serve.wire.plain import PlainForm
from shoal.serve.wire.protocol import InferAnswer, Protocol
from shoal.serve.wire.refusal import RefusedError

SCORES = TensorField("scores", "FP32", (None, 3))
PEOPLE = Interface(
    (
        TensorField("age", "INT64", (None,)),
        TensorField("age_mask", "BOOL", (None,)),
        TensorField("city", "BYTES", (None,)),
        TensorField("city_mask", "BOOL", (None,)),
        TensorField("height", "FP32", (None,)),
        TensorField("member", "BOOL", (None,)),
    ),
    (SCORES,),
    batched=True,
)
ANNA = {"age": 3, "city": "Łódź", "height": 1.5, "member": True}


def interface(*inputs, outputs=(SCORES,), batched=True):
    return Interface(tuple(TensorField(*each) for each in inputs), tuple(outputs), batched=batched)


def form(*inputs, **more):
    return PlainForm(interface(*inputs, **more))


IMAGE = form(("image", "UINT8", (None, 2, 2)))


def decode(form, value):
    return form.decode(value if isinstance(value, bytes) else json.dumps(value).encode())


def refused(form, value):
    with pytest.raises(RefusedError) as caught:
        decode(form, value)
    assert caught.value.status == 400
    return caught.value


def answer_to(form, value, *outputs, row=5):
    call = decode(form, value)
    parts = BatchOutputs([np.array(each) for each in outputs], batched=form.interface.batched)
    answer = InferAnswer("m", "1", "id", {"prediction_id": f"m@1.x.{row}"}, [])
    body, json_bytes = Protocol(form.interface).encode(answer, parts.rows(0, call.num_rows), call.wishes)
    assert json_bytes is None
    return json.loads(body)


def test_named_fields_are_one_row():
    call = decode(IMAGE, {"image": [[1, 2], [3, 255]]})

    assert call.num_rows == 1
    assert call.arrays[0].dtype == np.uint8
    assert call.arrays[0].tolist() == [[[1, 2], [3, 255]]]


def test_rows_are_objects():
    call = decode(IMAGE, {"rows": [{"image": [[1, 2], [3, 4]]}, {"image": [[5, 6], [7, 8]]}]})

    assert call.num_rows == 2
    assert call.arrays[0].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_null_says_that_a_row_has_no_value_where_there_is_a_mask():
    people = PlainForm(PEOPLE)

    call = decode(people, {"rows": [ANNA, ANNA | {"age": None, "city": None}]})

    age, age_mask, city, city_mask, height, member = call.arrays
    assert (age.tolist(), age_mask.tolist()) == ([3, 0], [True, False])
    assert (city.tolist(), city_mask.tolist()) == (["Łódź", ""], [True, False])
    assert (height.dtype, height.tolist(), member.tolist()) == (np.float32, [1.5, 1.5], [True, True])


def test_null_where_the_model_provides_for_none_is_refused():
    found = refused(PlainForm(PEOPLE), {"rows": [ANNA, ANNA | {"height": None}]})

    assert (found.field, found.found) == ("rows[1].height", "null")
    assert found.expected.startswith("FP32: finite numbers")


FILLED = PlainForm(
    Interface(
        (TensorField("distance", "FP64", (None,), fills_nan=True), TensorField("height", "FP32", (None,))),
        (SCORES,),
        batched=True,
    )
)


def test_null_is_nan_where_the_model_fills_it():
    call = decode(FILLED, {"rows": [{"distance": 2.5, "height": 1}, {"distance": None, "height": 2}]})

    distance, height = call.arrays
    assert distance.dtype == np.float64
    assert (distance[0], np.isnan(distance[1]), height.tolist()) == (2.5, True, [1.0, 2.0])


def test_one_row_alone_may_have_no_value_too():
    assert np.isnan(decode(FILLED, {"distance": None, "height": 1}).arrays[0]).tolist() == [True]


def test_a_tensor_that_the_model_fills_is_null_as_a_whole():
    filled = PlainForm(Interface((TensorField("x", "FP32", (None, 2), fills_nan=True),), (SCORES,), batched=True))

    assert np.isnan(decode(filled, {"rows": [{"x": [1, 2]}, {"x": None}]}).arrays[0]).tolist() == [
        [False, False],
        [True, True],
    ]
    assert refused(filled, {"x": [1, None]}).found == "null"


def test_beside_a_field_that_may_be_null_the_others_may_not():
    found = refused(FILLED, {"rows": [{"distance": None, "height": None}]})

    assert (found.field, found.found) == ("rows[0].height", "null")
    assert "null" not in found.expected
    assert refused(FILLED, {"height": 1}).expected.endswith("or null for no value")


@pytest.mark.parametrize("text", ["NaN", "nan", '"NaN"', "Infinity", "[null]", '""'])
def test_only_null_says_that_there_is_no_value(text):
    refused(FILLED, b'{"height": 1, "distance": %s}' % text.encode())


def test_masks_themselves_are_no_fields():
    people = PlainForm(PEOPLE)

    assert [field.name for field in people.fields] == ["age", "city", "height", "member"]
    assert refused(people, ANNA | {"age_mask": True}).field == "age_mask"


def test_a_masked_tensor_is_null_as_a_whole():
    masked = form(("x", "FP32", (None, 2)), ("x_mask", "BOOL", (None,)))

    call = decode(masked, {"rows": [{"x": [1, 2.5]}, {"x": None}]})

    assert call.arrays[0].tolist() == [[1.0, 2.5], [0.0, 0.0]]
    assert call.arrays[1].tolist() == [True, False]


@pytest.mark.parametrize(
    ("value", "field", "found"),
    [
        (b"", "body", "no bytes"),
        ([1], "body", "a list of 1"),
        ("text", "body", "'text'"),
        ({}, "image", "no such field"),
        ({"picture": [[1, 2], [3, 4]]}, "picture", "a field that the model does not have"),
        ({"image": [[1, 2], [3, 4]], "id": "x"}, "id", "a field that the model does not have"),
        ({"image": 3}, "image", "3"),
        ({"image": None}, "image", "null"),
        ({"image": {"data": []}}, "image", "an object"),
        ({"image": [1, 2, 3, 4]}, "image", "a list of 4"),
        ({"image": [[1, 2]]}, "image", "a list of 1"),
        ({"image": []}, "image", "a list of 0"),
        ({"image": [[1, 2], [3]]}, "image[1]", "a list of 1"),
        ({"image": [[1, 2], 3]}, "image[1]", "3"),
        ({"image": [[1, 2], [3, "4"]]}, "image[1][1]", "'4'"),
        ({"image": [[1, 2], [3, True]]}, "image[1][1]", "true"),
        ({"image": [[1, 2], [3, 4.0]]}, "image[1][1]", "4.0"),
        ({"image": [[1, None], [3, 4]]}, "image[0][1]", "null"),
        ({"image": [[1, 2], [256, 4]]}, "image[1][0]", "256"),
        ({"image": [[1, 2], [-1, 4]]}, "image[1][0]", "-1"),
        ({"image": [[[1], [2]], [[3], [4]]]}, "image[0][0]", "a list of 1"),
        ({"rows": []}, "rows", "a list of 0"),
        ({"rows": {"image": []}}, "rows", "an object"),
        ({"rows": [[[1, 2], [3, 4]]]}, "rows[0]", "a list of 2"),
        ({"rows": [{"image": [[1, 2], [3, 4]]}, None]}, "rows[1]", "null"),
        ({"rows": [{"image": [[1, 2], [3, 4]]}, {}]}, "rows[1].image", "no such field"),
        ({"rows": [{"image": [[1, 2], [3, 4]]}, {"image": [[1, 2], [3, 1000]]}]}, "rows[1].image[1][1]", "1000"),
        ({"rows": [{"image": [[1, 2], [3, 4]]}], "image": [[1, 2], [3, 4]]}, "image", "a field beside rows"),
        (b'{"image": [[1, 2], [3, 4]], "image": [[1, 2], [3, 5]]}', "image", "the same key twice"),
        (b'{"rows": [{"image": [[1, 2], [3, 4]], "image": 1}]}', "image", "the same key twice"),
    ],
)
def test_every_mistake_is_named(value, field, found):
    error = refused(IMAGE, value)

    assert (error.field, error.found) == (field, found)
    assert error.expected


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "1e400", "1e39", "-1e39", '"1"', "true", "null", "[1]", "1" * 5000]
)
def test_a_float_is_finite_and_in_range(value):
    assert refused(form(("x", "FP32", (None,))), f'{{"x": {value}}}'.encode())


def test_whole_numbers_are_good_floats():
    assert decode(form(("x", "FP32", (None,))), {"x": 3}).arrays[0].tolist() == [3.0]


def test_a_text_with_the_character_0_is_refused():
    assert refused(form(("x", "BYTES", (None,))), {"rows": [{"x": "a"}, {"x": "a\0"}]}).field == "rows[1].x"


def test_the_first_row_chooses_free_sizes_and_the_others_agree():
    series = form(("x", "FP32", (None, None)))

    assert decode(series, {"rows": [{"x": [1, 2]}, {"x": [3, 4]}]}).arrays[0].shape == (2, 2)
    error = refused(series, {"rows": [{"x": [1, 2]}, {"x": [3]}]})
    assert (error.field, error.expected) == ("rows[1].x", "a list of 2, as in the first row")
    assert refused(series, {"x": []}).found == "a list of 0"


def test_a_model_for_one_row_takes_one_row():
    fixed = form(("image", "UINT8", (1, 2, 2)), outputs=(TensorField("scores", "FP32", (1, 3)),), batched=False)

    answer = answer_to(fixed, {"image": [[1, 2], [3, 4]]}, np.ones((1, 3), np.float32))

    assert answer["scores"] == [1.0, 1.0, 1.0]
    assert decode(fixed, {"rows": [{"image": [[1, 2], [3, 4]]}]}).arrays[0].shape == (1, 2, 2)
    assert refused(fixed, {"rows": [{"image": [[1, 2], [3, 4]]}] * 2}).field == "rows"


def test_a_model_without_rows_takes_its_inputs_whole():
    whole = form(("x", "FP32", (None, 2)), outputs=(TensorField("sum", "FP32", ()),), batched=False)

    answer = answer_to(whole, {"x": [[1, 2], [3, 4], [5, 6]]}, np.float32(21))

    assert answer["sum"] == 21.0


def test_one_row_is_answered_by_an_object_and_rows_by_a_list():
    scores = np.array([[0.5, 0.25, 0.25], [1, 0, 0]], np.float32)
    image = [[1, 2], [3, 4]]

    assert answer_to(IMAGE, {"image": image}, scores[:1]) == {
        "prediction_id": "m@1.x.5",
        "model": "m",
        "version": "1",
        "scores": [0.5, 0.25, 0.25],
    }
    rows = answer_to(IMAGE, {"rows": [{"image": image}] * 2}, scores)
    assert [row["prediction_id"] for row in rows] == ["m@1.x.5", "m@1.x.6"]
    assert [row["scores"] for row in rows] == scores.tolist()


def test_an_output_whose_name_is_taken_is_called_otherwise():
    named = form(("x", "FP32", (None,)), outputs=(TensorField("version", "INT64", (None,)),))

    answer = answer_to(named, {"x": 1}, np.array([7]))

    assert (answer["version"], answer["outputs.version"]) == ("1", 7)


def test_an_output_that_is_not_finite_is_422():
    with pytest.raises(RefusedError, match="scores") as caught:
        answer_to(IMAGE, {"image": [[1, 2], [3, 4]]}, np.full((1, 3), np.nan, np.float32))

    assert caught.value.status == 422


def test_an_input_called_rows_is_that_input():
    rows = form(("rows", "INT64", (None,)))

    assert not rows.takes_list
    assert decode(rows, {"rows": 3}).arrays[0].tolist() == [3]


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "age": st.none() | st.integers(-(2**63), 2**63 - 1),
                "city": st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
                "height": st.floats(width=32, allow_nan=False, allow_infinity=False),
                "member": st.booleans(),
            }
        ),
        min_size=1,
        max_size=5,
    )
)
def test_good_rows_come_through_whatever_they_hold(rows):
    call = decode(PlainForm(PEOPLE), {"rows": rows})

    columns = dict(zip([field.name for field in PEOPLE.inputs], call.arrays, strict=True))
    for number, row in enumerate(rows):
        for name, value in row.items():
            if value is None:
                assert not columns[f"{name}_mask"][number]
            else:
                assert columns[name][number].item() == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["rows", "image", "x", ""]), inner, max_size=3)
        ),
    )
)
def test_any_json_is_taken_or_refused_with_a_reason(value):
    error = None
    try:
        decode(IMAGE, value)
    except RefusedError as refused:
        error = refused

    assert error is None or (error.status == 400 and error.field and error.expected)


def test_the_example_is_a_good_body():
    for each in (IMAGE, PlainForm(PEOPLE), form(("x", "FP32", (None, None, 2)))):
        assert decode(each, each.example()).num_rows == 1

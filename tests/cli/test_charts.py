import math
import xml.etree.ElementTree as Xml

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.cli.charts import MAX_CURVES, svg_chart, text_chart

SVG = "{http://www.w3.org/2000/svg}"
CURVES = st.dictionaries(
    st.text(max_size=8),
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1e9, 1e9) | st.just(math.nan)), max_size=40).map(sorted),
    max_size=4,
)


def test_a_falling_curve_falls():
    chart = text_chart({"r-1": [(0, 3.0), (1, 2.0), (2, 1.0)]}, title="loss", width=3, height=3)

    assert chart.splitlines() == ["loss", "3 |A", "  | A", "1 |  A", "  +---", "   0step 2", "A  r-1"]


def test_each_curve_has_its_letter():
    chart = text_chart({"r-1": [(0, 0.0), (9, 0.0)], "r-2": [(0, 1.0), (9, 1.0)]}, title="loss", width=10, height=2)

    assert chart.splitlines()[1:3] == ["1 |B        B", "0 |A        A"]
    assert chart.splitlines()[-2:] == ["A  r-1", "B  r-2"]


def test_what_falls_into_one_column_is_drawn_as_its_mean():
    noisy = [(step, float(step % 2) * 10) for step in range(1000)]

    rows = text_chart({"r-1": noisy}, title="loss", width=10, height=5).splitlines()[1:6]

    # The ends of the axis are those of the drawn values' own range; the mean lies in its middle.
    assert rows[2].count("A") == 10


@pytest.mark.parametrize("draw", [text_chart, svg_chart])
def test_numbers_that_are_none_are_left_out(draw):
    drawn = draw({"r-1": [(0, math.nan), (1, 1.0), (2, math.inf), (3, 2.0)]}, title="loss")

    assert "nan" not in drawn
    assert "inf" not in drawn


def test_without_points_it_says_so():
    assert text_chart({"r-1": [(0, math.nan)]}, title="loss") == "loss: no points"


def test_a_picture_is_a_line_for_each_curve_inside_its_frame():
    curves = {"r-1": [(step, 1 / (step + 1)) for step in range(5000)], "r-2 <&>": [(0, 0.5), (4999, 0.1)]}

    root = Xml.fromstring(svg_chart(curves, title="train.loss", width=760, height=420))

    lines = [line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")]
    places = [tuple(map(float, point.split(","))) for line in lines for point in line]
    assert [len(line) for line in lines] == [295, 2]
    assert all(64 <= x <= 740 and 40 <= y <= 376 for x, y in places)
    assert {"train.loss", "step", "r-1", "r-2 <&>"} <= {text.text for text in root.iter(f"{SVG}text")}


def test_the_first_curve_can_be_told_from_the_last():
    curves = {f"r-{index}": [(0, float(index)), (1, float(index))] for index in range(MAX_CURVES)}

    assert text_chart(curves, title="loss", height=MAX_CURVES).splitlines()[-1] == f"Z  r-{MAX_CURVES - 1}"


@given(CURVES)
def test_whatever_was_recorded_can_be_drawn(curves):
    text_chart(curves, title="loss")
    svg_chart(curves, title="loss")


def test_the_origin_has_its_number_and_an_axis():
    root = Xml.fromstring(svg_chart({"r-1": [(1, 2.0), (1000, 1.0)]}, title="loss"))

    steps = [text.text for text in root.iter(f"{SVG}text") if text.attrib.get("text-anchor") == "middle"]
    assert steps == ["1", "200", "400", "600", "800", "1,000", "step"]
    assert [path.attrib["d"] for path in root.iter(f"{SVG}path") if path.attrib.get("class") == "axis"] == [
        "M64,40 V376 H740"
    ]


def test_numbers_at_the_origin_never_stand_on_each_other():
    root = Xml.fromstring(svg_chart({"r-1": [(190, 2.0), (1190, 1.0)]}, title="loss"))

    steps = [text.text for text in root.iter(f"{SVG}text") if text.attrib.get("text-anchor") == "middle"]
    assert steps == ["190", "400", "600", "800", "1,000", "step"]


def test_a_curve_that_ends_in_no_number_has_a_mark_there():
    curves = {"r-1": [(1, 2.0), (2, 4.0), (3, math.nan)], "r-2": [(1, 1.0), (3, 0.5)]}

    drawn = svg_chart(curves, title="loss")

    assert drawn.count("<title>no number after this</title>") == 1
    # Beside the other curve, which goes on to step 3.
    assert 'd="M402.0,40.0 m-5,-5' in drawn

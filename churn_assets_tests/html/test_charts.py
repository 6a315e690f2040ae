"""Charts: inside their box, complete, readable as a file of their own."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.html.charts import (
    WIDTH,
    Axis,
    BarRows,
    Chart,
    IntervalRows,
    Line,
    Mark,
    Row,
    bars,
    columns,
    compact,
    histogram,
    intervals,
    lines,
    over_periods,
    round_numbers,
    scatter,
)

VALUES = st.floats(-1e9, 1e9)


@given(VALUES, st.floats(1e-6, 1e9))
def test_round_numbers_lie_within_the_axis_in_order(low, span):
    numbers = round_numbers(low, low + span)
    assert list(numbers) == sorted(set(numbers))
    assert all(low - span * 1e-3 <= value <= low + span * (1 + 1e-3) for value in numbers)
    assert 1 <= len(numbers) <= 12


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=30))
def test_no_line_leaves_its_box(points):
    chart = lines("t", Axis("x", -1.0, 1.0), Axis("y", -1.0, 1.0), [Line("a", points, dots=True)])
    path = next(e for e in parse(chart).iter() if e.get("class") == "line a")
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d", ""))]
    assert all(0.0 <= n <= WIDTH for n in numbers)


CHARTS = {
    "lines": lines(
        "a & b", Axis("x", 0, 1), Axis("y", 0, 1), [Line("<l>", [(0, 0), (1, 1)], band=[(0, 0, 1), (1, 0, 1)])], [0.5]
    ),
    "scatter of one value": scatter("s", Axis("x", 0, 0), Axis("y", -1, 1), [(0, 0)], []),
    "histogram with an empty bin": histogram("h", Axis("x", 0, 2), [0, 1, 2], [3, 0], [0, 0]),
    "columns": columns("c", {"low": 5, "<high>": 0}),
    "no columns": columns("c", {}),
    "bars": bars("b", {"<a>": 0.5, "b": 0.0}, "share", compact, "kept"),
    "no bars": bars("b", {}, "share", compact, "kept"),
    "intervals": intervals("i", [("<a>", [Mark(0.5, 0.1, 0.9), Mark(None, 0.2, 0.3, "b")])], Axis("x", 0, 1)),
    "periods with a gap": over_periods("p", ["1", "<2>"], {"<s>": [Mark(1.0, 0.5, 2.0), None]}, "y", limit=0.5),
    "no periods": over_periods("p", [], {}, "y"),
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_a_chart_is_a_file_of_its_own_with_its_colours_and_title(chart):
    root = parse(chart)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "--a:" in next(iter(root)).text
    assert chart.title in [e.text for e in root.iter()]
    assert chart.svg() == chart.svg()


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_every_shape_lies_within_the_chart(chart):
    for shape in chart.shapes:
        across = [float(shape.attributes[name]) for name in ("x", "x1", "x2", "cx") if name in shape.attributes]
        assert all(0.0 <= x <= WIDTH for x in across), shape
        down = [float(shape.attributes[name]) for name in ("y", "y1", "y2", "cy") if name in shape.attributes]
        assert all(-6.0 <= y <= chart.height for y in down), shape


def test_a_gap_breaks_the_line():
    chart = lines("t", Axis("x", 0, 3), Axis("y", 0, 1), [Line("a", [(0, 0.1), (1, None), (2, 0.2), (3, 0.3)])])
    path = next(shape for shape in chart.shapes if shape.attributes.get("class") == "line a")
    assert str(path.attributes["d"]).count("M") == 2


def test_rows_show_values_and_intervals():
    rows = str(IntervalRows([Row("<esent>", [Mark(0.5, 0.4, 0.6, at=0.2), Mark(None)])]).__html__())
    assert "&lt;esent&gt;" in rows
    assert "left:40.0%;width:20.00%" in rows
    assert rows.count("\N{EM DASH}") == 1
    assert "width:100.0%" in BarRows([Row("a", [Mark(-2.0)]), Row("b", [Mark(1.0)])]).__html__()


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (950, "950"), (1500, "1.5k"), (-2e6, "-2M")])
def test_counts_on_axes_stay_short(value, text):
    assert compact(value) == text


def parse(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg())

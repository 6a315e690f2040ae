"""Drawings: inside their box, whole, readable alone."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.html.drawing import WIDTH, Axis, Line, alone, compact, histogram, lines, round_numbers, scatter
from churn_assets.html.tracks import Mark, bar_rows, interval_rows

UNIT = Axis("words", 0.0, 1.0)
VALUES = st.floats(-1e9, 1e9)


@given(VALUES, st.floats(1e-6, 1e9))
def test_round_numbers_lie_within_the_axis_in_order(low, span):
    found = round_numbers(low, low + span)
    assert list(found) == sorted(set(found))
    assert all(low - span * 1e-3 <= value <= low + span * (1 + 1e-3) for value in found)
    assert 1 <= len(found) <= 12


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=30))
def test_no_line_leaves_its_box(points):
    figure = lines("t", Axis("x", -1.0, 1.0), Axis("y", -1.0, 1.0), [Line("a", points, dots=True)])
    path = next(e for e in svg(figure).iter() if e.get("class") == "line a")
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d", ""))]
    assert all(0.0 <= n <= WIDTH for n in numbers)


@pytest.mark.parametrize(
    "figure",
    [
        lines(
            "a & b",
            Axis("x", 0, 1),
            Axis("y", 0, 1),
            [Line("<l>", [(0, 0), (1, 1)], band=[(0, 0, 1), (1, 0, 1)])],
            [0.5],
        ),
        scatter("s", Axis("x", 0, 0), Axis("y", -1, 1), [(0, 0)], []),
        histogram("h", Axis("x", 0, 2), [0, 1, 2], [3, 0], [0, 0]),
    ],
    ids=["lines", "scatter of one value", "histogram with an empty bin"],
)
def test_a_drawing_stands_alone_as_xml_with_its_colours(figure):
    root = ElementTree.fromstring(alone(figure))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "--a:" in next(iter(root)).text


def test_rows_tell_values_and_intervals():
    rows = interval_rows([("<esent>", None, [Mark(0.5, 0.4, 0.6, at=0.2), Mark(None)])], 0.0, 1.0)
    assert "&lt;esent&gt;" in rows
    assert "left:40.0%;width:20.00%" in rows
    assert rows.count("\N{EM DASH}") == 1
    assert "width:100.0%" in bar_rows([("a", None, [Mark(-2.0)]), ("b", None, [Mark(1.0)])])


@pytest.mark.parametrize(("value", "words"), [(0, "0"), (950, "950"), (1500, "1.5k"), (-2e6, "-2M")])
def test_counts_on_axes_stay_short(value, words):
    assert compact(value) == words


def svg(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(alone(figure))

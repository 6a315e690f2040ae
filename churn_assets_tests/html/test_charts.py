"""Charts: inside their box, complete, readable as a file of their own."""

from __future__ import annotations

import re
from html import escape
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.html.charts import (
    SWARM_HEIGHT,
    SWARM_WIDTH,
    WIDTH,
    Axis,
    BarRows,
    Chart,
    IntervalRows,
    Line,
    Mark,
    Row,
    SwarmRows,
    WaterfallRows,
    bars,
    columns,
    compact,
    heatmap,
    histogram,
    intervals,
    lines,
    log_odds_axis,
    mirrored,
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
    "mirrored": mirrored(
        "m",
        log_odds_axis("p", 0.0, 1.0),
        [0.0005, 0.1, 0.9995],
        ("<up>", "churned", [0.2, 0.8]),
        ("down", "kept", [1.0, 0.0]),
        [0.3],
    ),
    "dots alone on a log-odds axis": lines(
        "d", log_odds_axis("x", 0.01, 0.9), log_odds_axis("y", 0, 1), [Line("l", [(0.1, 0), (0.5, 1)], joined=False)]
    ),
    "columns": columns("c", {"low": 5, "<high>": 0}),
    "no columns": columns("c", {}),
    "bars": bars("b", {"<a>": 0.5, "b": 0.0}, "share", compact, "kept"),
    "no bars": bars("b", {}, "share", compact, "kept"),
    "intervals": intervals("i", [("<a>", [Mark(0.5, 0.1, 0.9), Mark(None, 0.2, 0.3, "b")])], Axis("x", 0, 1)),
    "periods with a gap": over_periods("p", ["1", "<2>"], {"<s>": [Mark(1.0, 0.5, 2.0), None]}, "y", limit=0.5),
    "heat map": heatmap(
        "h", ["<a>", "a very long name of a column"], ["1", ""], [[1.0, None], [-0.5, 0.0]], "<cohort>"
    ),
    "no heat": heatmap("h", [], [], []),
    "no periods": over_periods("p", [], {}, "y"),
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_a_chart_is_a_file_of_its_own_with_its_colours_and_title(chart):
    root = parse(chart)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "--a:" in next(iter(root)).text
    assert chart.title in [e.text for e in root.iter()]
    assert chart.svg() == chart.svg()


X, Y = Axis("x", 0, 20), Axis("y", 0, 1)
FEW = [(0.0, 0.12345), (0.5, None), (1.0, 0.9)]


@pytest.mark.parametrize(
    ("chart", "summary"),
    [
        (lines("t", X, Y, [Line("<a>", FEW)]), "<a>: 0.123 at 0, 0.9 at 1"),
        (lines("t", X, Y, [Line("a", FEW, band=[(1.0, 0.8, 1.0)])]), "a: 0.123 at 0, 0.9 (0.8 to 1) at 1"),
        (
            lines("t", X, Y, [Line("a", [(float(at), abs(at - 5) / 20) for at in range(20)])]),
            "a: from 0.25 at 0, to 0.7 at 19, lowest 0 at 5, highest 0.7 at 19",
        ),
        (lines("t", X, Y, [Line("a", []), Line("limit", FEW, dashed=True)]), ""),
        (over_periods("t", ["w1", "w2"], {"s": [Mark(0.5, 0.4, 0.6), None]}, "y"), "s: 0.5 (0.4 to 0.6) at w1"),
        (
            mirrored("t", Axis("x", 0, 2), [0, 1, 2], ("up", "a", [0.8, 0.2]), ("down", "b", [0.0, 1.0])),
            "up: 80 % from 0 to 1, 20 % from 1 to 2; down: 100 % from 1 to 2",
        ),
        (histogram("t", X, [0, 1, 2], [3, 0], unit="answers"), "0 to 1: 3 answers"),
        (histogram("t", X, [0, 1, 2], [3, 0], [1, 0]), "0 to 1: 4 customers, 1 churned"),
        (bars("t", {"a": 0.5, "b": 1500.0}, "x", compact, "kept"), "b: 1.5k; a: 0.5"),
        (columns("t", {"low": 1500}), "low: 1,500"),
        (
            intervals("t", [("r", [Mark(0.5, 0.1, 0.9), Mark(0.7, style="b")])], Y, [("one", "a"), ("two", "b")]),
            "r: one 0.5 (0.1 to 0.9), two 0.7",
        ),
        (heatmap("t", ["r"], ["c", "d"], [[1.0, -0.5]]), "r: from -0.50 (d) to 1.00 (c)"),
        (scatter("t", X, Y, [(0, 0), (1, 1)], [(0.0, 0.1), (1.0, 0.2)]), "2 dots; their middle: 0.1 at 0, 0.2 at 1"),
    ],
)
def test_a_chart_says_its_figures_in_words(chart, summary):
    assert chart.summary == summary
    label = f't: {escape(summary)}"' if summary else 't"'
    assert f'aria-label="{label}' in chart.__html__()
    assert summary in parse(chart).get("aria-label")


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_every_shape_lies_within_the_chart(chart):
    for shape in chart.shapes:
        across = [float(shape.attributes[name]) for name in ("x", "x1", "x2", "cx") if name in shape.attributes]
        assert all(0.0 <= x <= WIDTH for x in across), shape
        down = [float(shape.attributes[name]) for name in ("y", "y1", "y2", "cy") if name in shape.attributes]
        assert all(-6.0 <= y <= chart.height for y in down), shape


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_log_odds_axis_keeps_the_order_and_marks_what_has_room(one, other):
    low, high = sorted((one, other))
    axis = log_odds_axis("p", low, high)
    places = [axis.share(value / 40) for value in range(41)]
    assert places == sorted(places)
    assert all(0.0 <= place <= 1.0 for place in places)
    marks = [axis.share(value) for value in axis.marks]
    assert all(later - earlier > 0.13 for earlier, later in pairwise(marks))


def test_equal_ratios_of_odds_are_equally_far_apart():
    axis = log_odds_axis("p", 0.001, 0.999)
    first, second, third = (axis.share(odds / (1 + odds)) for odds in (0.1, 1.0, 10.0))
    assert second - first == pytest.approx(third - second)


def test_the_smaller_class_of_a_mirrored_histogram_is_as_large_as_the_other():
    chart = mirrored("m", Axis("x", 0, 2), [0, 1, 2], ("few", "churned", [0.0, 1.0]), ("many", "kept", [1.0, 0.0]))
    drawn = [shape.attributes for shape in chart.shapes if shape.element == "rect"]
    heights = {bar["class"]: bar["height"] for bar in drawn if bar["height"] != "0.0"}
    assert heights["fchurned"] == heights["fkept"]


@given(st.floats(-5, 5), st.lists(st.floats(-3, 3), max_size=6))
def test_bars_of_a_waterfall_begin_where_the_one_before_ends(start, changes):
    chart = WaterfallRows(
        Row("start", [Mark(start)]), [Row(f"{c}", [Mark(c)]) for c in changes], Row("end", [Mark(7.0)])
    )
    bars = list(chart.bars())
    assert [value for *_, value in bars] == [start, *changes, 7.0]
    assert all(0.0 <= left <= left + width <= 100.02 for _, _, _, left, width, _ in bars)
    for (_, _, style, left, width, change), (_, _, _, left_after, width_after, _) in pairwise(bars[1:-1]):
        end = left + width if change > 0 else left
        assert style == ("churned" if change > 0 else "kept")
        assert min(abs(end - left_after), abs(end - left_after - width_after)) < 0.03


def test_dots_of_a_swarm_keep_to_their_row_and_show_their_level():
    dots = [(x / 10, level) for x in range(-20, 20) for level in (0.0, 0.5, 1.0, None)]
    ((label, _, number, zero, paths),) = SwarmRows([("<f>", "note", 0.3, dots)]).clouds()
    assert (label, number) == ("<f>", 0.3)
    assert [style for style, _ in paths] == ["level0", "level2", "level4", "unknown"]
    numbers = [tuple(map(float, at.split())) for _, path in paths for at in re.findall(r"M([\d. -]+)h0", path)]
    assert len(numbers) == len(dots)
    assert all(0 <= x <= SWARM_WIDTH and 0 <= y <= SWARM_HEIGHT for x, y in numbers)
    assert 0 < zero < SWARM_WIDTH
    assert "&lt;f&gt;" in SwarmRows([("<f>", "note", 0.3, dots)]).__html__()


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

"""Charts of assets: SVG files, the same for the same numbers."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from churn_assets.defs import metadata, plots

CHARTS = {
    "missing values": lambda: plots.missing_values({"a": 0.1, "b": 0.0}, 0.2),
    "no missing values": lambda: plots.missing_values({}, None),
    "counts": lambda: plots.counts({"null: custid": 20, "bounds: esent": 3}, "rejected", "rows"),
    "precision": lambda: plots.precision_recall({"boosted": [(0.1, 1.0), (1.0, 0.2)]}, 0.2, "candidates"),
    "ladder": lambda: plots.ladder([("everything", {"random": (0.9, 0.8, 0.95), "out_of_time": (0.5, 0.4, 0.6)})], "l"),
    "trend": lambda: plots.trend({"PSI": [0.1, None, 0.3]}, [1, 2, 3], 0.2, "drift", "PSI"),
    "differences": lambda: plots.differences({"holdout": np.linspace(-0.1, 0.2, 50)}, "challenger minus champion"),
    "bands": lambda: plots.customers_by({"low": 5, "high": 0}, "bands"),
}


@pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)
def test_a_chart_is_svg_and_the_same_twice(draw):
    svg = draw()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(svg) < 60_000  # it is in the event log of every run
    assert draw() == svg


def test_a_chart_is_shown_in_place():
    shown = plots.image("<svg></svg>", "alt").value
    assert shown.startswith("![alt](data:image/svg+xml;base64,")


def test_a_table_shows_missing_cells_and_escapes_bars():
    shown = metadata.table([{"a": 1, "b": None}, {"a": 0.12345, "b": "x|y\nz"}]).value
    assert shown.splitlines() == ["| a | b |", "| --- | --- |", "| 1 |  |", "| 0.1235 | x\\|y z |"]
    assert metadata.table([]).value == "none"


def test_only_finite_numbers_are_reported_as_numbers():
    found = metadata.numbers({"a": 1, "b": 0.5, "c": float("nan"), "d": "no", "e": True})
    assert {name: value.value for name, value in found.items()} == {"a": 1, "b": 0.5}

"""Pictures are pictures, the same for the same numbers, and need no display."""

from __future__ import annotations

import pytest

from churn_assets.defs import metadata, plots

PICTURES = {
    "missing values": lambda: plots.missing_values({"a": 0.1, "b": 0.0}, 0.2),
    "no missing values": lambda: plots.missing_values({}, None),
    "counts": lambda: plots.counts({"null: custid": 20, "bounds: esent": 3}, "rejected", "rows"),
    "precision": lambda: plots.precision_recall({"boosted": ([0.1, 1.0], [1.0, 0.2])}, 0.2, "candidates"),
    "calibration": lambda: plots.calibration([0.1, 0.9], [0.2, 0.8], "chosen"),
    "profit": lambda: plots.profit([0.1, 1.0], [5.0, -2.0], [4.0, -3.0], [6.0, -1.0], 0.3),
    "tornado": lambda: plots.tornado({"offer cost": (1.0, 3.0), "save rate": (0.0, 4.0)}, 2.0, "assumptions"),
    "columns": lambda: plots.columns({"low": 5, "high": 0}, "bands"),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_a_png_and_the_same_twice(draw):
    png = draw()
    assert png.startswith(b"\x89PNG")
    assert len(png) < 60_000  # it lies in the event log of every run
    assert draw() == png


def test_a_picture_is_shown_in_place():
    shown = metadata.image(b"\x89PNG", "words").value
    assert shown.startswith("![words](data:image/png;base64,")


def test_a_table_shows_missing_cells_and_escapes_bars():
    shown = metadata.table([{"a": 1, "b": None}, {"a": 0.12345, "b": "x|y\nz"}]).value
    assert shown.splitlines() == ["| a | b |", "| --- | --- |", "| 1 |  |", "| 0.1235 | x\\|y z |"]
    assert metadata.table([]).value == "none"


def test_only_finite_numbers_are_reported_as_numbers():
    found = metadata.numbers({"a": 1, "b": 0.5, "c": float("nan"), "d": "no", "e": True})
    assert {name: value.value for name, value in found.items()} == {"a": 1, "b": 0.5}

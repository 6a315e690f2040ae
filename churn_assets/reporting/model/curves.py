"""The curves of test rows, both splits in one drawing each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from churn_assets.html.drawing import Axis, Line, lines, percent
from churn_assets.html.markup import Markup

Facts = Mapping[str, Any]

SIDES = (("test", "random split", "a"), ("oot", "out of time", "b"))
UNIT = Axis("", 0.0, 1.0, lambda value: f"{value:g}", (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


def drawings(facts: Facts) -> dict[str, Markup]:
    """The curves by name, without their boxes: for Dagster and MLflow."""
    made = {"precision_recall": pr_chart, "roc": roc_chart, "gains": gains_chart, "calibration": calibration_chart}
    return {name: draw(facts) for name, draw in made.items()}


def pr_chart(facts: Facts) -> Markup:
    """Precision over recall."""
    drawn = []
    for side, words, style in _there(facts):
        curve = facts["sides"][side]["curves"]
        drawn.append(Line(words, curve["pr"], style))
        base = curve["base_rate"]
        drawn.append(Line(f"random list, {words}", [(0.0, base), (1.0, base)], style, dashed=True))
    return lines("Precision over recall", _axis("recall: churners found"), _axis("precision: of those named"), drawn)


def roc_chart(facts: Facts) -> Markup:
    """Churners found over kept customers named."""
    drawn = [Line(words, facts["sides"][side]["curves"]["roc"], style) for side, words, style in _there(facts)]
    drawn.append(Line("random list", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True))
    return lines("ROC curve", _axis("kept customers named"), _axis("churners found"), drawn)


def gains_chart(facts: Facts) -> Markup:
    """Churners found over customers contacted."""
    drawn = [Line(words, facts["sides"][side]["curves"]["gains"], style) for side, words, style in _there(facts)]
    drawn.append(Line("random list", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True))
    x = Axis("customers contacted, riskiest first", 0.0, 1.0, percent, UNIT.ticks)
    return lines("Cumulative gains", x, Axis("churners found", 0.0, 1.0, percent, UNIT.ticks), drawn)


def calibration_chart(facts: Facts) -> Markup:
    """What came over what was predicted."""
    drawn = [Line("perfect", [(0.0, 0.0), (1.0, 1.0)], "base", dashed=True)]
    for side, words, style in _there(facts):
        bins = facts["sides"][side]["curves"]["calibration"]
        points = [(b["predicted"], b["observed"]) for b in bins]
        band = [(b["predicted"], b["low"], b["high"]) for b in bins]
        drawn.append(Line(words, points, style, dots=True, band=band))
    return lines("Calibration", _axis("predicted probability"), _axis("churned share"), drawn)


def _there(facts: Facts) -> list[tuple[str, str, str]]:
    return [side for side in SIDES if side[0] in facts["sides"]]


def _axis(words: str) -> Axis:
    return Axis(words, UNIT.low, UNIT.high, UNIT.form, UNIT.ticks)

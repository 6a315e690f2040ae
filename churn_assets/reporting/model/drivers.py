"""Which features move the score, how much, and in which direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from churn_assets.html.drawing import Axis, compact, scatter
from churn_assets.html.markup import Markup, card, el, grid, number, section
from churn_assets.html.tracks import Mark, bar_rows

Facts = Mapping[str, Any]
SHOWN = 15


def drivers_section(facts: Facts) -> Markup:
    """Global importance, then a drawing for each of the first features."""
    found = facts["importance"]
    words = facts["words"]
    shapley = found["method"] == "shapley"
    first = found["features"][:SHOWN]
    rows = [(row["feature"], words.get(row["feature"], ""), [Mark(row["value"])]) for row in first]
    lead = "What moves a score is not what causes churn: the model repeats what goes together in the table."
    more = len(found["features"]) - len(first)
    note = [found["words"], " Of ", number(found["sample_rows"], ","), " test customers of the random split."]
    if more:
        note.append(f" {more} weaker features are in feature_importance.json.")
    bars = card(f"Importance, in {found['unit']}", bar_rows(rows, ".3f" if shapley else ".4f"), note=note)
    top = max((abs(y) for d in found["dependence"] for _, y in [*d.get("dots", []), *d.get("trend", [])]), default=1.0)
    charts = [_dependence(d, words, top, shapley) for d in found["dependence"]]
    told = (
        "Each dot is a test customer: the feature's value, and how far it moves that customer's log-odds of churn; the "
        "orange line is the mean. One scale for all drawings."
        if shapley
        else "Partial dependence: the mean log-odds of churn if everybody had this value, less that of the "
        "values as they are."
    )
    return section("drivers", "What drives the score", bars, el("p", told, class_="lead"), grid(charts), lead=lead)


def _dependence(found: Mapping[str, Any], words: Mapping[str, str], top: float, shapley: bool) -> Markup:
    name = found["feature"]
    missing = found["missing"]
    note: list[object] = [words.get(name) or name, "."]
    if missing is not None:
        note += [" Not known: ", number(missing, "+.2f"), "."]
    if found["kind"] == "category":
        return card(name, _levels(found["levels"]), note=note)
    drawn: Sequence[Any] = [*found["dots"], *found["trend"]]
    if not drawn:
        return card(name, el("p", "Never known among these customers."), note=note)
    x = Axis(name, min(x for x, _ in drawn), max(x for x, _ in drawn), compact)
    y = Axis("moves the log-odds by" if shapley else "log-odds, difference", -top, top)
    return card(name, scatter(f"Dependence on {name}", x, y, found["dots"], found["trend"]), note=note)


def _levels(levels: Sequence[Mapping[str, Any]]) -> Markup:
    rows: list[tuple[object, object, Sequence[Mark]]] = []
    for level in levels:
        value = level["value"]
        style = "churned" if (value or 0.0) > 0 else "kept"
        rows.append((level["level"], [number(level["rows"], ","), " customers"], [Mark(value, style=style)]))
    return bar_rows(rows, "+.3f")

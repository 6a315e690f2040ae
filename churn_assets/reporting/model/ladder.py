"""The honest-number ladder: the headline, then the same under weaker assumptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from churn_assets.html.drawing import key
from churn_assets.html.markup import Markup, absent, card, el, number, section, table
from churn_assets.html.tracks import Mark, interval_rows

Facts = Mapping[str, Any]

LEAD = (
    "One recipe under weaker and weaker assumptions. PR-AUC is the area under precision over recall, churn positive; "
    "the thin upright line is what a random list reaches, the pale bar the 95 % interval over test customers."
)
KEY = (("random split", "a"), ("out of time: newest customers", "b"))
SHOWN_COLUMNS = 8
STYLES = {"random": "a", "out_of_time": "b"}


def ladder_section(facts: Facts) -> Markup:
    """The audit's rungs; without an audit the two rungs that every training has."""
    audit = facts["ladder"]
    title = "The honest-number ladder"
    if audit is None:
        why = "Without it nobody can say how much of the headline is a consequence of churn. Make it: churn audit."
        rungs = card(
            "Everything the model knows", key(_keys(facts["sides"])), interval_rows(_own_rungs(facts), 0.0, 1.0)
        )
        missing = absent("the rungs without suspect columns, single columns and bands of age", why)
        return section("ladder", title, rungs, missing, _suspects(facts), lead=LEAD)
    climbed: list[tuple[object, object, Sequence[Mark]]] = [
        (rung["words"], _left_out(rung), _marks(rung)) for rung in audit["rungs"]
    ]
    note = f"Fitted anew at each rung, so that the first differs a little from the model itself: {audit['recipe']}."
    parts = [
        card("Rung by rung", key(KEY), interval_rows(climbed, 0.0, 1.0), note=note),
        _bands(audit["bands"]),
        _columns(audit["columns"]),
        _findings(audit["findings"], {row["column"] for row in facts["suspects"]}),
    ]
    return section("ladder", title, parts, _suspects(facts), lead=LEAD)


def _own_rungs(facts: Facts) -> list[tuple[object, object, Sequence[Mark]]]:
    marks = []
    for side, style in (("test", "a"), ("oot", "b")):
        if side in facts["sides"]:
            found = facts["sides"][side]
            pr_auc = found["metrics"]["pr_auc"]
            marks.append(Mark(pr_auc["value"], pr_auc["low"], pr_auc["high"], style, found["curves"]["base_rate"]))
    return [("everything", "the chosen model itself", marks)]


def _keys(sides: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [entry for entry, side in zip(KEY, ("test", "oot"), strict=True) if side in sides]


def _left_out(rung: Mapping[str, Any]) -> str:
    count = len(rung["left_out"])
    return (
        f"{count} column{'s' * (count != 1)} and every feature made of {'them' if count != 1 else 'it'}"
        if count
        else ""
    )


def _marks(found: Mapping[str, Any]) -> list[Mark]:
    return [
        Mark(figure["pr_auc"], figure["low"], figure["high"], style, figure["base_rate"])
        for split, style in STYLES.items()
        if (figure := found.get(split)) is not None
    ]


def _bands(bands: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not bands:
        return None
    rows: list[tuple[object, object, Sequence[Mark]]] = []
    few = []
    for band in bands:
        small = [number(band["rows"], ","), " customers, ", number(band["churners"], ","), " churned"]
        if band.get("pr_auc") is None:
            few.append(band["words"])
            small.append(": too few to say")
        at = Mark(band.get("pr_auc"), band.get("low"), band.get("high"), "a", band.get("base_rate"))
        rows.append((band["words"], small, [at]))
    note = "All customers by their age, each scored by a model that has not seen them (5 folds); the full recipe."
    return card("By age of the customer", interval_rows(rows, 0.0, 1.0), note=note)


def _columns(columns: Mapping[str, Any]) -> Markup | None:
    alone = {name: found for name, found in columns.items() if found.get("alone")}
    best = sorted(alone, key=lambda name: -alone[name]["alone"]["random"]["pr_auc"])[:SHOWN_COLUMNS]
    if not best:
        return None
    rows: list[tuple[object, object, Sequence[Mark]]] = []
    for name in best:
        loss = alone[name].get("headline_loss_when_removed")
        small = [number(loss, ".0%"), " of the model's worth goes with it"] if loss is not None else None
        rows.append((name, small, _marks(alone[name]["alone"])))
    more = len(alone) - len(best)
    note = f"The {len(best)} strongest columns, each with its own features and nothing else." + (
        f" {more} more are in metrics.json." if more else ""
    )
    return card("Each column alone", key(KEY), interval_rows(rows, 0.0, 1.0), note=note)


def _findings(findings: Sequence[Mapping[str, Any]], told_below: set[str]) -> Markup:
    if not findings:
        return card("Columns over the contract's limits", el("p", "None."))
    rows = []
    for finding in findings:
        tag = el("span", "attested", class_="tag good") if finding["attested"] else el("span", "open", class_="tag bad")
        vouched = "" if finding["column"] in told_below else finding["attested"]
        rows.append([[el("b", finding["column"]), tag], [finding["words"], el("span", vouched, class_="doc")]])
    note = "A column over a limit must be attested in the contract, or the model is not registered as champion."
    return card(
        "Columns over the contract's limits", table(["column", "what was found; who vouches for it"], rows), note=note
    )


def _suspects(facts: Facts) -> Markup | None:
    if not facts["suspects"]:
        return None
    rows = [
        [el("b", row["column"]), row["why"], row["attested"] or el("span", "nobody", class_="tag bad")]
        for row in facts["suspects"]
    ]
    return card("Columns the contract suspects", table(["column", "why", "who attests that it is known before"], rows))

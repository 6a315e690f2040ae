"""The profile as one self-contained HTML page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from churn_assets.data.profile import FAR
from churn_assets.html.drawing import Axis, Line, compact, histogram, key, lines, percent
from churn_assets.html.markup import Markup, card, el, grid, number, page, section, table
from churn_assets.html.tracks import Mark, bar_rows, interval_rows

Profile = Mapping[str, Any]


def render_profile(found: Profile) -> str:
    """The page of `profile.profile`."""
    sections: list[tuple[str, str, Markup | None]] = [
        ("strength", "Against the label", _strength(found)),
        ("missing", "Missing", _missing(found)),
        ("columns", "Columns", _columns(found)),
        ("cohorts", "Over time", _cohorts(found)),
        ("repairs", "Repairs", _validation(found)),
    ]
    return page(
        f"{found['title']}: data profile", _header(found), [(a, words, made) for a, words, made in sections if made]
    )


def _header(found: Profile) -> list[Markup]:
    chips = [
        ("source", found["source"]),
        ("as of", found["as_of"]),
        ("customers", number(found["rows"], ",")),
        ("churned", number(found["churn_rate"], ".1%")),
        ("rows that repeat another, id apart", number(found["repeated_rows"], ",")),
    ]
    parts = [
        el("p", "Data profile", class_="kicker"),
        el("h1", found["title"]),
        el("p", f"Validated customers under contract '{found['contract']['name']}'. Every row, label included: ",
           "for looking, not for choosing a model by.", class_="sub"),
        el("div", [el("span", f"{name} ", el("b", value), class_="fact") for name, value in chips]),
    ]  # fmt: skip
    if found["generated"]:
        told = "Every figure on this page describes a simulation."
        parts.append(el("div", el("b", "These customers are generated, not real."), told, class_="banner generated"))
    return parts


def _strength(found: Profile) -> Markup:
    lead = (
        "ROC AUC of each number alone: the chance that a churner's value is above a kept customer's. One half "
        "says nothing, near 0 or 1 says much, and may be said after the fact."
    )
    ranked = [c for c in found["columns"] if c.get("roc_auc") is not None]
    ranked.sort(key=lambda c: -abs(c["roc_auc"] - 0.5))
    rows: list[tuple[object, object, Sequence[Mark]]] = [
        (_named(c), [c["doc"], el("br"), _rank_correlation(c["roc_auc"])], [Mark(c["roc_auc"], at=0.5)]) for c in ranked
    ]
    boxes = [
        card("Numbers, dates and yes/no columns", interval_rows(rows, 0.0, 1.0), note="The upright line is one half.")
    ]
    categories = [c for c in found["columns"] if c.get("association") is not None]
    if categories:
        marks: list[tuple[object, object, Sequence[Mark]]] = [
            (_named(c), c["doc"], [Mark(c["association"])]) for c in sorted(categories, key=lambda c: -c["association"])
        ]
        note = "Cramer's V, corrected for bias: 0 is no association, 1 is one that tells the label."
        boxes.append(card("Categories", interval_rows(marks, 0.0, 1.0), note=note))
    return section("strength", "How each column goes with the label", boxes, lead=lead)


def _rank_correlation(roc_auc: float) -> list[object]:
    return ["rank correlation ", f"{2 * roc_auc - 1:+.2f}"]


def _missing(found: Profile) -> Markup:
    gone = [c for c in found["columns"] if c["missing"]]
    title = "Missing values"
    if not gone:
        return section("missing", title, card("", el("p", "No value is missing in any kept column.")))
    rows = [
        [
            _named(c),
            number(c["missing"], ","),
            number(c["missing_share"], ".2%"),
            number(c["missing_share_churned"], ".2%"),
            number(c["missing_share_kept"], ".2%"),
            number(c["churn_rate_if_missing"], ".1%"),
        ]
        for c in sorted(gone, key=lambda c: -c["missing"])
    ]
    head = ["column", "missing", "share", "of the churned", "of the kept", "churned if missing"]
    lead = "A share that differs by label says something about churn, or about how the table was made."
    return section("missing", title, card("", table(head, rows, range(1, 6))), lead=lead)


def _columns(found: Profile) -> Markup:
    lead = "Red: churned, blue: kept. Histograms show the middle 99 %; what lies beyond is in the outermost bars."
    colours = key([("churned", "churned"), ("kept", "kept")])
    return section("columns", "Each column", colours, grid(*[_column(c, found) for c in found["columns"]]), lead=lead)


def _column(c: Mapping[str, Any], found: Profile) -> Markup:
    title = f"{c['name']}, {c['kind']}"
    if c.get("histogram"):
        shown = _form(c["kind"])
        drawn = c["histogram"]
        ends = drawn["edges"]
        x = Axis(c["unit"] or c["name"], ends[0], ends[-1], _axis_form(c["kind"]), _ticks(c["kind"], ends))
        return card(title, histogram(c["name"], x, drawn["edges"], drawn["kept"], drawn["churned"]), _facts(c, shown),
                    note=_odd_words(c, shown))  # fmt: skip
    if "levels" in c:
        rows: list[tuple[object, object, Sequence[Mark]]] = [
            (level["level"], [number(level["rows"], ","), " customers"], [Mark(level["churn_rate"], style="churned")])
            for level in c["levels"]
            if level["rows"]
        ]
        more = f" {c['levels_not_shown']} rarer values are not shown." if c["levels_not_shown"] else ""
        note = ["Churned share of each value; of all customers ", number(found["churn_rate"], ".1%"), f".{more}"]
        return card(title, bar_rows(rows, ".1%"), note=note)
    return card(title, el("p", number(c["distinct"], ","), " distinct values; not drawn."), note=c["doc"])


def _facts(c: Mapping[str, Any], shown: Callable[[float], str]) -> Markup:
    q = c["quantiles"]
    pairs = [
        ("range", f"{shown(q['low'])} to {shown(q['high'])}"),
        ("middle half", f"{shown(q['first'])} to {shown(q['third'])}, median {shown(q['median'])}"),
        ("mean", f"churned {_or_none(c['mean_churned'], shown)}, kept {_or_none(c['mean_kept'], shown)}"),
        ("distinct", number(c["distinct"], ",")),
    ]
    return el("dl", [[el("dt", name), el("dd", value)] for name, value in pairs])


def _odd_words(c: Mapping[str, Any], shown: Callable[[float], str]) -> list[object] | str:
    odd, words = c["odd"], []
    if odd["spike"]:
        words.append(f"{odd['spike']['rows']:,} customers on one value, {shown(odd['spike']['value'])}")
    if odd["far_out"]:
        between = f"from {shown(odd['far_low'])} to {shown(odd['far_high'])}"
        words.append(f"{odd['far_out']:,} beyond {FAR:g} interquartile ranges, {between}")
    if odd["zeros"] and c["kind"] != "date":
        words.append(f"{odd['zeros']:,} zeros")
    if odd["negative"] and c["kind"] != "date":
        words.append(f"{odd['negative']:,} negative")
    return [c["doc"], " Odd: " + "; ".join(words) + "." if words else " Nothing odd."]


def _cohorts(found: Profile) -> Markup | None:
    cohort = found["cohort"]
    if cohort is None:
        return None
    parts = cohort["parts"]
    points = [((part["from"] + part["to"]) / 2, part["churn_rate"]) for part in parts]
    top = max(0.05, *(rate for _, rate in points))
    low, high = parts[0]["from"], parts[-1]["to"]
    x = Axis(cohort["column"], low, high, _axis_form(cohort["kind"]), _ticks(cohort["kind"], [low, high]))
    level = [(low, found["churn_rate"]), (high, found["churn_rate"])]
    drawn = [Line("churned share", points, "churned", dots=True), Line("all", level, "base", dashed=True)]
    chart = lines("Churned share by cohort", x, Axis("churned share", 0.0, top, percent), drawn)
    note = "Cohorts of equal size; dashed: all customers. Where the curve falls to nothing, time has not passed yet."
    box = card(f"By '{cohort['column']}'", el("div", chart, style="max-width:34rem"), note=note)
    return section("cohorts", "Churn by cohort", box)


def _validation(found: Profile) -> Markup:
    checked = found["validation"]
    title = "Repairs, rejections, counted warnings"
    if checked is None:
        return section(
            "repairs", title, el("p", "The table does not carry the figures of its validation.", class_="absent")
        )
    rows = [["mended", r["repair"], number(r["rows"], ","), r["words"]] for r in checked["repairs"]]
    rows += [
        [c["what happens"], f"{c['reason']} ({c['column']})", number(c["rows"], ","), c["example"]]
        for c in checked["causes"]
    ]
    lead = [number(checked["rows_in"], ","), " rows in, ", number(checked["rows_rejected"], ","), " rejected."]
    return section(
        "repairs", title, card("", table(["", "what", "rows", "in words, or an example"], rows, (2,))), lead=lead
    )


def _named(c: Mapping[str, Any]) -> list[object]:
    return [c["name"], el("span", "suspect", class_="tag warn", title=c["suspect"]) if c["suspect"] else None]


def _form(kind: str) -> Callable[[float], str]:
    return _day if kind == "date" else _plain


def _axis_form(kind: str) -> Callable[[float], str]:
    return _day if kind == "date" else compact


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _day(value: float) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=round(value))).isoformat()


def _ticks(kind: str, edges: Sequence[float]) -> tuple[float, ...]:
    if kind != "date":
        return ()
    return tuple(edges[0] + share * (edges[-1] - edges[0]) for share in (0.08, 0.36, 0.64, 0.92))


def _or_none(value: float | None, shown: Callable[[float], str]) -> str:
    return "not known" if value is None else shown(value)

"""What the list earns under the contract's values, and which assumption that hangs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from churn_assets.html.drawing import Axis, Line, compact, lines, percent
from churn_assets.html.markup import Markup, absent, card, el, grid, number, section, table
from churn_assets.reporting.model.curves import SIDES

Facts = Mapping[str, Any]
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def money_section(facts: Facts) -> Markup:
    """The profit curve of both splits; sensitivity and list sizes where the run has made them."""
    value, profit = facts["value"], facts["profit"]
    lead = [
        "A kept customer is worth ",
        number(value["customer_value"], ",g"),
        ", an offer costs ",
        number(value["offer_cost"], ",g"),
        " and saves ",
        number(value["save_rate"], ".0%"),
        " of the churners it reaches. These are the contract's assumptions; no table can measure them.",
    ]
    if profit is None:
        missing = absent("sensitivity to the assumptions, list sizes with intervals")
        boxes = grid(_curve(facts), card("What matters most", missing))
    else:
        boxes = grid(_curve(facts), _tornado(profit), _sizes(profit))
    said = el("p", profit["words"], class_="say") if profit else None
    return section("money", "Money: whom it pays to contact", said, boxes, lead=lead)


def _curve(facts: Facts) -> Markup:
    drawn, values = [], [0.0]
    for side, words, style in SIDES:
        if side in facts["sides"]:
            curve = facts["sides"][side]["curves"]["profit"]
            values += [v for _, _, low, high in curve for v in (low, high)]
            band = [(share, low, high) for share, _, low, high in curve]
            drawn.append(Line(words, [(share, earned) for share, earned, _, _ in curve], style, band=band))
    drawn.append(Line("nothing earned", [(0.0, 0.0), (1.0, 0.0)], "base", dashed=True))
    named = facts["sides"]["test"]["confusion"]
    rows = facts["sides"]["test"]["rows"]
    share = (named["true_positives"] + named["false_positives"]) / rows
    x = Axis("customers contacted, riskiest first", 0.0, 1.0, percent, SHARES)
    chart = lines("Profit", x, Axis("earned per customer", min(values), max(values), compact), drawn, marks=[share])
    note = (
        "Per customer of the table, in the contract's currency, with 95 % intervals; the upright line is the chosen "
        "threshold on the random split. Past the top each further offer costs more than it brings."
    )
    return card("Profit by length of the list", chart, note=note)


def _tornado(profit: Mapping[str, Any]) -> Markup:
    rows = [
        [
            row["assumption"].replace("_", " "),
            _between(row["from"], row["to"], ",.4g"),
            _between(row["profit_low"], row["profit_high"], ",.2f"),
        ]
        for row in profit["tornado"]
    ]
    note = "One assumption at a time, the list staying as it is; the largest swing first."
    return card("What matters most", table(["assumption", "varied", "earned per customer"], rows, (1, 2)), note=note)


def _sizes(profit: Mapping[str, Any]) -> Markup:
    rows = [
        [
            number(row["contacted_share"], ".1%"),
            number(row["profit"], ",.2f"),
            _between(row["low"], row["high"], ",.2f"),
        ]
        for row in profit["list_sizes"]
    ]
    return card("By length of the list", table(["contacted", "earned per customer", "95 %"], rows, (0, 1, 2)))


def _between(low: float | None, high: float | None, form: str) -> object:
    return "" if low is None else [number(low, form), " \N{EN DASH} ", number(high, form)]

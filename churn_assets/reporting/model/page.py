"""The report as one self-contained HTML page, made of the facts and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from churn_assets.html.markup import Markup, el, estimate, number, page
from churn_assets.reporting.model.background import data_section, limits_section, origin_section
from churn_assets.reporting.model.candidates import candidates_section
from churn_assets.reporting.model.drivers import drivers_section
from churn_assets.reporting.model.ladder import ladder_section
from churn_assets.reporting.model.money import money_section
from churn_assets.reporting.model.performance import metrics_section, performance_section
from churn_assets.reporting.model.segments import segments_section

Facts = Mapping[str, Any]

SECTIONS = (
    ("ladder", "The ladder", ladder_section),
    ("performance", "How well it ranks", performance_section),
    ("figures", "Every figure", metrics_section),
    ("segments", "Segments", segments_section),
    ("drivers", "What drives it", drivers_section),
    ("money", "Money", money_section),
    ("candidates", "Candidates", candidates_section),
    ("data", "Data", data_section),
    ("limits", "Limits", limits_section),
    ("origin", "Origin", origin_section),
)


def render_report(facts: Facts) -> str:
    """The page of `facts.collect`. What a run has not made is said in its place."""
    contents = [("short", "In short", _in_short(facts))]
    contents += [(anchor, words, make(facts)) for anchor, words, make in SECTIONS]
    return page(f"{facts['model']['title']}: churn model report", _header(facts), contents)


def _header(facts: Facts) -> list[Markup]:
    model, data = facts["model"], facts["data"]
    chips = [
        ("source", data["source"]),
        ("as of", data["as_of"]),
        ("customers", number(data["rows"], ",")),
        ("churned", number(data["churn_rate"], ".1%")),
        ("model", model["chosen"]),
        ("version", model["version"]),
    ]
    found = [
        el("p", "Churn model report", class_="kicker"),
        el("h1", model["title"]),
        el("p", f"The chosen model is '{model['chosen']}': {model['reason']}.", class_="sub"),
        el("div", [el("span", f"{name} ", el("b", value), class_="fact") for name, value in chips]),
    ]
    if data["generated"]:
        found.append(
            el(
                "div",
                el("b", "These customers are generated, not real."),
                "Every figure on this page describes a simulation and says nothing about anybody's customers.",
                class_="banner generated",
                role="note",
            )
        )
    return found


def _in_short(facts: Facts) -> Markup:
    sides = facts["sides"]
    drawn = sides["test"]["metrics"]
    tiles = [_tile("PR-AUC on customers drawn at random", drawn["pr_auc"], ".3f", "a", sides["test"])]
    if "oot" in sides:
        words = "PR-AUC on the newest customers, unseen in training"
        tiles.append(_tile(words, sides["oot"]["metrics"]["pr_auc"], ".3f", "b", sides["oot"]))
    else:
        tiles.append(
            el("div", el("b", "\N{EM DASH}"), el("span", "newest customers: no cohorts to tell"), class_="tile")
        )
    tiles.append(_tile("of the churners are found at the chosen threshold", drawn["recall"], ".0%", "", None))
    tiles.append(_tile("of those it names have churned", drawn["precision"], ".0%", "", None))
    audit, profit = facts["ladder"], facts["profit"]
    said = list(audit["sentences"]) if audit else [_without_audit(facts)]
    said += [profit["words"]] if profit else []
    return el(
        "section",
        el("h2", "In short"),
        el("div", tiles, class_="tiles"),
        [el("p", words, class_="say") for words in said],
        id="short",
    )


def _tile(words: str, found: Mapping[str, float], form: str, style: str, side: Mapping[str, Any] | None) -> Markup:
    between = el("span", "95 %: ", number(found["low"], form), " \N{EN DASH} ", number(found["high"], form))
    rate = side["curves"]["base_rate"] if side else None
    base = el("span", "a random list: ", number(rate, ".3f")) if side else None
    return el("div", el("b", number(found["value"], form)), el("span", words), between, base, class_=f"tile {style}")


def _without_audit(facts: Facts) -> list[object]:
    sides = facts["sides"]
    words: list[object] = [
        "Of customers drawn at random the model ranks churners with PR-AUC ",
        estimate(sides["test"]["metrics"]["pr_auc"]),
        " (1 is perfect)",
    ]
    if "oot" in sides:
        words += ["; of the newest ones with ", estimate(sides["oot"]["metrics"]["pr_auc"])]
    return [*words, ". How much of that hangs on single columns was not computed in this run."]

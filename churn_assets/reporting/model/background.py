"""Where the rows came from, what was mended and refused, what the model is not for, and its origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from churn_assets.html.markup import Markup, absent, card, el, number, section, table

Facts = Mapping[str, Any]


def data_section(facts: Facts) -> Markup:
    """Rows in and out, repairs, causes of rejection, and the parts of each split."""
    found = facts["validation"]
    if found is None:
        told = [absent("the figures of the validation", "The validated table does not carry them.")]
    else:
        told = [validation_cards(found)]
    rows = [
        [split.replace("_", " "), part, number(part_found["rows"], ","), number(part_found["churn_rate"], ".1%")]
        for split, parts in facts["data"]["parts"].items()
        for part, part_found in parts.items()
    ]
    parts = card("Parts of each split", table(["split", "part", "customers", "churned"], rows, (2, 3)))
    label = facts["data"]["label"]
    lead = f"The label is '{label['column']}': {label['meaning']}"
    return section("data", "Data: what came in, what was mended, what was refused", told, parts, lead=lead)


def validation_cards(found: Mapping[str, Any]) -> Markup:
    """Rows, repairs and causes from the validated table's own metadata."""
    rejected = [number(found["rows_rejected"], ","), " ", el("small", number(found["rejected_share"], ".2%"))]
    rows: list[tuple[str, object]] = [
        ("rows in", number(found["rows_in"], ",")),
        ("rows kept", number(found["rows_valid"], ",")),
        ("rows rejected", rejected),
        ("ids that repeat", number(found["duplicate_ids"], ",")),
        ("of these with labels that disagree", number(found["conflicting_ids"], ",")),
        ("snapshot", [found["as_of"], el("small", " ", found["as_of_words"])]),
    ]
    repairs = [
        [el("b", r["repair"]), number(r["rows"], ","), number(r["cells"], ","), r["words"]] for r in found["repairs"]
    ]
    causes = [
        [[c["reason"], el("span", c["what happens"], class_="tag bad" if c["what happens"] == "rejected" else "tag")],
         c["column"], number(c["rows"], ","), el("small", c["example"])]
        for c in found["causes"]
    ]  # fmt: skip
    mended = table(["repair", "rows", "cells", "what was done"], repairs, (1, 2)) if repairs else "None declared."
    refused = table(["reason", "column", "rows", "example"], causes, (2,)) if causes else "No row breaks the contract."
    note = "A row may have several reasons. Rejected rows are kept, as found, in rejected_customers; counted ones stay."
    return el(
        "div",
        card("Rows", el("dl", [[el("dt", name), el("dd", value)] for name, value in rows])),
        card("Repairs, by name, as the contract declares them", mended),
        card("Rows that break the contract", refused, note=note),
    )


def limits_section(facts: Facts) -> Markup:
    """What the model must not be used for."""
    items = [el("li", el("b", limit["title"]), ". ", limit["words"]) for limit in facts["limits"]]
    lead = (
        "What it may be used for: ranking customers of this contract for a retention offer, within what is said here."
    )
    return section("limits", "What it must not be used for", card("", el("ul", items, class_="plain")), lead=lead)


def origin_section(facts: Facts) -> Markup:
    """Versions, runs, hashes, parameters."""
    model, origin = facts["model"], facts["provenance"]
    told = {
        "bundle version": model["version"],
        "contract": f"{model['contract']}, fingerprint {model['fingerprint']}",
        "data": origin.get("data_sha256"),
        "code": origin.get("git_commit"),
        "made at": origin.get("made_at"),
        "Dagster run": origin.get("dagster_run_id"),
        "MLflow run": origin.get("mlflow_run_id"),
        "seed": model["seed"],
        "Python": origin.get("python"),
        "libraries": ", ".join(f"{name} {version}" for name, version in (origin.get("libraries") or {}).items()),
        "features": ", ".join(model["features"]),
    }
    rows = [[el("dt", name), el("dd", el("code", str(value)))] for name, value in told.items() if value]
    params = [
        el("details", el("summary", f"Parameters of {name}"), el("dl", [
            [el("dt", key), el("dd", el("code", str(value)))] for key, value in found["params"].items()
        ]))
        for name, found in facts["candidates"].items()
    ]  # fmt: skip
    return section("origin", "Where it came from", card("", el("dl", rows)), card("Parameters", params))

"""The model card: what a person has to know before using a model, on one page; the same for page and Markdown.

Sections and their order are those of Mitchell et al., "Model Cards for Model Reporting" (2019), short.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from churn_assets.reporting.model.facts import Estimate, Report, Segment
from churn_assets.training.split import PARTS

CARD_FEATURES = 5
CARD_METRICS = {
    **{"pr_auc": "PR-AUC", "roc_auc": "ROC AUC", "precision": "precision", "recall": "recall"},
    "ece": "calibration error",
}
# Parts of names that say something of the person, rather than of the relation to the company.
PERSONAL = {
    *("gender", "sex", "age", "senior", "birth", "birthday", "marital", "married", "partner", "spouse", "dependents"),
    *(
        "children",
        "kids",
        "race",
        "ethnic",
        "ethnicity",
        "religion",
        "nationality",
        "country",
        "geography",
        "disability",
    ),
    *("health", "education", "income", "language"),
}
# Beside 'age' any other word makes it the age of something else, such as an order.
OF_A_PERSON = {"customer", "client", "user", "member", "subscriber", "person", "holder", "employee", "guest"}
AGE_PARTS = {"age", *OF_A_PERSON, "years", "in", "at", "group", "band", "class", "range", "bin"}


@dataclass(frozen=True)
class MetricRow:
    """A metric on the test customers of each split, in the order of the report's sides."""

    name: str
    figures: tuple[Estimate, ...]


@dataclass(frozen=True)
class CardSection:
    """A heading, paragraphs, points (title, text) and metrics; each may be empty."""

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[tuple[str, str], ...] = ()
    metrics: tuple[MetricRow, ...] = ()


def model_card(report: Report, how_good: str, doubts: Sequence[str]) -> tuple[CardSection, ...]:
    """The card of a report; `how_good` and `doubts` are the sentences that the report begins with."""
    return (
        _details(report),
        CardSection(
            "Intended use",
            (
                f"Rank customers of contract '{report.model.contract}' for a retention offer, by the probability of "
                f"churn and the money that a contact is expected to bring. The label is '{report.data.label.column}': "
                f"{_sentence(report.data.label.meaning or 'the contract does not say what it means')}",
            ),
        ),
        _data(report),
        CardSection("Metrics", (how_good,), metrics=_metrics(report)),
        CardSection("Factors", _factors(report)),
        CardSection("Limits", points=(*(("", doubt) for doubt in doubts), *((r.title, r.text) for r in report.limits))),
        CardSection("Ethical considerations", _ethics(report)),
    )


def _details(report: Report) -> CardSection:
    model, origin = report.model, report.provenance
    made = f", made at {origin.made_at}" if isinstance(origin.made_at, str) else ""
    names = ", ".join(row.feature for row in report.importance.features[:CARD_FEATURES])
    return CardSection(
        "Model details",
        (
            f"{_sentence(model.chosen)} Version {model.version}{made}, under contract '{model.contract}' "
            f"({model.fingerprint[:12]}). Chosen because {model.reason}. Calibration: {report.calibration.kind}. A "
            f"customer is predicted to churn from a probability of {report.threshold.value:.3g} on, the threshold for "
            f"{report.threshold.by}.",
            f"Of {len(model.features)} features those with the largest effect are {names}.",
        ),
    )


def _data(report: Report) -> CardSection:
    data, validation = report.data, report.validation
    parts = data.parts.get("random", {})
    sizes = ", ".join(f"{parts[name].rows:,} for {name}" for name in PARTS if name in parts)
    sentences = [
        f"{data.source}, as of {data.as_of}: {data.rows:,} customers, {data.churn_rate:.1%} churned; drawn at random "
        f"{sizes}."
    ]
    if "oot" in report.sides:
        sentences.append(
            f"Out of time the newest {report.sides['oot'].rows:,} customers by '{data.cohort}' are tested, by a model "
            "of older ones."
        )
    if validation is not None:
        repaired = ", ".join(f"{repair.name} ({repair.rows:,} rows)" for repair in validation.repairs)
        sentences.append(
            f"{validation.rows_rejected:,} of {validation.rows_in:,} rows were rejected"
            f"{f', repaired: {repaired}' if repaired else ''}."
        )
    return CardSection("Data", (" ".join(sentences),))


def _metrics(report: Report) -> tuple[MetricRow, ...]:
    sides = [report.sides[name] for name in ("test", "oot") if name in report.sides]
    return tuple(MetricRow(title, tuple(side.metrics[name] for side in sides)) for name, title in CARD_METRICS.items())


def _factors(report: Report) -> tuple[str, ...]:
    """The segments in which the model ranks worst and best, and what nobody knows."""
    known = [row for row in report.segments if row.test.enough and row.test.roc_auc is not None]
    few = sum(1 for row in report.segments if row.test.rows and not row.test.enough)
    text = f"{few} segments have too few test customers for a figure." if few else ""
    if not known:
        return (text or "The table has no segments to compare.",)
    worst, best = (pick(known, key=_roc_auc) for pick in (min, max))
    return (
        f"By ROC AUC the model ranks worst among customers with {_segment(worst)} and best among those with "
        f"{_segment(best)}. {text}".strip(),
    )


def _roc_auc(row: Segment) -> float:
    return row.test.roc_auc.value if row.test.roc_auc else 0.0


def _segment(row: Segment) -> str:
    return f"{row.column} '{row.level}' ({_roc_auc(row):.2f}, {row.test.rows:,} customers)"


def _ethics(report: Report) -> tuple[str, ...]:
    personal = [name for name in report.model.features if is_personal(name)]
    names = ", ".join(f"'{name}'" for name in personal)
    about = (
        f"By their names these features describe a person, not what they did as a customer: {names}. Check that they "
        "may be used for this purpose; 'churn exclude COLUMN' leaves one out. The segments show how well each group "
        "is ranked."
        if personal
        else "No feature is named like a trait of a person, such as an age or a gender; others may stand for one."
    )
    return (
        about,
        "A wrong alarm costs an offer, a missed churner gets none; nothing else may follow from a score. A person who "
        "asks why is given the reasons of the call list, which say what the model used, not why people leave.",
    )


def is_personal(name: str) -> bool:
    """Whether a feature is named like a trait of a person.

    >>> [is_personal(name) for name in ("Customer_Age", "first_order_age_days", "MaritalStatus")]
    [True, False, True]
    """
    parts = set(_parts(name))
    return bool(parts & (PERSONAL - {"age"})) or ("age" in parts and parts <= AGE_PARTS)


def _parts(name: str) -> list[str]:
    """The words of a name, in lower case.

    >>> _parts("SeniorCitizen"), _parts("customer_age")
    (['senior', 'citizen'], ['customer', 'age'])
    """
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."

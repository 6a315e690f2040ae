"""What the model must not be used for: what follows from the contract and the figures, the gravest first."""

from __future__ import annotations

from churn_assets.contract.model import Contract
from churn_assets.reporting.model.facts import Limit, Report

MOST_SEGMENTS = 8  # named in a text


def limits(contract: Contract, report: Report) -> list[Limit]:
    """The limits of a model of `contract` with the figures of `report`."""
    return [
        *_generated(report),
        *_strong_columns(report),
        *_new_customers(report),
        Limit(
            "Not to predict when a customer leaves",
            f"The label is '{contract.label.column}': "
            f"{contract.label.meaning or 'The contract does not say what the label means.'} "
            "The probability is of that label; it has no date.",
        ),
        Limit(
            "Not for decisions about people other than a retention offer",
            "The score says which customers resemble those that left. It has not been examined as a basis for prices, "
            "credit, service levels or ending a relation.",
        ),
        Limit(
            "Not as the effect of an offer",
            "A high risk does not mean that an offer changes it. The contract assumes that an offer saves "
            f"{contract.value.save_rate:.0%} of the churners it reaches; only a test with a control group can "
            "measure that.",
        ),
        *_small_segments(report),
        Limit(
            "Not for another table",
            f"The model reads tables that conform to contract '{contract.name}'; other tables need a contract and a "
            "training of their own. A value outside the training range is scored like the nearest value in it.",
        ),
    ]


def _generated(report: Report) -> list[Limit]:
    if not report.data.generated:
        return []
    text = "It was trained on generated customers. Every figure here describes a simulation."
    return [Limit("Not for any real customer", text)]


def _strong_columns(report: Report) -> list[Limit]:
    if report.ladder is None:
        if not report.suspects:
            return []
        names = ", ".join(f"'{suspect.column}'" for suspect in report.suspects)
        text = f"The contract suspects {names}, and this run has no audit of how much the model depends on that."
        return [Limit("Not as a forecast free of consequences of churn", text)]
    columns = dict.fromkeys(finding.column for finding in report.ladder.findings)
    if not columns:
        return []
    names = ", ".join(f"'{column}'" for column in columns)
    text = (
        f"Much of the headline depends on {names}. If these values can be recorded after a customer is lost, the model "
        "detects past churn instead of predicting future churn."
    )
    return [Limit("Not as a forecast if its strongest columns are consequences of churn", text)]


def _new_customers(report: Report) -> list[Limit]:
    if "oot" not in report.sides:
        text = "The table has no cohorts, so this report cannot say how well newer customers would be ranked."
        return [Limit("Not for customers newer than the table", text)]
    random, newest = (report.sides[side].metrics["pr_auc"] for side in ("test", "oot"))
    if newest.high >= random.low:
        return []
    text = (
        f"On the newest customers by '{report.data.cohort}' PR-AUC is {newest.value:.2f}, not {random.value:.2f}: "
        "use the out-of-time figures for customers who joined recently."
    )
    return [Limit("Not with the headline figure for new customers", text)]


def _small_segments(report: Report) -> list[Limit]:
    small = [segment for segment in report.segments if segment.test.rows and not segment.test.enough]
    if not small:
        return []
    names = ", ".join(f"{segment.column} {segment.level}" for segment in small[:MOST_SEGMENTS])
    more = f" and {len(small) - MOST_SEGMENTS} more" if len(small) > MOST_SEGMENTS else ""
    text = (
        f"With fewer than {report.fewest} churned or kept test customers it is not known how well the model ranks "
        f"them: {names}{more}."
    )
    return [Limit("Not with confidence in small segments", text)]

"""What the model must not be used for: what follows from the contract and the figures, with the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from churn_assets.contract.model import Contract


def limits(contract: Contract, facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """`title` and `words` of each limit, gravest first."""
    found = [*_generated(facts), *_of_the_audit(facts), *_of_newcomers(facts), *_of_the_label(contract)]
    found += [
        {
            "title": "Not to decide about people beyond a retention offer",
            "words": "The score says who resembles customers that left. It is no ground for a price, a credit, a "
            "service level or the end of a relation, and it has not been examined for that.",
        },
        {
            "title": "Not as the effect of an offer",
            "words": "A high risk is not a person who can be won back. The contract assumes that an offer saves "
            f"{contract.value.save_rate:.0%} of the churners it reaches; only a test with a control group can tell.",
        },
        *_of_segments(facts),
        {
            "title": "Not on another table",
            "words": f"It reads tables that keep contract '{contract.name}'; other tables need a contract and a "
            "training of their own. Values outside the training range are scored like the nearest one seen.",
        },
    ]
    return found


def _generated(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    if not facts["data"]["generated"]:
        return []
    return [
        {
            "title": "Not for any real customer",
            "words": "It has learnt from generated customers. Every figure here describes a simulation.",
        }
    ]


def _of_the_audit(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    audit = facts["ladder"]
    if audit is None:
        if not facts["suspects"]:
            return []
        suspects = ", ".join(f"'{row['column']}'" for row in facts["suspects"])
        words = f"The contract suspects {suspects}, and no audit of this run says how much hangs on that."
        return [{"title": "Not as a forecast that is free of what follows churn", "words": words}]
    named = list(dict.fromkeys(finding["column"] for finding in audit["findings"]))
    if not named:
        return []
    columns = ", ".join(f"'{name}'" for name in named)
    words = (
        f"Much of the headline rests on {columns}. If what they record can happen after a customer is lost, the model "
        "finds churn that has happened rather than churn to come."
    )
    return [{"title": "Not as a forecast where its strongest columns follow churn", "words": words}]


def _of_newcomers(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    sides, cohort = facts["sides"], facts["data"]["cohort"]
    if "oot" not in sides:
        words = "The table has no cohorts, so nothing here says how newer customers would be ranked."
        return [{"title": "Not for customers newer than the table", "words": words}]
    drawn, later = (sides[side]["metrics"]["pr_auc"] for side in ("test", "oot"))
    if later["high"] >= drawn["low"]:
        return []
    return [
        {
            "title": "Not with the headline figure for new customers",
            "words": f"On the newest by '{cohort}' PR-AUC is {later['value']:.2f}, not {drawn['value']:.2f}: "
            "plan with the out-of-time column for anyone who has joined lately.",
        }
    ]


def _of_the_label(contract: Contract) -> list[dict[str, str]]:
    words = contract.label.meaning or "The contract does not say what the label means."
    return [
        {
            "title": "Not to say when somebody leaves",
            "words": f"The label is '{contract.label.column}': {words} A probability is of that, with no date in it.",
        }
    ]


def _of_segments(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    few = [row for row in facts["segments"] if row["test"]["rows"] and not row["test"]["enough"]]
    if not few:
        return []
    named = ", ".join(f"{row['column']} {row['level']}" for row in few[:8])
    more = f" and {len(few) - 8} more" if len(few) > 8 else ""
    words = (
        f"Fewer than {facts['fewest']} churned or kept test customers each, too few to say how well it ranks them: "
        f"{named}{more}."
    )
    return [{"title": "Not with confidence in small segments", "words": words}]

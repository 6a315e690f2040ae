"""What each feature adds to one customer's log-odds, checked to add up before it is answered.

The values are Shapley's (`scoring.explain` has the methods and their sources): base value + contributions = log-odds.
"""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta, Struct

from churn_assets.contract.model import Kind
from churn_assets.errors import ContributionsWrong
from churn_assets.features.compile import FeatureSpec
from churn_assets.scoring.explain import Explainer
from churn_assets.scoring.explanations.customer import Cell, Customer, ExplainedCustomer
from churn_assets.scoring.models.base import Model
from churn_assets.scoring.models.blend import BlendModel
from churn_assets.scoring.online import InputWarning

ADDITIVITY = 1e-4  # of 1 + |log-odds|: the sums of trees are in 32 bits
_METHODS = {
    "boosted": "TreeSHAP over the trees' own paths",
    "logistic": "the feature's curve minus its mean over training customers",
    "network": "sampled orders of features from background customers",
}


class Contribution(Struct, frozen=True):
    """What one model input adds to the log-odds."""

    feature: str
    topic: Annotated[str, Meta(description="The column that it counts with.")]
    value: Annotated[Cell, Meta(description="Of this customer; null is missing.")]
    contribution: Annotated[float, Meta(description="In log-odds, positive towards churn.")]


class TopicContribution(Struct, frozen=True):
    """The sum over the model inputs of one topic: a column with the features that belong to it."""

    topic: str
    contribution: float


class ReasonText(Struct, frozen=True):
    """A topic that raises the score, in the contract's words."""

    topic: str
    text: str
    contribution: float


class Explanation(ExplainedCustomer, frozen=True, kw_only=True):
    """Why a customer has this score. `base_log_odds` + the sum of the contributions = `log_odds`."""

    base_log_odds: Annotated[float, Meta(description="The model's log-odds where nothing of the customer is known.")]
    exact: Annotated[bool, Meta(description="Whether the contributions are exact; those of a network are estimates.")]
    method: str
    contributions: Annotated[list[Contribution], Meta(description="All model inputs, the largest first.")]
    topics: Annotated[list[TopicContribution], Meta(description="The same sum by topic, the largest first.")]
    reasons: Annotated[list[ReasonText], Meta(description="At most 3: what raises the score most.")]


def explain(explainer: Explainer, customer: Customer, warnings: list[InputWarning]) -> Explanation:
    """Explain a customer's score. Raises ContributionsWrong if base and contributions do not add up to the log-odds."""
    parts = explainer.contributions(customer.matrix)
    values, row = parts.values[0], customer.matrix[0]
    log_odds = customer.score.margin
    gap = parts.base + float(values.sum()) - log_odds
    if not abs(gap) <= ADDITIVITY * (1.0 + abs(log_odds)):
        raise ContributionsWrong(
            f"base value and contributions differ from the log-odds {log_odds:.6g} by {gap:.3g}, expected at most "
            f"{ADDITIVITY:g}; report it with the model's version {explainer.scorer.version}"
        )
    specs, totals = explainer.scorer.program.specs, explainer.by_topic(parts.values)[0]
    topic_of = explainer.topic_of
    contributions = [
        Contribution(spec.name, topic_of[spec.name], _shown(customer, spec, float(x)), float(value))
        for spec, x, value in zip(specs, row, values, strict=True)
    ]
    return Explanation(
        **customer.facts(warnings),
        base_log_odds=parts.base,
        exact=explainer.exact,
        method=method(explainer.scorer.model),
        contributions=sorted(contributions, key=lambda part: -abs(part.contribution)),
        topics=sorted(
            (TopicContribution(name, float(x)) for name, x in zip(explainer.topics, totals, strict=True)),
            key=lambda part: -abs(part.contribution),
        ),
        reasons=[ReasonText(r.topic, r.text, r.contribution) for r in explainer.reasons(row, values, totals)],
    )


def method(model: Model) -> str:
    """How the contributions of this model are computed."""
    if isinstance(model, BlendModel):
        kinds = dict.fromkeys(member.kind for member in model.members)
        return f"weighted sum of: {'; '.join(_METHODS[kind] for kind in kinds)}"
    return _METHODS[model.kind]


def _shown(customer: Customer, spec: FeatureSpec, number: float) -> Cell:
    """The value of a model input, to the seven digits that it has."""
    if math.isnan(number):
        return None
    if spec.choices:
        return spec.choices[int(number)]
    column = customer.scorer.scorer.contract.by_name.get(spec.name)
    if column is not None and column.kind is Kind.BOOLEAN:
        return bool(number)
    return float(f"{number:.7g}")

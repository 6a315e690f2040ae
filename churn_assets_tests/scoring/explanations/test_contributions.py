"""What /explain answers, without the service: every kind of model, and contributions that do not add up."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from churn_assets.errors import ContributionsWrong
from churn_assets.features.compile import Matrix
from churn_assets.scoring.explain import Contributions, Explainer, background
from churn_assets.scoring.explanations.contributions import explain
from churn_assets.scoring.explanations.customer import Customer
from churn_assets.scoring.online import CustomerScorer
from churn_assets_tests.scoring.tiny import AS_OF, KINDS, customers, json_rows, scorer_of, training

DAY = float((dt.date.fromisoformat(AS_OF) - dt.date(1970, 1, 1)).days)
ROWS = json_rows(customers(30, seed=4))


def explainer_of(kind: str) -> Explainer:
    scorer = scorer_of(kind)
    _, matrix, _ = training()
    return Explainer(dataclasses.replace(scorer, background=background(scorer.model, scorer.program.specs, matrix)))


@pytest.mark.parametrize("kind", KINDS)
def test_base_and_contributions_are_the_log_odds_of_the_service(kind):
    explainer = explainer_of(kind)
    scorer = CustomerScorer(explainer.scorer)
    for row in ROWS:
        told = explain(explainer, Customer.read(scorer, row, AS_OF, DAY), [])
        assert told.log_odds == scorer.score(row, DAY).margin
        for parts in (told.contributions, told.topics):
            total = told.base_log_odds + sum(part.contribution for part in parts)
            assert total == pytest.approx(told.log_odds, abs=1e-4)
        sizes = [abs(part.contribution) for part in told.contributions]
        assert sizes == sorted(sizes, reverse=True)
        values = {part.feature: part.value for part in told.contributions}
        assert (values["city"], values["paperless"], values["sent"]) == (row["city"], row["paperless"], row["sent"])
        assert all(reason.contribution > 0.0 and reason.text for reason in told.reasons)


class WrongExplainer(Explainer):
    """One whose base value is another's."""

    def contributions(self, matrix: Matrix) -> Contributions:
        right = super().contributions(matrix)
        return Contributions(right.values, right.base + 0.01)


def test_contributions_that_do_not_add_up_are_not_given():
    explainer = WrongExplainer(explainer_of("boosted").scorer)
    with pytest.raises(ContributionsWrong, match=r"by 0\.01"):
        explain(explainer, Customer.read(CustomerScorer(explainer.scorer), ROWS[0], AS_OF, DAY), [])

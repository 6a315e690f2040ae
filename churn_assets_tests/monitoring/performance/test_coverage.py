"""Labels that are no fair sample are told from those that are, and from a change of the customers."""

from __future__ import annotations

import numpy as np
import pytest

from churn_assets.monitoring.performance.coverage import Matured, describe_selection
from churn_assets_tests.monitoring.outcomes import calibrated, outcomes

ROWS = 2000


def described(has_label, seed=1, odds=1.0):
    """What is said when the rows for which `has_label` (of score, churned and draws) is true have a label; customers
    churn at `odds` times those of their scores."""
    score, _ = calibrated(ROWS, seed=seed)
    draw, chance = np.random.default_rng(seed + 1).random((2, ROWS))
    churned = chance < odds * score / (1.0 - score + odds * score)
    labelled = has_label(score, churned, draw)
    seq = np.arange(1, ROWS + 1)
    return describe_selection(Matured(seq, score), outcomes(score, churned, seq=seq).take(labelled))


@pytest.mark.parametrize("odds", [1.0, 2.5, 0.4])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_a_random_part_is_a_fair_sample_also_when_customers_change(share, odds):
    assert not any(described(lambda s, c, draw: draw < share, seed, odds) for seed in range(20))


@pytest.mark.parametrize(
    ("has_label", "says"),
    [
        (lambda s, c, draw: s > np.quantile(s, 0.7), "higher than those of the others"),
        (lambda s, c, draw: s < np.quantile(s, 0.7), "lower than those of the others"),
        (lambda s, c, draw: c, "churners seem to be reported sooner or more often"),
        (lambda s, c, draw: c | (draw < 0.3), "churners seem to be reported sooner or more often"),
        (lambda s, c, draw: ~c & (draw < 0.8), "those who stay seem to be reported more often"),
    ],
    ids=["only the top scores", "all but the top scores", "only churners", "kept ones late", "only kept ones"],
)
def test_a_selection_is_described(has_label, says):
    for seed in range(20):
        assert says in described(has_label, seed)


def test_of_few_or_complete_labels_nothing_is_said():
    assert described(lambda s, c, draw: np.arange(ROWS) < 20) == ""
    assert described(lambda s, c, draw: c | (draw < 0.9)) == ""
    assert describe_selection(Matured(np.empty(0, np.int64), np.empty(0)), outcomes(np.empty(0), np.empty(0))) == ""

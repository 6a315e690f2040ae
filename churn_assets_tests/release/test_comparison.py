"""Arms against the champion's: who came to them, and differences that may be looked at at any time."""

from __future__ import annotations

import dataclasses
import itertools

import msgspec
import numpy as np
import pytest

from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.release.analysis import analyse, describe
from churn_assets.release.comparison import compare_arms
from churn_assets.release.policy import CHALLENGER, CHAMPION, Policy, share_of
from churn_assets_tests.release.test_analysis import (
    CHALLENGER_SCORER,
    CHAMPION_SCORER,
    ROWS_OF,
    answer,
    labelled_of,
    log_with,
    policy,
)

CANARY = policy(3, "canary", 0.5, 0.5)
ONE = {arm: answer(0, ROWS_OF[0], CANARY, scorer, arm=arm) for arm, scorer in (
    (CHALLENGER, CHALLENGER_SCORER), (CHAMPION, CHAMPION_SCORER)
)}  # fmt: skip


def rows_of(arm: str, count: int, mean: float, seed: int, **changed: object) -> list:
    """Answers of an arm to as many customers, each with two rows, of which the second is far off."""
    scores = np.random.default_rng(seed).normal(mean, 0.05, count)
    rows = []
    for n, score in enumerate(scores):
        facts = {"customer_id": f"{arm}{n}", "score": float(score), "decision": bool(score > 0.5), **changed}
        rows.append(msgspec.structs.replace(ONE[arm], prediction_id=f"{arm}-{n}", **facts))
    late = [msgspec.structs.replace(row, prediction_id=f"{row.prediction_id}-2", score=0.999) for row in rows]
    return [*rows, *late]


def compared(tmp_path, rows, labelled=None):
    with open_published(log_with(tmp_path, *rows)) as connection:
        return compare_arms(connection, [CANARY], labelled), analyse(connection, [CANARY], labelled=labelled)


def test_a_difference_is_that_of_first_rows_and_an_interval_holds_it(tmp_path):
    rows = [*rows_of(CHALLENGER, 700, 0.46, 1), *rows_of(CHAMPION, 760, 0.40, 2)]
    labelled = labelled_of(rows, churned=[row.customer_id.endswith(("1", "2")) for row in rows])
    comparison, analysis = compared(tmp_path, rows, labelled)
    differences = {each.measure: each for each in comparison.differences}
    assert set(differences) == {"called", "score", "churned", "log_loss"}
    score = differences["score"]
    assert score.rows == 700
    assert score.difference == pytest.approx(0.06, abs=0.01)
    assert score.low < score.difference < score.high
    assert score.is_decided
    assert not differences["churned"].is_decided
    assert differences["called"].difference > 0.1
    (ratio,) = comparison.ratios
    assert (ratio.customers, ratio.weights) == ({CHALLENGER: 700, CHAMPION: 760}, {CHALLENGER: 0.5, CHAMPION: 0.5})
    assert not ratio.mismatch
    assert analysis.comparison == comparison
    assert any(line.startswith("challenger against the champion, mean score: +0.0") for line in describe(analysis))


def test_customers_that_do_not_come_by_the_weights_are_a_fault_and_fallbacks_are_none(tmp_path):
    skewed = [*rows_of(CHALLENGER, 300, 0.4, 1), *rows_of(CHAMPION, 600, 0.4, 2)]
    comparison, analysis = compared(tmp_path / "skewed", skewed)
    assert comparison.ratios[0].mismatch
    assert any("do not come to the arms by their weights in r000003" in line for line in describe(analysis))
    champion = rows_of(CHAMPION, 600, 0.4, 2)
    answered_instead = fallbacks(CANARY, CHALLENGER, 150)
    fair = [*rows_of(CHALLENGER, 300, 0.4, 1), *champion[150:600], *answered_instead]
    comparison, _ = compared(tmp_path / "fair", fair)
    assert not comparison.ratios[0].mismatch
    assert comparison.ratios[0].customers == {CHALLENGER: 450, CHAMPION: 450}
    assert {each.rows for each in comparison.differences} == {300}


def fallbacks(of: Policy, arm: str, count: int) -> list:
    """Rows of customers of an arm that the champion answered."""
    ids = (f"who{n}" for n in itertools.count())
    own = itertools.islice((who for who in ids if of.choose(share_of(of.salt, who)).name == arm), count)
    row = ONE[CHAMPION]
    return [
        msgspec.structs.replace(row, prediction_id=who, customer_id=who, status="fallback", policy=of.id) for who in own
    ]


def test_a_fallback_is_a_customer_of_the_arm_that_the_policy_had_chosen(tmp_path):
    """Also of one of several arms, of a customer without an id, and of one who got the arm's answer later."""
    arms = tuple(
        dataclasses.replace(CANARY.arms[0], name=name, weight=weight)
        for name, weight in (("a", 0.25), ("b", 0.25), (CHAMPION, 0.5))
    )
    three = dataclasses.replace(CANARY, id="r000004", kind="ab", arms=arms)
    rows = [msgspec.structs.replace(row, policy=three.id, arm="a") for row in rows_of(CHALLENGER, 200, 0.4, 1)]
    rows += [msgspec.structs.replace(row, policy=three.id) for row in rows_of(CHAMPION, 400, 0.4, 2)]
    instead = fallbacks(three, "b", 200)
    nameless = [msgspec.structs.replace(row, customer_id=None) for row in instead[:40]]
    later = [
        msgspec.structs.replace(row, prediction_id=f"{row.prediction_id}-2", arm="b", status="ok")
        for row in instead[40:]
    ]
    with open_published(log_with(tmp_path, *rows, *nameless, *instead[40:], *later)) as connection:
        (ratio,) = compare_arms(connection, [three]).ratios
    assert ratio.customers == {"a": 200, "b": 200, CHAMPION: 400}
    assert not ratio.mismatch


def test_a_customer_counts_once_in_all_steps_of_a_canary(tmp_path):
    """The challenger's stay in all four; some of the champion's come to the challenger in the last two."""
    steps = [
        dataclasses.replace(policy(10 + n, "canary", weight, 1 - weight), salt="same")
        for n, weight in enumerate((0.25, 0.25, 0.5, 0.5))
    ]
    customers = [f"k{n}" for n in range(1400)]
    scores = np.random.default_rng(9).normal(0.4, 0.05, 1400)
    rows = []
    for step in steps:
        for n, (who, score) in enumerate(zip(customers, scores, strict=True)):
            arm = step.choose(share_of(step.salt, who)).name
            facts = {"prediction_id": f"{step.id}-{n}", "customer_id": who, "policy": step.id}
            rows.append(msgspec.structs.replace(ONE[arm], score=float(score), **facts))
    labelled = labelled_of(rows, churned=[n % 5 == 0 for n in range(1400)] * 4)
    with open_published(log_with(tmp_path, *rows)) as connection:
        comparison = compare_arms(connection, steps, labelled)
    first = [share_of("same", who) < 0.25 for who in customers]
    assert {each.rows for each in comparison.differences} == {sum(first)}
    score = next(each for each in comparison.differences if each.measure == "score")
    own = np.array(first)
    assert score.difference == pytest.approx(scores[own].mean() - scores[~own].mean(), abs=1e-9)
    assert [sum(ratio.customers.values()) for ratio in comparison.ratios] == [1400] * 4
    assert not any(ratio.mismatch for ratio in comparison.ratios)


def test_few_customers_are_not_compared(tmp_path):
    comparison, analysis = compared(tmp_path, [*rows_of(CHALLENGER, 150, 0.5, 1), *rows_of(CHAMPION, 150, 0.4, 2)])
    assert [(each.difference, each.is_decided) for each in comparison.differences] == [(None, False)] * 2
    assert any("150 customers are too few to compare" in line for line in describe(analysis))

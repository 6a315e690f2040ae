"""An estimate without labels: right while scores are calibrated, blind where it says it is, and remembered."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pytest

from churn_assets.evaluation.bootstrap import Figure
from churn_assets.evaluation.metrics import log_loss, pr_auc, roc_auc
from churn_assets.monitoring.performance.estimated import (
    BLIND,
    HISTORY,
    PastEstimate,
    append_history,
    estimate,
    read_history,
    track_record,
)
from churn_assets.monitoring.performance.realized import RealizedPerformance, measure
from churn_assets_tests.monitoring.outcomes import calibrated, outcomes

FLOOR = 500
NOW = dt.datetime(2026, 2, 1, 8, tzinfo=dt.UTC)


def logistic(x):
    return 1.0 / (1.0 + np.exp(-x))


@pytest.mark.parametrize("middle", [-3.0, -2.0, -0.5], ids=["fewer at risk", "as trained", "more at risk"])
def test_it_is_right_when_other_customers_come(middle):
    """Covariate shift: how risk follows from the features stays, which features come does not."""
    score, churned = calibrated(20_000, seed=3, middle=middle)
    result = estimate(score, FLOOR)
    assert result.metrics.pr_auc.value == pytest.approx(pr_auc(churned, score), abs=0.02)
    assert result.metrics.roc_auc.value == pytest.approx(roc_auc(churned, score), abs=0.01)
    assert result.metrics.log_loss.value == pytest.approx(log_loss(churned, score), abs=0.01)


def test_its_interval_holds_the_labelled_figure_as_often_as_it_says():
    held = 0
    for seed in range(50):
        score, churned = calibrated(800, seed)
        result = estimate(score, FLOOR, seed)
        held += result.metrics.pr_auc.low <= pr_auc(churned, score) <= result.metrics.pr_auc.high
    assert held >= 42  # 47.5 are expected; fewer than 42 happen once in two hundred such tests


def broken_and_true():
    """A model of two features, and the score it gives when a pipeline turns the second to zeros."""
    generator = np.random.default_rng(5)
    one, two = generator.standard_normal((2, 20_000))
    churned = generator.random(20_000) < logistic(-3 + 1.5 * one + 2 * two)
    return logistic(-3 + 1.5 * one + 2 * 2.5), churned, logistic(-3 + 1.5 * one + 2 * two)


def test_it_is_blind_to_a_broken_input_and_says_so():
    score, churned, right = broken_and_true()
    result = estimate(score, FLOOR)
    assert estimate(right, FLOOR).metrics.pr_auc.value == pytest.approx(pr_auc(churned, right), abs=0.02)
    assert result.metrics.pr_auc.value > pr_auc(churned, score) + 0.3, "it promises much while the ranking is poor"
    assert result.metrics.pr_auc.low > pr_auc(churned, score)
    assert result.blind_to == BLIND
    for words in ("broken inputs", "concept drift", "Never an all-clear"):
        assert words in BLIND


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (np.empty(0), "0 customers"),
        (np.full(499, 0.2), "500 are needed"),
        (np.full(600, 0.001), "0.6 of them expected to churn"),
        (np.full(600, 0.9999), "expected to churn"),
    ],
)
def test_too_little_gives_no_figure(score, words):
    result = estimate(score, FLOOR)
    assert result.status == "insufficient"
    assert words in result.message
    assert result.metrics is None


def kept(period, estimated, at=NOW):
    return PastEstimate(period, at.isoformat(timespec="seconds"), estimated.rows, estimated.metrics, 0)


def test_the_estimate_of_a_period_is_the_one_made_first(tmp_path):
    first, other = estimate(calibrated(800)[0], FLOOR), estimate(calibrated(800, middle=-1)[0], FLOOR)
    append_history(tmp_path, [kept("0001", first)])
    later = NOW + dt.timedelta(days=9)
    history = append_history(tmp_path, [kept("0001", other, later), kept("0002", other, later)])
    assert history == read_history(tmp_path)[0]
    pr_auc = [estimated.metrics.pr_auc.value for estimated in (first, other)]
    assert [(past.period, past.metrics.pr_auc.value) for past in history] == list(
        zip(("0001", "0002"), pr_auc, strict=True)
    )
    assert history[0].made_at == "2026-02-01T08:00:00+00:00"
    assert history[0].estimate.metrics == first.metrics


@pytest.mark.parametrize("content", ["{", "{}", "[1]", "[{}]"])
def test_a_history_that_cannot_be_read_is_reported_and_left_alone(tmp_path, content):
    (tmp_path / HISTORY).write_text(content)
    result, wrong = read_history(tmp_path)
    assert result == []
    assert "restore or remove it" in wrong
    assert append_history(tmp_path, [kept("0001", estimate(calibrated(800)[0], FLOOR))]) == []
    assert (tmp_path / HISTORY).read_text() == content


def test_the_record_sets_each_estimate_beside_what_came():
    figure = Figure(0.5, 0.45, 0.55)
    estimated = dataclasses.replace(estimate(calibrated(1000)[0], FLOOR), rows=1000)
    estimated = dataclasses.replace(estimated, metrics=dataclasses.replace(estimated.metrics, pr_auc=figure))
    history = [kept(f"{n:04d}", estimated) for n in (1, 2, 3, 4)]
    labelled = measure(outcomes(*calibrated(1000)), FLOOR)
    measured = {
        "0001": with_pr_auc(labelled, 0.52, 800),
        "0002": with_pr_auc(labelled, 0.30, 1000),
        "0003": RealizedPerformance("insufficient", "too few", 20, 3, 0, 0),
    }
    result = track_record(history, measured)
    assert [(row.period, row.held) for row in result.rows] == [("0001", True), ("0002", False)]
    assert [row.error for row in result.rows] == pytest.approx([-0.02, 0.2])
    assert result.rows[0].labelled_share == 0.8
    assert result.waiting == 2
    assert result.message == (
        "of 2 past estimates 1 had the labelled PR-AUC in their interval; error +0.090 on average, +0.200 at worst; "
        "2 wait for labels"
    )
    assert "unknown" in track_record(history, {}).message


def with_pr_auc(realized, value, rows):
    metrics = dataclasses.replace(realized.metrics, pr_auc=Figure(value, value - 0.05, value + 0.05))
    return dataclasses.replace(realized, rows=rows, metrics=metrics)

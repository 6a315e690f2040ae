"""Final labels as the guardrails read them: looks that spend their level, and arms compared within a policy."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.contract.limits import Guardrails
from churn_assets.evaluation.metrics import log_loss, pr_auc
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.release import outcomes
from churn_assets.release.analysis import Pairs
from churn_assets.release.counts import ReleaseCounts
from churn_assets.release.guardrails import Period, judge_guardrails
from churn_assets.release.labels import FIRST_LOOK, Arms, figures_of_arms, figures_of_pairs, label_figures
from churn_assets.release.outcomes import MaturedRows
from churn_assets.release.policy import CHALLENGER
from churn_assets.release.replay import replay
from churn_assets.release.sequential import look_sizes
from churn_assets_tests.release.test_analysis import (
    ANSWERS,
    AT,
    CANARY,
    CHALLENGER_SCORER,
    CHAMPION_SCORER,
    ROWS_OF,
    SHADOW,
    SHADOWS,
    answer,
    churned_by,
    labelled_of,
    log_with,
)

ALPHA = 0.007
DAY = dt.datetime(2026, 12, 27)


def labels_of(churned: np.ndarray) -> pa.Table:
    """Final labels of predictions q0, q1, ... in the order in which they were settled."""
    rows = len(churned)
    return pa.table({
        "prediction_id": pa.array([f"q{n}" for n in range(rows)], pa.string()),
        "customer_id": pa.array([f"c{n}" for n in range(rows)], pa.string()),
        "label_state": pa.array(["final"] * rows, pa.string()),
        "churned": churned.astype(bool),
        "contacted": pa.array([None] * rows, pa.bool_()),
        "control": pa.array([False] * rows, pa.bool_()),
        "matures_at": pa.array([DAY] * rows, pa.timestamp("us")),
        "received_at": pa.array([DAY + dt.timedelta(minutes=n) for n in range(rows)], pa.timestamp("us")),
    })  # fmt: skip


def pairs_of(champion: np.ndarray, challenger: np.ndarray) -> Pairs:
    ids = pa.chunked_array([[f"q{n}" for n in range(len(champion))]])
    return Pairs(ids, champion, challenger, champion > 0.5, challenger > 0.5)


def truth_of(seed: int, rows: int = 1000) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """Probabilities, and who churned by them."""
    generator = np.random.default_rng(seed)
    truth = generator.beta(1, 3, rows)
    return generator, truth, generator.random(rows) < truth


def test_pairs_are_measured_on_the_labels_of_the_last_look():
    generator, truth, churned = truth_of(1)
    noisy = np.clip(truth + generator.normal(0, 0.1, len(truth)), 0.01, 0.99)
    figures = figures_of_pairs(pairs_of(truth, noisy), labels_of(churned), ALPHA)
    seen = slice(0, 4 * FIRST_LOOK)
    assert figures.rows == 1000
    expected = pr_auc(churned[seen], noisy[seen]) - pr_auc(churned[seen], truth[seen])
    assert figures.pr_auc == pytest.approx(expected, abs=1e-12)
    assert figures.log_loss == pytest.approx(log_loss(churned, noisy) - log_loss(churned, truth), abs=1e-12)
    assert figures.pr_auc_low < figures.pr_auc < figures.pr_auc_high
    assert figures.log_loss_low < figures.log_loss < figures.log_loss_high


def test_between_two_looks_the_pr_auc_stays_and_before_the_first_nothing_is_known():
    _, truth, churned = truth_of(2)
    other = truth[::-1].copy()
    pairs = pairs_of(truth, other)
    at = {rows: figures_of_pairs(pairs, labels_of(churned[:rows]), ALPHA) for rows in (50, 400, 799, 800)}
    assert (at[50].pr_auc_low, at[50].pr_auc_high) == (-1.0, 1.0)
    assert [at[400].pr_auc, at[400].pr_auc_low] == [at[799].pr_auc, at[799].pr_auc_low]
    assert at[800].pr_auc != at[400].pr_auc
    assert at[799].log_loss != at[400].log_loss
    assert figures_of_pairs(pairs, labels_of(churned[:0]), ALPHA) is None


def test_a_model_that_ranks_by_chance_crosses_both_limits_and_an_equal_one_never():
    _, truth, churned = truth_of(3)
    limits, chance = Guardrails(), np.full(len(truth), truth.mean())
    bad = figures_of_pairs(pairs_of(truth, chance), labels_of(churned), ALPHA)
    assert -bad.pr_auc_high > limits.max_pr_auc_drop
    assert bad.log_loss_low > limits.max_log_loss_rise
    crossed = 0
    for seed in range(25):
        generator, truth, churned = truth_of(100 + seed, 900)
        first, second = (np.clip(truth + generator.normal(0, 0.1, 900), 0.01, 0.99) for _ in range(2))
        looks = [figures_of_pairs(pairs_of(first, second), labels_of(churned[:n]), 0.05) for n in (200, 450, 900)]
        crossed += any(-look.pr_auc_high > 0 or look.log_loss_low > 0 for look in looks)
    assert crossed <= 3  # of 25, at a level of .05 for each of two one-sided tests


def rows_of(score: np.ndarray, churned: np.ndarray) -> MaturedRows:
    count = len(score)
    settled = np.array([np.datetime64(DAY) + np.timedelta64(n, "m") for n in range(count)])
    return MaturedRows(np.arange(count), churned, settled, {"score": score})


def arms_of(generator: np.random.Generator, rows: tuple[int, int], churn: float, noise: float = 0.0) -> Arms:
    """Arms of a policy in which `churn` of the customers leave; `noise` spoils the scores of the first."""
    parts = []
    for count, spoiled in zip(rows, (noise, 0.0), strict=True):
        truth = generator.beta(4 * churn, 4 * (1 - churn), count)
        score = np.clip(truth + generator.normal(0, 1, count) * spoiled, 0.01, 0.99)
        parts.append(rows_of(score, generator.random(count) < truth))
    return Arms(*parts)


def test_arms_are_compared_within_a_policy():
    """The challenger's rows are mostly of a time in which few churn: together its PR-AUC looks far worse."""
    generator = np.random.default_rng(5)
    parts = [arms_of(generator, (200, 3800), 0.4), arms_of(generator, (3000, 1000), 0.05)]
    figures = figures_of_arms(parts, ALPHA)
    own, base = (
        pr_auc(np.concatenate([a.churned for a in arms]), np.concatenate([a.scores["score"] for a in arms]))
        for arms in ([part.own for part in parts], [part.base for part in parts])
    )
    assert own - base < -0.1
    assert abs(figures.pr_auc) < 0.1
    assert figures.pr_auc_low < 0 < figures.pr_auc_high
    assert figures.log_loss_low < 0 < figures.log_loss_high
    assert figures.rows == 3200
    spoiled = figures_of_arms([arms_of(generator, (2000, 2000), 0.2, noise=1.0)], ALPHA)
    assert spoiled.pr_auc_high < -0.02
    assert spoiled.log_loss_low > 0.01
    assert figures_of_arms([Arms(parts[0].own, rows_of(np.empty(0), np.empty(0, bool)))], ALPHA) is None


def settled_by(part: Arms, minutes: int) -> Arms:
    """What was known of a policy after so many minutes."""
    sides = []
    for rows in (part.own, part.base):
        known = rows.settled <= np.datetime64(DAY) + np.timedelta64(minutes, "m")
        score = {"score": rows.scores["score"][known]}
        sides.append(MaturedRows(rows.places[known], rows.churned[known], rows.settled[known], score))
    return Arms(*sides)


def later(rows: MaturedRows, minutes: int) -> MaturedRows:
    return replace(rows, settled=rows.settled + np.timedelta64(minutes, "m"))


def test_between_two_looks_the_pr_auc_of_arms_stays_while_later_policies_get_labels():
    """Of the third policy the champion's labels come long after the challenger's."""
    generator = np.random.default_rng(8)
    first, second, third = (arms_of(generator, rows, 0.3) for rows in ((700, 2000), (900, 600), (500, 500)))
    second = Arms(later(second.own, 300), later(second.base, 350))
    third = Arms(later(third.own, 400), later(third.base, 700))
    seen: dict[int, set[tuple[float, float, float]]] = {}
    for minutes in range(150, 1300, 50):
        figures = figures_of_arms([settled_by(part, minutes) for part in (first, second, third)], ALPHA)
        size = max(look_sizes(FIRST_LOOK, figures.rows), default=0)
        seen.setdefault(size, set()).add((figures.pr_auc, figures.pr_auc_low, figures.pr_auc_high))
    assert list(seen) == [0, 200, 400, 800, 1600]
    assert {size: len(values) for size, values in seen.items()} == dict.fromkeys(seen, 1)
    assert len(set.union(*seen.values())) == 5


def test_no_label_of_a_guardrail_is_dropped_for_newer_ones(monkeypatch):
    monkeypatch.setattr(outcomes, "MOST_ROWS", 500)
    _, truth, churned = truth_of(9)
    figures = figures_of_pairs(pairs_of(truth, truth[::-1].copy()), labels_of(churned), ALPHA)
    assert figures.rows == 1000


def test_a_customer_is_one_label_of_a_release_by_his_first_row(tmp_path):
    """Two steps with the same customers, whose second rows all have labels; a first row has none yet."""
    steps = [CANARY, replace(CANARY, id="r000003", step=0)]
    rows = [
        answer(1000 * step + n, row, of, scorer, arm=arm, customer_id=f"c{n}")
        for step, of in enumerate(steps, 1)
        for n, (row, (scorer, arm)) in enumerate(
            zip(ROWS_OF, [(CHALLENGER_SCORER, "challenger"), (CHAMPION_SCORER, "champion")] * 200, strict=True)
        )
    ]
    state = ["open", *["final"] * 799]
    labelled = labelled_of(rows, churned=churned_by(rows[:400], 7) * 2, label_state=state)
    with open_published(log_with(tmp_path, *rows)) as connection:
        both, alone = (label_figures(connection, some, labelled)[CHALLENGER] for some in (steps, steps[:1]))
    assert both.rows == 199
    assert both == alone


def test_a_customer_is_one_pair_of_a_shadow_by_his_first_row(tmp_path):
    rows = [answer(n, ROWS_OF[n % 200], SHADOW, CHAMPION_SCORER, customer_id=f"c{n % 200}") for n in range(400)]
    labelled = labelled_of(rows, churned=churned_by(rows, 7), label_state=["open", *["final"] * 399])
    with open_published(log_with(tmp_path, *rows, *(replay(CHALLENGER_SCORER, row) for row in rows))) as connection:
        assert label_figures(connection, [SHADOW], labelled)[CHALLENGER].rows == 199


def test_figures_of_a_release_come_from_its_log_and_cross_its_guardrails(tmp_path):
    """A shadow, and a canary in which a fallback is nobody's row; the judgement takes the figures."""
    canary = [
        answer(1000 + n, row, CANARY, scorer, arm=arm)
        for n, (row, (scorer, arm)) in enumerate(
            zip(ROWS_OF, [(CHALLENGER_SCORER, "challenger"), (CHAMPION_SCORER, "champion")] * 200, strict=True)
        )
    ]
    fallback = answer(1900, ROWS_OF[0], CANARY, CHAMPION_SCORER, status="fallback", customer_id="fallback")
    with open_published(log_with(tmp_path, *ANSWERS, *SHADOWS, *canary, fallback)) as connection:
        labels = labelled_of(ANSWERS, churned=churned_by(ANSWERS, 6))
        shadow = label_figures(connection, [SHADOW], labels)
        rows = [*canary, fallback]
        split = label_figures(connection, [CANARY], labelled_of(rows, churned=churned_by(rows, 7)))
        nothing = label_figures(connection, [CANARY], labels)
    assert (list(shadow), shadow[CHALLENGER].rows) == ([CHALLENGER], 400)
    assert (list(split), split[CHALLENGER].rows, nothing) == ([CHALLENGER], 200, {})
    bad = replace(shadow[CHALLENGER], pr_auc=-0.2, pr_auc_low=-0.3, pr_auc_high=-0.1)
    report = judge_guardrails(SHADOW, [Period(0.0, ReleaseCounts())], {CHALLENGER: bad}, now=AT)
    assert report.move == "rollback"
    assert "PR-AUC" in report.message

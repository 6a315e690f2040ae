"""A release from its log: arms, pairs, final labels, and what another model would have said."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from churn_assets.evaluation.metrics import log_loss, pr_auc
from churn_assets.prediction_log.records import Prediction
from churn_assets.prediction_log.warehouse.connection import open_published
from churn_assets.prediction_log.warehouse.ingest import ingest
from churn_assets.release.analysis import analyse, analyse_pairs, describe, rank_correlation, read_pairs, rollout
from churn_assets.release.counts import ReleaseCounts
from churn_assets.release.outcomes import mature, measure, measure_pairs
from churn_assets.release.policy import CHALLENGER, CHAMPION, Policy, PolicyArm, PolicyKind
from churn_assets.release.replay import replay
from churn_assets.release.what_if import Part, read_contracts, what_if
from churn_assets.scoring.online import CustomerScorer
from churn_assets_tests.prediction_log.home import settings, write
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, customers, json_rows, scorer_of

AT = dt.datetime(2026, 11, 27, 8, 0, tzinfo=dt.UTC)
ROWS = 400
FIRST, SECOND = "a" * 16, "b" * 16


def scorer(kind: str, version: str) -> CustomerScorer:
    return CustomerScorer(dataclasses.replace(scorer_of(kind), version=version))


CHAMPION_SCORER, CHALLENGER_SCORER = scorer("boosted", FIRST), scorer("logistic", SECOND)


def policy(number: int, kind: PolicyKind, *weights: float, challenger: str = SECOND) -> Policy:
    """A policy of a champion and, with two weights, a challenger."""
    names = (CHALLENGER, CHAMPION) if len(weights) == 2 else (CHAMPION,)
    versions = {CHALLENGER: challenger, CHAMPION: FIRST}
    arms = tuple(PolicyArm(n, versions[n], f"bundles/{n}", "ab" * 32, w) for n, w in zip(names, weights, strict=True))
    return Policy(f"r{number:06d}", kind, arms, "salt", "ana", "try it", AT)


SHADOW, CANARY = policy(1, "shadow", 0.0, 1.0), policy(2, "canary", 0.5, 0.5)


def answer(number: int, row: dict[str, Any], of: Policy, customers: CustomerScorer, **changed: Any) -> Prediction:
    """The line of an answer; `number` decides its time and latency."""
    own, scorer = dict(row), customers.scorer
    customer_id = own.pop("id")
    score = customers.score(own, 16090.0)
    line = Prediction(
        f"p{number}", f"r{number}", customer_id, AS_OF, f"2026-11-27T08:{number // 60:02}:{number % 60:02}.000001Z",
        score.probability, score.margin, score.churn, scorer.thresholds.value, score.risk_band, scorer.version,
        "tiny", CONTRACT.fingerprint, CHAMPION, of.id, "ok", 100.0 + number, ["sent"] if number % 10 == 0 else [], own,
    )  # fmt: skip
    return msgspec.structs.replace(line, **changed)


ROWS_OF = json_rows(customers(ROWS, seed=5))
ANSWERS = [answer(number, row, SHADOW, CHAMPION_SCORER) for number, row in enumerate(ROWS_OF)]
SHADOWS = [replay(CHALLENGER_SCORER, record) for record in ANSWERS]


def log_with(home: Path, *rows: Prediction) -> Any:
    """The published copy of a log with these rows."""
    of = settings(home)
    write(of, "20261127T000000000000-1-a", *rows)
    ingest(of, CONTRACT, now=lambda: AT)
    return of


@pytest.fixture(scope="module")
def shadowed(tmp_path_factory):
    """A log of a shadow: trials, and a row that another policy answered, are no part of it."""
    trial = answer(900, ROWS_OF[0], SHADOW, CHAMPION_SCORER, test=True)
    other = answer(901, ROWS_OF[0], CANARY, CHAMPION_SCORER)
    more = [trial, replay(CHALLENGER_SCORER, trial), other]
    return log_with(tmp_path_factory.mktemp("shadowed"), *ANSWERS, *SHADOWS, *more)


def test_arms_are_counted_one_by_one(shadowed):
    counts = ReleaseCounts()
    counts.arm(CHALLENGER).errors = 3
    with open_published(shadowed) as connection:
        analysis = analyse(connection, [SHADOW], {SHADOW.id: counts})
    champion, challenger = analysis.arms
    assert (champion.arm, champion.model_version, champion.shadow) == (CHAMPION, FIRST, False)
    assert (challenger.arm, challenger.model_version, challenger.shadow) == (CHALLENGER, SECOND, True)
    assert champion.rows == challenger.rows == ROWS
    assert champion.customers == len({row["id"] for row in ROWS_OF})
    for arm, rows in ((champion, ANSWERS), (challenger, SHADOWS)):
        scores = np.array([row.score for row in rows])
        assert arm.mean_score == pytest.approx(scores.mean(), abs=1e-12)
        assert arm.called_share == pytest.approx(np.mean([row.decision for row in rows]), abs=1e-12)
        assert arm.warned_share == pytest.approx(np.mean([bool(row.warnings) for row in rows]), abs=1e-12)
        assert list(arm.scores) == np.histogram(scores, bins=20, range=(0.0, 1.0))[0].tolist()
    latencies = [row.latency_us / 1000 for row in ANSWERS]
    expected = np.quantile(latencies, [0.5, 0.99])
    assert [champion.latency_p50_ms, champion.latency_p99_ms] == pytest.approx(expected.tolist())
    assert (challenger.latency_p50_ms, challenger.latency_p99_ms) == (None, None)
    assert (champion.errors, challenger.errors) == (0, 3)
    assert (champion.first, champion.last) == ("2026-11-27T08:00:00Z", "2026-11-27T08:06:39Z")


def test_errors_of_a_shadow_are_none_of_the_canary_after_it(tmp_path):
    counts = {SHADOW.id: ReleaseCounts(), CANARY.id: ReleaseCounts()}
    for number, of in enumerate(counts.values()):
        of.arm(CHALLENGER).errors, of.arm(CHALLENGER).refused = 10 + number, 20 + number
    rows = [answer(900, ROWS_OF[0], CANARY, CHALLENGER_SCORER, arm=CHALLENGER), ANSWERS[1], SHADOWS[1]]
    with open_published(log_with(tmp_path, *rows)) as connection:
        analysis = analyse(connection, [SHADOW, CANARY], counts)
    assert [(arm.arm, arm.shadow, arm.errors, arm.refused) for arm in analysis.arms] == [
        (CHALLENGER, False, 11, 21), (CHAMPION, False, 0, 0), (CHALLENGER, True, 10, 20)
    ]  # fmt: skip


def test_a_customer_of_a_canary_counts_once_and_fallbacks_are_named(tmp_path):
    rows = [answer(n, ROWS_OF[n % 7], CANARY, CHALLENGER_SCORER, arm=CHALLENGER) for n in range(20)]
    rows += [answer(100 + n, ROWS_OF[n], CANARY, CHAMPION_SCORER, status="fallback") for n in range(3)]
    rows.append(answer(200, ROWS_OF[0], CANARY, CHAMPION_SCORER, customer_id=None))
    with open_published(log_with(tmp_path, *rows)) as connection:
        analysis = analyse(connection, [SHADOW, CANARY])
    assert [(a.arm, a.rows, a.customers, a.fallbacks) for a in analysis.arms] == [
        (CHALLENGER, 20, 7, 0), (CHAMPION, 4, 4, 3)
    ]  # fmt: skip
    assert (analysis.policies, analysis.kind, analysis.challengers) == (("r000001", "r000002"), "canary", (SECOND,))
    assert analysis.pairs is None


def test_pairs_are_compared_row_by_row(shadowed):
    with open_published(shadowed) as connection:
        analysis = analyse(connection, [SHADOW])
    pairs = analysis.pairs
    champion, challenger = (np.array([row.score for row in rows]) for rows in (ANSWERS, SHADOWS))
    old_calls, new_calls = ([row.decision for row in rows] for rows in (ANSWERS, SHADOWS))
    assert pairs.rows == ROWS
    assert pairs.agreement == np.mean(np.equal(old_calls, new_calls))
    to_call = sum(new and not old for old, new in zip(old_calls, new_calls, strict=True))
    to_keep = sum(old and not new for old, new in zip(old_calls, new_calls, strict=True))
    assert to_call + to_keep > 0
    assert (pairs.flips_to_call, pairs.flips_to_keep) == (to_call, to_keep)
    assert pairs.mean_difference == pytest.approx(np.mean(challenger - champion), abs=1e-12)
    assert pairs.quantiles["0.95"] == pytest.approx(np.quantile(challenger - champion, 0.95), abs=1e-12)
    assert pairs.rank_correlation == pytest.approx(scipy.stats.spearmanr(champion, challenger).statistic, abs=1e-12)
    assert sum(pairs.counts) == ROWS
    assert (len(pairs.edges), pairs.edges[20]) == (41, pytest.approx(0.0, abs=1e-12))
    text = "\n".join(describe(analysis))
    assert f"on the same {ROWS} rows" in text
    assert f"{to_call} called by the challenger alone, {to_keep} by the champion alone" in text


def test_what_if_is_the_shadow_bit_for_bit(shadowed):
    with open_published(shadowed) as connection:
        logged = read_pairs(connection, [SHADOW.id])
        again = what_if(connection, CHALLENGER_SCORER, {CONTRACT.fingerprint: CONTRACT}, Part((SHADOW.id,)))
    assert (again.refused, again.failed, again.unknown) == (0, 0, 0)
    assert again.pairs.ids.to_pylist() == logged.ids.to_pylist() == [row.prediction_id for row in ANSWERS]
    for name in ("champion", "challenger", "champion_calls", "challenger_calls"):
        assert getattr(again.pairs, name).tobytes() == getattr(logged, name).tobytes(), name
    assert analyse_pairs(again.pairs) == analyse_pairs(logged)


def test_what_if_takes_any_part_of_the_log_and_says_what_it_could_not_score(shadowed):
    minute = dt.datetime(2026, 11, 27, 8, 1), dt.datetime(2026, 11, 27, 8, 2)
    narrow = dataclasses.replace(CONTRACT, columns=tuple(map(_with_low_sent, CONTRACT.columns)))
    strict = CustomerScorer(dataclasses.replace(scorer_of("logistic"), contract=narrow, version=SECOND))
    with open_published(shadowed) as connection:
        part = what_if(connection, CHALLENGER_SCORER, {CONTRACT.fingerprint: CONTRACT}, Part(None, *minute))
        refusing = what_if(connection, strict, {CONTRACT.fingerprint: CONTRACT}, Part((SHADOW.id,)))
        unknown = what_if(connection, CHALLENGER_SCORER, {}, Part(None, *minute))
    assert part.pairs.ids.to_pylist() == [f"p{number}" for number in range(60, 120)]
    assert refusing.refused == sum(row["sent"] > 10 for row in ROWS_OF) > 0
    assert len(refusing.pairs) + refusing.refused == ROWS
    assert (unknown.unknown, len(unknown.pairs)) == (60, 0)


def _with_low_sent(column):
    return dataclasses.replace(column, high=10) if column.name == "sent" else column


def test_contracts_of_the_log_are_read_from_its_warehouse(shadowed):
    (shadowed.warehouse_dir / "contracts" / "damaged.toml").write_text("no contract")
    assert read_contracts(shadowed).keys() == {CONTRACT.fingerprint}


@given(arrays(np.float64, st.integers(2, 40), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])), st.integers(0, 9))
def test_rank_correlation_is_spearmans_with_ties(first, seed):
    second = np.random.default_rng(seed).choice([0.1, 0.2, 0.7], len(first))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert rank_correlation(first, second) is None
    else:
        expected = scipy.stats.spearmanr(first, second).statistic
        assert rank_correlation(first, second) == pytest.approx(expected, abs=1e-12)


def labelled_of(rows: Sequence[Any], **columns: list[Any]) -> pa.Table:
    """The asset's columns for these predictions; unless named, final, nobody contacted."""
    table = {
        "prediction_id": [row.prediction_id for row in rows],
        "customer_id": [row.customer_id for row in rows],
        "label_state": ["final"] * len(rows),
        "churned": [False] * len(rows),
        "contacted": pa.array([None] * len(rows), pa.bool_()),
        "control": [False] * len(rows),
        "matures_at": [dt.datetime(2026, 12, 27)] * len(rows),
        "received_at": [dt.datetime(2026, 12, 28)] * len(rows),
    }
    return pa.table(table | columns)


def churned_by(rows: list[Prediction], seed: int) -> list[bool]:
    return (np.random.default_rng(seed).random(len(rows)) < [row.score for row in rows]).tolist()


def test_final_labels_judge_both_models_on_the_same_customers(shadowed):
    churned = churned_by(ANSWERS, 1)
    # In another order than the log, without some, and with the label of a prediction of no release.
    order = np.random.default_rng(2).permutation(ROWS)[:350]
    labelled = labelled_of([ANSWERS[i] for i in order], churned=[churned[i] for i in order])
    with open_published(shadowed) as connection:
        analysis = analyse(connection, [SHADOW], labelled=labelled)
    last = sorted({ANSWERS[i].customer_id: i for i in sorted(order)}.values())
    label = np.array([churned[i] for i in last], dtype=float)
    first, second = (np.array([rows[i].score for i in last]) for rows in (ANSWERS, SHADOWS))
    matured = analysis.pairs.matured
    assert matured.champion.rows == matured.challenger.rows == len(last)
    assert matured.champion.churned == label.sum()
    assert matured.champion.pr_auc.value == pytest.approx(pr_auc(label, first), abs=1e-12)
    assert matured.challenger.log_loss.value == pytest.approx(log_loss(label, second), abs=1e-12)
    difference = matured.pr_auc_difference
    assert difference.value == pytest.approx(pr_auc(label, second) - pr_auc(label, first), abs=1e-12)
    assert difference.low < difference.value < difference.high
    loss = log_loss(label, second) - log_loss(label, first)
    assert matured.log_loss_difference.value == pytest.approx(loss, abs=1e-12)
    champion, challenger = analysis.arms
    assert champion.matured == matured.champion
    assert challenger.matured is None
    assert "final labels: PR-AUC" in describe(analysis)[-1]


def test_a_better_model_is_seen_to_be_better_and_an_equal_one_is_not():
    generator = np.random.default_rng(4)
    truth = generator.beta(1, 3, 2000)
    rows = [SimpleNamespace(prediction_id=f"q{n}", customer_id=f"c{n}") for n in range(2000)]
    labelled = labelled_of(rows, churned=(generator.random(2000) < truth).tolist())
    ids = pa.array([row.prediction_id for row in rows])
    noisy = np.clip(truth + generator.normal(0, 0.2, 2000), 0.01, 0.99)
    pairs = measure_pairs(mature(labelled, ids, {"a": noisy, "b": truth}), "a", "b")
    assert pairs.pr_auc_difference.low > 0
    assert pairs.log_loss_difference.high < 0
    same = measure_pairs(mature(labelled, ids, {"a": truth, "b": truth}), "a", "b")
    assert (same.pr_auc_difference.value, same.pr_auc_difference.low, same.pr_auc_difference.high) == (0, 0, 0)


def test_contacted_and_open_rows_do_not_count_and_the_last_of_a_customer_does():
    rows = [answer(n, ROWS_OF[n % 30], SHADOW, CHAMPION_SCORER, customer_id=f"c{n % 30}") for n in range(60)]
    rows[59] = msgspec.structs.replace(rows[59], customer_id=None)
    state = ["open"] * 3 + ["final"] * 57
    contacted = [None] * 40 + [True] * 5 + [True] * 2 + [False] * 13
    control = [False] * 45 + [True] * 2 + [False] * 13
    labelled = labelled_of(rows, label_state=state, contacted=contacted, control=control)
    scores = {"a": np.arange(60.0)}
    matured = mature(labelled, pa.array([row.prediction_id for row in rows]), scores)
    left = [n for n in range(3, 60) if not 40 <= n < 45]
    assert matured.scores["a"].tolist() == sorted({rows[n].customer_id or "nobody": float(n) for n in left}.values())
    few = measure(matured, "a")
    assert (few.rows, few.pr_auc) == (31, None)
    assert few.message == "not enough churned customers (0)"


def test_a_release_is_the_last_run_of_policies_that_let_the_same_versions_in():
    third = "c" * 16
    policies = [
        policy(1, "champion", 1.0), policy(2, "shadow", 0.0, 1.0), policy(3, "canary", 0.05, 0.95),
        policy(4, "canary", 0.25, 0.75), policy(5, "champion", 1.0), policy(6, "shadow", 0.0, 1.0, challenger=third),
        policy(7, "champion", 1.0), policy(8, "canary", 0.05, 0.95), policy(9, "champion", 1.0),
    ]  # fmt: skip

    def ids(**wanted: str) -> list[str]:
        return [each.id for each in rollout(policies, **wanted)]

    assert ids() == ["r000008"]
    assert ids(policy_id="r000003") == ["r000002", "r000003", "r000004"]
    assert ids(version=third) == ["r000006"]
    assert ids(version=SECOND) == ["r000008"]
    assert ids(policy_id="r000003", version=SECOND) == ["r000002", "r000003", "r000004"]
    assert ids(policy_id="r000005") == ids(version="d" * 16) == rollout([]) == []


def test_a_release_without_rows_says_so(shadowed):
    with open_published(shadowed) as connection:
        analysis = analyse(connection, [policy(9, "shadow", 0.0, 1.0)], {"r000009": ReleaseCounts()})
    assert (analysis.arms, analysis.pairs) == ((), None)
    assert describe(analysis) == ["no row of r000009 has been ingested yet: churn log ingest"]

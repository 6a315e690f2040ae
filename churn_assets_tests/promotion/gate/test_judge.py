"""The gate's rules, each by rows that break it and nothing else; and how often it errs."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import gate_simulation as simulation
from churn_assets.contract.limits import Monitoring, Release
from churn_assets.evaluation.bootstrap import interval
from churn_assets.promotion.gate.comparison import FEWEST, compare, fall
from churn_assets.promotion.gate.evidence import Evidence, no_evidence
from churn_assets.promotion.gate.inputs import GateInputs
from churn_assets.promotion.gate.judge import judge, judge_evidence, superseded
from churn_assets.promotion.records import FORBIDDEN, Check, Verdict
from churn_assets.promotion.registration import TrainedModel
from churn_assets_tests.scoring.tiny import CONTRACT

FLOORED = dataclasses.replace(CONTRACT, monitoring=Monitoring(label_floor=500))


def rows(gain: float, seed: int = 0, count: int = 3000, name: str = "the frozen holdout") -> Evidence:
    """Two calibrated readers of one signal; with `gain` 0 they are equal and independent."""
    rng = np.random.default_rng(seed)
    churned = (np.arange(count) < count // 5).astype(np.int8)
    return Evidence(name, churned, *(_reading(churned, noise, rng) for noise in (1.0, 1.0 - gain)))


def _reading(churned, noise, rng):
    spread = np.hypot(1.0, noise)
    score = 5.0 * churned + spread * rng.normal(size=len(churned))
    return 1 / (1 + np.exp(-(5.0 / spread**2 * (score - 2.5) + np.log(0.25))))


def recent(gain: float, seed: int = 1, count: int = 1000) -> Evidence:
    return rows(gain, seed, count, "recent labels")


def failed(verdict: Verdict) -> set[str]:
    return {check.check for check in verdict.checks if not check.passed}


def check_of(verdict: Verdict, name: str) -> Check:
    (check,) = (check for check in verdict.checks if check.check == name)
    return check


def held(holdout: Evidence, late: Evidence | None = None, release: Release | None = None) -> Verdict:
    contract = FLOORED if release is None else dataclasses.replace(FLOORED, release=release)
    return judge_evidence(contract, "old", "new", holdout, late or no_evidence())


def test_a_better_challenger_passes_with_recent_labels_and_without():
    assert held(rows(0.5)).passed
    assert held(rows(0.5), recent(0.5)).passed


def test_the_same_model_again_is_not_promoted():
    for one in (rows(0.0), recent(0.0)):
        same = dataclasses.replace(one, challenger=one.champion)
        assert not held(dataclasses.replace(same, name="the frozen holdout")).passed
    same_holdout, same_recent = (dataclasses.replace(e, challenger=e.champion) for e in (rows(0.0), recent(0.0)))
    assert failed(held(same_holdout, same_recent)) == {"recent_pr_auc"}


def test_a_margin_below_zero_does_not_let_an_equal_model_through_when_the_holdout_decides_alone():
    one = rows(0.0)
    same = dataclasses.replace(one, challenger=one.champion)
    assert failed(held(same, release=Release(holdout_margin=-0.5))) == {"holdout_pr_auc"}


def test_better_on_recent_labels_and_worse_on_clean_customers_is_refused():
    assert "holdout_pr_auc" in failed(held(rows(-0.4), recent(0.6)))


def test_better_on_clean_customers_and_worse_on_recent_labels_is_refused():
    assert "recent_pr_auc" in failed(held(rows(0.5), recent(-0.4)))


def test_a_holdout_that_is_sure_needs_of_few_recent_labels_only_that_they_agree():
    late = recent(0.1, seed=3, count=600)
    assert compare(late, 0).gain > 0
    verdict = held(rows(0.6), late)
    told = next(check for check in verdict.checks if check.check == "recent_pr_auc")
    assert verdict.passed
    assert "agrees with the frozen holdout" in told.message


def test_an_overconfident_challenger_is_refused_for_its_log_loss():
    one = rows(0.5)
    sharp = 1 / (1 + (1 / one.challenger - 1) ** 6)
    assert "holdout_log_loss" in failed(held(dataclasses.replace(one, challenger=sharp)))


def test_log_loss_may_not_rise_on_the_rows_that_decide_and_not_beyond_noise_on_the_others():
    """Recent labels decide where there are enough; without them the holdout does."""
    alone = check_of(held(rows(0.5)), "holdout_log_loss")
    verdict = held(rows(0.5), recent(0.5))
    beside, late = check_of(verdict, "holdout_log_loss"), check_of(verdict, "recent_log_loss")
    assert alone.limit == beside.limit == late.limit == 0.0
    made = {
        name: compare(evidence, seed) for name, evidence, seed in (("frozen", rows(0.5), 0), ("late", recent(0.5), 1))
    }
    assert alone.value == made["frozen"].log_loss_point
    assert late.value == made["late"].log_loss_point
    assert beside.value == np.quantile(made["frozen"].log_loss, 0.025) < alone.value
    assert ["beyond noise" in check.message for check in (alone, late, beside)] == [False, False, True]


def test_a_challenger_that_says_too_much_is_refused_for_its_calibration():
    one = rows(0.6)
    verdict = held(dataclasses.replace(one, challenger=0.3 + 0.6 * one.challenger))
    assert {"holdout_calibration", "holdout_log_loss"} <= failed(verdict)


def test_few_rows_are_allowed_the_calibration_error_that_perfect_probabilities_would_show():
    tight = Release(max_ece=0.0)
    assert "holdout_calibration" not in failed(held(rows(0.5, seed=4), release=tight))


def spoilt(size: int) -> Evidence:
    one = rows(0.6)
    mask = np.zeros(len(one.churned), dtype=bool)
    mask[np.random.default_rng(2).permutation(len(mask))[:size]] = True
    score = one.challenger.copy()
    score[mask] = np.random.default_rng(3).permutation(score[mask])
    return dataclasses.replace(one, challenger=score, segments={"city: DEL": mask})


def test_a_segment_that_falls_is_named():
    verdict = held(spoilt(400))
    words = next(check.message for check in verdict.checks if check.check == "holdout_segments")
    assert "holdout_segments" in failed(verdict)
    assert "'city: DEL' (400 rows) falls by" in words


def test_of_many_segments_one_that_falls_by_chance_refuses_nobody():
    """Equal models, 60 segments: each by itself would be called worse in 2.5 % of cases."""
    one = rows(0.0, count=4000)
    kinds = np.random.default_rng(5).integers(0, 10, size=(6, 4000))
    random = {f"column {c}: {v}": kinds[c] == v for c in range(6) for v in range(10)}
    tight = Release(segment_drop=0.0)
    assert "holdout_segments" not in failed(held(dataclasses.replace(one, segments=random), release=tight))


def test_a_segment_below_the_minimum_is_not_looked_at():
    assert "holdout_segments" not in failed(held(spoilt(299)))
    assert ", 0 segments of at least 300 rows" in check_of(held(spoilt(299)), "holdout_segments").message


def test_a_segment_of_the_minimum_is_compared():
    assert "holdout_segments" in failed(held(spoilt(300)))


def test_segments_that_all_get_better_have_no_largest_fall():
    one = rows(0.6)
    better = dataclasses.replace(one, segments={"city: DEL": np.ones(len(one.churned), dtype=bool)})
    check = check_of(held(better), "holdout_segments")
    assert (check.value, check.passed) == (0.0, True)
    assert check.message.endswith("1 segments of at least 300 rows: none falls")


def test_the_largest_fall_within_the_limit_is_named():
    one = rows(0.0, seed=2)
    mask = np.ones(len(one.churned), dtype=bool)
    for evidence in (one, dataclasses.replace(one, champion=one.challenger, challenger=one.champion)):
        drop = -compare(evidence, 0).gain
        check = check_of(held(dataclasses.replace(evidence, segments={"city: DEL": mask})), "holdout_segments")
        assert check.passed
        assert check.value == max(drop, 0.0)
        assert ("the largest fall is" in check.message) == (drop > 0)


def test_a_segment_that_falls_by_noise_alone_refuses_nobody():
    one = rows(0.3, seed=6)
    mask = np.zeros(len(one.churned), dtype=bool)
    mask[:2] = mask[-400:] = True  # two churners: one place in the ranking moves its PR-AUC by a quarter
    score = one.challenger.copy()
    score[0], score[-1] = 0.5, 0.6
    other = one.champion.copy()
    other[:2] = 0.99
    worse = dataclasses.replace(one, champion=other, challenger=score, segments={"city: DEL": mask})
    verdict = held(worse)
    told = next(check for check in verdict.checks if check.check == "holdout_segments")
    assert told.passed
    assert told.value > told.limit
    assert "noise" in told.message


@pytest.mark.parametrize("holdout", [no_evidence("the frozen holdout"), rows(0.5, count=140)])
def test_a_holdout_too_small_to_compare_on_refuses_in_words(holdout):
    verdict = held(holdout, recent(0.6))
    assert "holdout_rows" in failed(verdict)
    assert "too few to compare on" in verdict.reason


def test_recent_labels_below_the_floor_are_counted_and_not_used():
    verdict = held(rows(0.6), recent(-0.9, count=499))
    told = {check.check: check for check in verdict.checks}
    assert verdict.passed
    assert "recent_pr_auc" not in told
    assert "fewer than 500, so the frozen holdout decides alone" in told["recent_rows"].message


def test_a_refusal_says_what_so_few_rows_could_have_shown():
    verdict = held(rows(0.1, seed=5, count=700), release=Release())
    assert failed(verdict)
    assert "prove nothing below" in verdict.reason
    assert " not over the margin " in verdict.reason
    passed = check_of(held(rows(0.5)), "holdout_pr_auc")
    assert " at 99 %, over the margin " in passed.message


def test_the_bound_has_to_exceed_the_margin():
    one, late = rows(0.5), recent(0.5)
    low = interval(compare(one, 0).pr_auc)[0]
    for margin, passed in ((low, False), (np.nextafter(low, -1.0), True)):
        check = check_of(held(one, late, Release(holdout_margin=float(margin))), "holdout_pr_auc")
        assert (check.value, check.passed) == (low, passed)


@pytest.mark.parametrize("rarer", ["churned", "kept"])
@pytest.mark.parametrize(("count", "compared"), [(FEWEST - 1, False), (FEWEST, True)])
def test_models_are_compared_from_a_least_number_of_each_class(rarer, count, compared):
    few = (np.arange(1000) < count).astype(np.int8)
    score = np.linspace(0.9, 0.1, 1000)
    churned = few if rarer == "churned" else 1 - few
    assert (compare(Evidence("rows", churned, score, score), 0, draws=10) is not None) == compared


def test_a_verdict_without_checks_lets_nobody_through():
    assert not Verdict("old", "new", ()).passed


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), gain=st.floats(-0.5, 0.5))
def test_two_models_never_each_replace_the_other(seed, gain):
    def both(evidence: Evidence) -> Evidence:
        return dataclasses.replace(evidence, champion=evidence.challenger, challenger=evidence.champion)

    one, late = rows(gain, seed, count=1000), recent(gain, seed + 1, count=500)
    there, back = held(one, late), held(both(one), both(late))
    assert not (there.passed and back.passed)
    assert there == held(one, late)  # the same rows give the same verdict
    assert Verdict.from_json(json.loads(json.dumps(there.to_json(), allow_nan=False))) == there


def test_equal_and_worse_challengers_stay_out_and_better_ones_get_in(monkeypatch):
    monkeypatch.setattr(simulation, "DRAWS", 300)
    promoted = {}
    for shift in (0.0, -simulation.STEP, simulation.STEP):
        found = [simulation.trial(simulation.world(shift), 77_000 + i, recent=(0, 600)) for i in range(20)]
        promoted[shift] = [sum(outcome[count] for outcome in found) for count in (0, 600)]
    assert max(promoted[0.0]) <= 2
    assert promoted[-simulation.STEP] == [0, 0]
    assert min(promoted[simulation.STEP]) >= 17


# -- evidence by time ----------------------------------------------------------------------------------


def fallen(count: int = 2000, gain: float = 0.9, seed: int = 4, cross_fitted: float = 0.7) -> Evidence:
    """Recent labels that the champion reads badly, and the challenger better by `gain` of its noise."""
    rng = np.random.default_rng(seed)
    churned = (np.arange(count) < count // 5).astype(np.int8)
    champion = _reading(churned, 2.5, rng)
    challenger = _reading(churned, 2.5 * (1.0 - gain), rng)
    fitted = rng.random(count) < cross_fitted
    return Evidence("recent labels", churned, champion, challenger, cross_fitted=fitted)


def test_recent_labels_decide_when_the_champion_has_fallen_and_the_old_holdout_is_only_shown():
    verdict = held(rows(-0.6), fallen())
    assert verdict.passed, verdict.reason
    shown = check_of(verdict, "holdout_pr_auc")
    assert shown.value is not None
    assert shown.value < 0.0
    assert shown.shown
    assert "shown, not decisive: the champion has fallen" in shown.message
    assert verdict.reason.endswith("; recent labels decide, the frozen holdout is shown")
    assert "it has fallen, customers have changed" in check_of(verdict, "champion_fall").message


def test_a_fallen_champion_alone_replaces_nobody():
    """Labels of whom every seventh is wrong make any champion fall; a challenger that is no better stays out."""
    late = fallen(gain=0.0)
    assert "it has fallen" in check_of(held(rows(0.0), late), "champion_fall").message
    assert "recent_pr_auc" in failed(held(rows(0.0), late))


def test_a_margin_below_zero_on_recent_labels_does_not_make_them_decide():
    late = fallen(gain=0.0)
    verdict = held(rows(-0.6), late, Release(recent_margin=-0.5))
    assert "recent_pr_auc" not in failed(verdict)
    assert "holdout_pr_auc" in failed(verdict)


def test_where_only_the_old_holdout_gets_worse_the_verdict_says_that_customers_have_changed():
    verdict = held(rows(-0.4), recent(0.6))
    assert "holdout_pr_auc" in failed(verdict)
    assert "so customers have changed, but the champion has not fallen" in check_of(verdict, "holdout_pr_auc").message


def undecided() -> Evidence:
    """450 customers on whom equal models differ by more than the margin, by chance."""
    drawn = (rows(0.0, seed, count=450) for seed in range(20))
    return next(one for one in drawn if compare(one, 0).interval[0] < -0.005 and compare(one, 0).interval[1] > 0.0)


def test_a_holdout_with_too_few_rows_to_tell_leaves_it_to_recent_labels():
    few, late = undecided(), recent(0.7, count=2000)
    assert "holdout_pr_auc" in failed(held(few, recent(0.0, count=2000)))
    verdict = held(few, late)
    assert verdict.passed, verdict.reason
    assert "so few rows cannot tell" in check_of(verdict, "holdout_pr_auc").message


def test_a_margin_over_zero_that_a_person_wants_is_kept():
    few, late = undecided(), recent(0.7, count=2000)
    assert "holdout_pr_auc" in failed(held(few, late, Release(holdout_margin=0.01)))


def test_all_recent_labels_count_and_those_set_apart_may_not_contradict():
    late = fallen()
    counts = check_of(held(rows(0.0), late), "recent_rows").message
    fitted = late.cross_fitted_rows
    assert f"{2000 - fitted:,} set apart (the rolling holdout), {fitted:,} scored by models" in counts
    assert check_of(held(rows(0.0), late), "recent_rows").value == 2000
    own = ~np.asarray(late.cross_fitted)
    spoilt = late.challenger.copy()
    spoilt[own] = np.random.default_rng(0).permutation(spoilt[own])  # the model itself is bad, its folds are not
    assert "rolling_pr_auc" in failed(held(rows(0.0), dataclasses.replace(late, challenger=spoilt)))


def test_a_limit_that_the_champion_exceeds_as_well_is_a_warning():
    late = fallen()
    blurred = 0.3 + 0.4 * late.challenger
    same = dataclasses.replace(late, champion=0.35 + 0.3 * late.challenger, challenger=blurred)
    check = check_of(held(rows(0.5), same), "recent_calibration")
    assert check.value is not None
    assert check.limit is not None
    assert check.value > check.limit
    assert check.passed
    assert "no smaller beyond noise: a warning" in check.message
    worse = dataclasses.replace(late, challenger=blurred)
    calibrated = dataclasses.replace(worse, champion=late.challenger)
    assert "recent_calibration" in failed(held(rows(0.5), calibrated))


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10_000),
    old=st.floats(-0.6, 0.6),
    late=st.floats(-0.5, 0.05),
    share=st.sampled_from([0.0, 0.7, 1.0]),
)
def test_nobody_passes_who_is_not_shown_to_be_better_on_recent_labels_or_the_holdout(seed, old, late, share):
    """Whatever the rest says: without 99 % somewhere there is no promotion."""
    frozen, new = rows(old, seed, count=900), fallen(700, late, seed + 1, share)
    verdict = held(frozen, new)
    sure = compare(frozen, 0).lower_99 > 0.0
    proven = compare(new, 1).lower_99 > 0.0
    assert not verdict.passed or sure or proven


@given(seed=st.integers(0, 1000), share=st.floats(0.05, 0.6))
def test_a_share_of_churners_that_changes_is_no_fall(seed, share):
    """PR-AUC depends on the share: the champion is the same, and recent labels have more or fewer churners."""
    rng = np.random.default_rng(seed)
    old, new = (_calibrated(rng, 4000, part) for part in (0.2, share))
    assert not fall(old, new, seed, draws=150).ranking or fall(old, new, seed).pr_auc[1] > -0.02


def _calibrated(rng: np.random.Generator, count: int, share: float) -> Evidence:
    churned = (rng.random(count) < share).astype(np.int8)
    score = 5.0 * churned + np.sqrt(2.0) * rng.normal(size=count)
    probability = 1 / (1 + np.exp(-(2.5 * (score - 2.5) + np.log(share / (1 - share)))))
    return Evidence("rows", churned, probability, probability)


FACTS = GateInputs(FLOORED, "old", "new", bundle="new", frozen_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_facts_and_comparison_are_one_verdict():
    verdict = judge(dataclasses.replace(FACTS, holdout=rows(0.5), recent=no_evidence()))
    assert verdict.passed
    assert [check.check for check in verdict.checks[:3]] == ["bundle", "attested", "holdout"]
    assert verdict.checks[3:] == held(rows(0.5)).checks


@pytest.mark.parametrize("missing", ["holdout", "recent"])
def test_without_scored_rows_the_facts_are_all(missing):
    scored = dataclasses.replace(FACTS, holdout=rows(0.5), recent=no_evidence())
    verdict = judge(dataclasses.replace(scored, **{missing: None}))
    assert [check.check for check in verdict.checks] == ["bundle", "attested", "holdout"]
    assert (verdict.draws, verdict.evidence) == ({}, None)


def test_the_day_on_which_customers_were_frozen_is_said_where_it_is_known():
    for frozen_at, message in ((FACTS.frozen_at, "customers frozen on 2026-01-01"), (None, "")):
        assert check_of(judge(dataclasses.replace(FACTS, frozen_at=frozen_at)), "holdout").message == message


def test_a_challenger_beside_a_newer_one_that_was_promoted_is_refused():
    verdict = superseded("old", "new")
    assert (verdict.champion, verdict.challenger, failed(verdict)) == ("new", "old", {"not_superseded"})
    assert not verdict.passed


@pytest.mark.parametrize(
    ("problem", "check"),
    [("bundle_problem", "bundle"), ("registration_problem", "attested"), ("holdout_problem", "holdout")],
)
def test_each_problem_refuses_in_its_own_words(problem, check):
    verdict = judge(dataclasses.replace(FACTS, **{problem: "it is damaged"}))  # type: ignore[arg-type]
    assert failed(verdict) == {check}
    assert verdict.reason == "challenger new is refused: it is damaged"


def test_what_a_challenger_was_registered_with_is_judged_by_the_contract_as_it_is_now():
    registered = TrainedModel("new", 0.7, generated=False)
    quality = dataclasses.replace(FLOORED.quality, pr_auc_floor=0.8)
    for contract, refused in ((FLOORED, set()), (dataclasses.replace(FLOORED, quality=quality), {"attested"})):
        assert failed(judge(dataclasses.replace(FACTS, contract=contract, registered=registered))) == refused


def test_the_champion_is_no_challenger_of_its_own():
    assert failed(judge(dataclasses.replace(FACTS, challenger="old"))) == {"another_model"}


def test_a_champion_that_reads_a_forbidden_column_is_no_measure_and_a_person_decides():
    inputs = GateInputs(
        FLOORED, "old", "new", holdout=rows(-0.4), recent=no_evidence(), registered=TrainedModel("new", 0.9, False)
    )
    refused, waiting = judge(inputs), judge(dataclasses.replace(inputs, forbidden=("esent",)))
    assert not refused.passed
    assert not refused.needs_person
    assert waiting.passed
    assert waiting.needs_person
    assert "champion old reads 'esent', which no model may read now" in check_of(waiting, FORBIDDEN).message
    assert check_of(waiting, "holdout_pr_auc").value == check_of(refused, "holdout_pr_auc").value
    assert Verdict.from_json(waiting.to_json()).needs_person

"""What the counts of a release show against its limits, and the move that follows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from typing import Any

import numpy as np
import pytest

from benchmarks import release_guardrails as simulation
from churn_assets.contract.limits import Guardrails
from churn_assets.release.counts import ReleaseCounts, read_counts, sum_counts, write_counts
from churn_assets.release.guardrails import LabelFigures, Period, judge_guardrails, more_rows, read_report, write_report
from churn_assets.release.policy import CHALLENGER, CHAMPION, Policy, PolicyArm, Step

AT = dt.datetime(2026, 11, 27, 8, 0, tzinfo=dt.UTC)
HELD = AT + dt.timedelta(minutes=31)
LATE = AT + dt.timedelta(days=15)
STEPS = tuple(Step(weight, 30.0, 1000) for weight in (0.05, 0.25, 0.5, 1.0))


def arm(name, weight):
    return PolicyArm(name, f"{name}-version", f"bundles/{name}", "ab" * 32, weight)


def policy(kind="canary", step=2, limits=None):
    weight = {"canary": STEPS[step].weight, "shadow": 0.0, "ab": 0.5}[kind]
    arms = (arm(CHALLENGER, weight), arm(CHAMPION, 1.0 - weight))
    steps = STEPS if kind == "canary" else ()
    deadline = AT + dt.timedelta(days=14)
    return Policy("r000004", kind, arms, "5a17", "ana", "try it", AT, steps, step, AT, deadline, limits or Guardrails())


def fill(counts, rows, rng, *, shift=0.0, wider=1.0, slower=1.0, called=0.2, warned=0.03, refused=0, errors=0):
    """Count rows as a worker does; `wider` scores have the same mean."""
    for score, seconds, own, call in zip(
        rng.beta(2 / wider, 7 / wider, rows),
        60e-6 * np.exp(0.4 * rng.normal(size=rows)),
        *(rng.random((2, rows))),
        strict=True,
    ):
        counts.scored(float(min(score + shift, 1.0)), bool(call < called), bool(own < warned), float(seconds * slower))
    counts.refused += refused
    counts.errors += errors


def period(weight=0.5, rows=(3000, 3000), seed=0, **fault):
    """A period with counts of challenger and champion."""
    counts, rng = ReleaseCounts(), np.random.default_rng(seed)
    for name, number, own in ((CHALLENGER, rows[0], fault), (CHAMPION, rows[1], {})):
        fill(counts.arm(name), number, rng, **own)
    return Period(weight, counts)


def shadowed(rows=3000, flips=60, difference=0.0, **fault):
    """The one period of a shadow."""
    found = period(0.0, (rows, rows), **fault)
    pairs = found.counts.pairs
    pairs.rows, pairs.flips, pairs.difference_sum = rows, flips, difference * rows
    pairs.difference_squares = rows * (difference**2 + 0.02**2)
    return found


@pytest.fixture(scope="module")
def equal():
    return period()


FAULTS: dict[str, dict[str, Any]] = {
    "error_rate": {"errors": 70},
    "p99": {"slower": 2.0},
    "score_shift": {"shift": 0.06},
    "score_distribution": {"wider": 4.0},
    "decisions": {"called": 0.32},
    "quality": {"refused": 400},
}


@pytest.mark.parametrize("check", FAULTS)
def test_a_fault_crosses_its_check_and_rolls_the_canary_back(check):
    report = judge_guardrails(policy(), [period(**FAULTS[check])], now=AT)
    crossed = [found.check for found in report.checks if found.status == "crossed"]
    # Where the mean moves by twice its limit, the distribution moves as well.
    expected = [check, "score_distribution"] if check == "score_shift" else [check]
    assert (crossed, report.status, report.move) == (expected, "crossed", "rollback")
    assert f"{CHALLENGER}: " in report.message
    assert "limit" in report.message


def test_warnings_cross_the_check_of_quality_as_refusals_do():
    report = judge_guardrails(policy(), [period(warned=0.15)], now=AT)
    assert [found.check for found in report.checks if found.status == "crossed"] == ["quality"]


def test_a_fall_of_scores_crosses_as_a_rise_does():
    counts = period()
    counts.counts.arms = {CHALLENGER: period(rows=(0, 3000)).counts.arm(CHAMPION), CHAMPION: None}
    rng = np.random.default_rng(3)
    counts.counts.arms[CHAMPION] = ReleaseCounts().arm(CHAMPION)
    fill(counts.counts.arms[CHAMPION], 3000, rng, shift=0.06)
    report = judge_guardrails(policy(), [counts], now=AT)
    crossed = [found.check for found in report.checks if found.status == "crossed"]
    assert crossed == ["score_shift", "score_distribution"]


def test_scores_pushed_apart_at_an_equal_mean_are_seen_by_their_distribution_alone():
    """beta(2, 7) against beta(.5, 1.75): the distance of the shares under the edges is largest at .1."""
    wider = period(wider=4.0)
    mean = [each.score_sum / each.rows for each in wider.counts.arms.values()]
    assert mean[0] == pytest.approx(mean[1], abs=0.01)
    by_name = {found.check: found for found in judge_guardrails(policy(), [wider], now=HELD).checks}
    found = by_name["score_distribution"]
    under = [sum(each.scores[:2]) / each.rows for each in wider.counts.arms.values()]
    assert found.value == pytest.approx(abs(under[0] - under[1]))
    assert 0.1 < found.low < found.value < found.high < 0.5
    off = policy(limits=Guardrails(max_distribution_shift=1.0))
    assert judge_guardrails(off, [wider], now=HELD).move == "advance"


def test_the_distance_of_equal_models_lies_within_the_limit(equal):
    for kind, found in (("canary", equal), ("shadow", shadowed())):
        by_name = {check.check: check for check in judge_guardrails(policy(kind), [found], now=HELD).checks}
        check = by_name["score_distribution"]
        assert (check.status, check.limit, check.low) == ("ok", 0.1, 0.0)
        assert 0.0 < check.value < check.high < 0.1


SHADOW_FAULTS: dict[str, dict[str, Any]] = {
    "error_rate": {"errors": 70},
    "p99": {"slower": 2.0},
    "score_shift": {"difference": -0.04},
    "score_distribution": {"wider": 4.0},
    "flips": {"flips": 400},
    "quality": {"refused": 400},
}


@pytest.mark.parametrize("check", SHADOW_FAULTS)
def test_a_fault_ends_a_shadow(check):
    report = judge_guardrails(policy("shadow"), [shadowed(**SHADOW_FAULTS[check])], now=AT)
    crossed = [found.check for found in report.checks if found.status == "crossed"]
    assert (crossed, report.move) == ([check], "rollback")


def test_a_shadow_without_a_fault_waits_for_a_person_also_after_its_deadline():
    report = judge_guardrails(policy("shadow"), [shadowed()], now=LATE)
    assert (report.status, report.move, report.waiting) == ("clear", "hold", "person")


def test_a_step_waits_for_time_then_rows_then_goes_on(equal):
    early = judge_guardrails(policy(step=1), [equal], now=AT)
    few = judge_guardrails(policy(step=1), [period(rows=(300, 300))], now=HELD)
    enough = judge_guardrails(policy(step=1), [equal], now=HELD)
    assert [(r.move, r.waiting) for r in (early, few, enough)] == [
        ("hold", "time"), ("hold", "rows"), ("advance", ""),
    ]  # fmt: skip
    assert "300 rows of the challenger, expected 1,000" in few.message


def test_before_the_champion_has_no_customer_left_every_check_must_be_ok(equal):
    undecided = judge_guardrails(policy(), [period(rows=(1100, 1100))], now=HELD)
    assert (undecided.status, undecided.move, undecided.waiting) == ("undecided", "hold", "checks")
    assert "error_rate" in undecided.message
    decided = judge_guardrails(policy(), [equal], now=HELD)
    assert (decided.status, decided.move) == ("clear", "advance")


def test_a_canary_that_is_asked_only_in_batches_goes_on_without_times():
    batches = period()
    for name in (CHALLENGER, CHAMPION):
        batches.counts.arm(name).seconds.clear()
    report = judge_guardrails(policy(), [batches], now=HELD)
    assert {found.check: found.status for found in report.checks}["p99"] == "undecided"
    assert (report.status, report.move) == ("clear", "advance")
    last = period(1.0, rows=(1200, 0))
    assert judge_guardrails(policy(step=3), [batches, last], now=LATE).move == "promote"
    batches.counts.arm(CHAMPION).seconds[200] = 1  # now there is a time to compare with
    report = judge_guardrails(policy(), [batches], now=HELD)
    assert (report.move, report.waiting, report.message[-3:]) == ("hold", "checks", "p99")


def test_after_the_last_step_the_challenger_is_promoted(equal):
    last = period(1.0, rows=(1200, 0))
    assert judge_guardrails(policy(step=3), [equal, last], now=HELD).move == "promote"


def test_errors_of_the_last_step_are_compared_with_the_champion_of_the_step_before(equal):
    last = period(1.0, rows=(1200, 0), errors=90)
    report = judge_guardrails(policy(step=3), [equal, last], now=AT)
    assert [found.check for found in report.checks if found.status == "crossed"] == ["error_rate"]
    assert report.move == "rollback"


def test_a_last_step_with_other_customers_is_no_shift(equal):
    last = period(1.0, rows=(3000, 0), shift=0.2)
    assert judge_guardrails(policy(step=3), [equal, last], now=HELD).status == "clear"


def test_a_release_that_has_concluded_nothing_by_its_deadline_is_inconclusive():
    for kind, found in (("canary", period(rows=(300, 300))), ("shadow", shadowed(300, flips=6)), ("ab", period())):
        report = judge_guardrails(policy(kind), [found], now=LATE)
        assert (report.move, report.waiting) == ("inconclusive", "")
        assert "2026-12-11 08:00 UTC has passed" in report.message


def test_a_deadline_does_not_end_what_may_go_on(equal):
    assert judge_guardrails(policy(), [equal], now=LATE).move == "advance"


def test_an_ab_test_is_ended_by_errors_and_not_by_other_decisions():
    shifted = judge_guardrails(policy("ab"), [period(shift=0.06)], now=AT)
    assert (shifted.status, shifted.move) == ("crossed", "hold")
    failing = judge_guardrails(policy("ab"), [period(errors=80)], now=AT)
    assert failing.move == "rollback"


def test_each_arm_of_an_ab_test_has_its_checks():
    arms = (arm("b", 0.3), arm("c", 0.3), arm(CHAMPION, 0.4))
    three = dataclasses.replace(policy("ab"), arms=arms)
    counts, rng = ReleaseCounts(), np.random.default_rng(5)
    for name, errors in (("b", 0), ("c", 90), (CHAMPION, 0)):
        fill(counts.arm(name), 3000, rng, errors=errors)
    report = judge_guardrails(three, [Period(0.6, counts)], now=AT)
    assert len(report.checks) == 12
    assert [(found.arm, found.check) for found in report.checks if found.status == "crossed"] == [("c", "error_rate")]
    assert report.message.startswith("c: ")


def test_without_rows_nothing_is_decided():
    report = judge_guardrails(policy(step=0), [Period(0.05, ReleaseCounts())], now=HELD)
    assert {found.status for found in report.checks} == {"undecided"}
    assert (report.status, report.move, report.waiting) == ("undecided", "hold", "rows")


def test_a_canary_of_everybody_at_once_has_nothing_to_compare_with():
    all_at_once = dataclasses.replace(policy(step=3), steps=STEPS[3:], step=0)
    report = judge_guardrails(all_at_once, [period(1.0, rows=(5000, 0))], now=HELD)
    assert (report.move, report.waiting) == ("hold", "checks")


@pytest.mark.parametrize(
    ("figures", "status"),
    [
        (LabelFigures(900, -0.05, -0.08, -0.025, 0.0, -0.01, 0.005), ["crossed", "ok"]),
        (LabelFigures(900, -0.05, -0.08, -0.015, 0.02, 0.011, 0.03), ["undecided", "crossed"]),
        (LabelFigures(900, 0.01, -0.01, 0.03, 0.0, -0.01, 0.005), ["ok", "ok"]),
    ],
)
def test_final_labels_cross_and_hold_nobody_up(equal, figures, status):
    report = judge_guardrails(policy(), [equal], {CHALLENGER: figures}, now=HELD)
    assert [found.status for found in report.checks[-2:]] == status
    assert report.move == ("rollback" if "crossed" in status else "advance")


def test_a_limit_that_nothing_exceeds_switches_a_check_off():
    off = Guardrails(
        max_error_rise=1.0,
        max_score_shift=1.0,
        max_distribution_shift=1.0,
        max_decision_shift=1.0,
        max_p99_ratio=1000.0,
    )
    broken = period(rows=(3000, 3000), shift=0.5, called=1.0, slower=20.0, errors=2000)
    report = judge_guardrails(policy(limits=off), [broken], now=HELD)
    assert (report.status, report.move) == ("clear", "advance")


def test_a_report_is_stored_whole_beside_the_counts(tmp_path, equal):
    report = judge_guardrails(policy(), [equal], now=HELD)
    assert read_report(tmp_path, report.policy) is None
    write_counts(tmp_path, report.policy, "worker-1", equal.counts)
    path = write_report(tmp_path, report)
    assert read_report(tmp_path, report.policy) == report
    assert json.loads(path.read_text())["version"] == 1
    assert read_counts(tmp_path, report.policy) == equal.counts
    path.write_text('{"version": 2}')
    with pytest.raises(ValueError, match="version 2, expected 1"):
        read_report(tmp_path, report.policy)


def test_equal_rollouts_go_through_and_bad_ones_are_rolled_back():
    """A small round of `benchmarks.release_guardrails`."""
    equal = simulation.canaries(20, simulation.EQUAL, seed=5, weights=(0.5, 1.0))
    assert np.sum(equal.rolled_back > 0) <= 1
    assert np.mean(equal.promoted > 0) > 0.9
    assert equal.naive.mean() > 0.5
    failing = simulation.canaries(10, simulation.PLANTED["errors +2 points"], seed=6, weights=(0.5, 1.0))
    assert np.all(failing.rolled_back > 0)
    wider = simulation.PLANTED["spread: scores pushed apart at equal mean"]
    spread = simulation.canaries(10, wider, seed=8, weights=(0.5, 1.0))
    assert np.all(spread.rolled_back > 0)
    assert {name for name, times in spread.checks.items() if times} == {"score_distribution"}
    shadows = simulation.shadows(20, simulation.EQUAL, seed=7, rows=1500)
    assert np.sum(shadows.rolled_back > 0) <= 1


def test_rows_of_one_customer_weigh_as_much_as_one_of_them():
    """A move that 3,000 customers prove is not proven by 100 who ask thirty times each."""
    moved = period(shift=0.06)
    assert judge_guardrails(policy(), [moved], now=HELD).move == "rollback"
    for arm_counts in moved.counts.arms.values():
        arm_counts.customers = 100
    report = judge_guardrails(policy(), [moved], now=HELD)
    assert report.move == "hold"
    by_name = {check.check: check for check in report.checks}
    assert by_name["score_shift"].status == by_name["score_distribution"].status == "undecided"
    assert (by_name["score_shift"].rows, by_name["p99"].rows) == (100, 3000)


def test_a_shadow_of_few_customers_is_not_decided():
    shadow = shadowed(difference=0.05)
    assert judge_guardrails(policy("shadow"), [shadow], now=HELD).move == "rollback"
    shadow.counts.arm(CHALLENGER).customers = shadow.counts.arm(CHAMPION).customers = 50
    assert judge_guardrails(policy("shadow"), [shadow], now=HELD).move == "hold"


@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_about_as_many_rows_as_said_decide_a_check(kind):
    """The counts of a look, as many times over as the missing rows say and half as many again, decide it."""
    few = period(rows=(900, 900), seed=4) if kind == "canary" else shadowed(900, 18)
    report = judge_guardrails(policy(kind), [few], now=AT)
    said = {check.check: rows for check in report.checks if (rows := more_rows(check)) is not None}
    undecided = [check for check in report.checks if check.status == "undecided"]
    assert said.keys() == {check.check for check in undecided if check.high is not None}
    assert {check.check for check in undecided} - said.keys() <= {"p99"}  # of too few times for an interval
    times = 1 + math.ceil(1.5 * max(said.values()) / 900)
    later = judge_guardrails(policy(kind), [Period(few.weight, sum_counts([few.counts] * times))], now=AT)
    statuses = {check.check: check.status for check in later.checks}
    assert {statuses[check] for check in said} <= {"ok", "crossed"}


def test_of_too_few_rows_those_up_to_the_floor_are_missing():
    report = judge_guardrails(policy(), [period(rows=(50, 3000))], now=AT)
    rows = {check.check: more_rows(check) for check in report.checks}
    assert rows["score_shift"] == rows["decisions"] == 150
    assert more_rows(dataclasses.replace(report.checks[0], status="ok")) is None

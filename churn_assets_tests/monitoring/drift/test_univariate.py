"""Significant and large enough: what the rule calls drift, what it does not, and what it cannot say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.contract.limits import Monitoring
from churn_assets.monitoring.drift.univariate import (
    compare_levels,
    compare_numbers,
    detect_drift,
    drifting_columns,
    spread_of,
)
from churn_assets.monitoring.profile import POSITIVE_RATE, SCORE, ColumnValues

LIMITS = Monitoring()
NORMAL = np.random.default_rng(0).normal(100, 20, 10_000)


def numbers(values) -> ColumnValues:
    return ColumnValues("number", numbers=np.asarray(values, dtype=float))


def levels(**counts: int) -> ColumnValues:
    return ColumnValues("category", levels=counts)


def one(reference: ColumnValues, current: ColumnValues, name: str = "x", limits: Monitoring = LIMITS):
    (result,) = detect_drift({name: reference}, {name: current}, limits)
    return result


def sample(rows: int, seed: int, mean: float = 100.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 20, rows)


def test_every_measure_that_applies_is_there_and_no_other():
    ordered = one(numbers(NORMAL), numbers(sample(2000, 1)))
    named = one(levels(a=50, b=50), levels(a=60, b=40))
    both = {"psi", "jensen_shannon"}
    for distances, own in ((ordered, {"ks", "ks_p", "wasserstein"}), (named, {"chi_square", "chi_square_p"})):
        measures = {"psi", "ks", "ks_p", "chi_square", "chi_square_p", "wasserstein", "jensen_shannon"}
        assert {name for name in measures if getattr(distances, name) is not None} == own | both


def test_the_figures_are_those_of_the_literature():
    before, after = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    result = compare_numbers(before, after, scale=1.0)
    assert (result.ks, result.wasserstein) == (0.25, 1.0)
    result = compare_levels({"a": 50, "b": 50}, {"a": 30, "b": 70})
    assert result.chi_square == pytest.approx(8.3333, abs=1e-3)
    assert result.psi == pytest.approx(0.2 * np.log(0.5 / 0.3) + 0.2 * np.log(0.7 / 0.5))
    uneven = compare_levels({"a": 20, "b": 80}, {"a": 50, "b": 50})
    assert uneven.psi == pytest.approx(0.3 * np.log(0.5 / 0.2) + 0.3 * np.log(0.8 / 0.5))
    assert compare_levels({"a": 1000}, {"b": 1000}).jensen_shannon == pytest.approx(np.sqrt(np.log(2)))


def test_levels_that_one_side_lacks_count_as_none_there():
    result = compare_levels({"a": 1000}, {"b": 500})
    assert (result.reference_values, result.values) == (1000, 500)
    assert result.chi_square == pytest.approx(1500)  # every row is where it would not be by chance


def test_one_level_alone_is_no_evidence():
    result = compare_levels({"a": 1000}, {"a": 500})
    assert (result.chi_square, result.chi_square_p) == (0.0, 1.0)


def test_a_quarter_of_the_values_in_each_quarter_of_the_reference_is_a_psi_of_zero():
    before = np.arange(1000.0)
    assert compare_numbers(before, before[::2]).psi == pytest.approx(0, abs=0.001)
    moved = compare_numbers(before, before[500:])  # half of the bins are empty, the others hold twice their share
    empty, full = 0.5, 0.5 * np.log(2)
    assert full < moved.psi
    assert moved.psi == pytest.approx(full + empty * np.log(0.1 / 1e-4), rel=0.01)


def test_the_test_and_the_effect_are_those_of_the_kind_of_column():
    ordered = one(numbers(NORMAL), numbers(sample(2000, 1)))
    named = one(levels(a=50, b=50), levels(a=60, b=40))
    assert (ordered.check, ordered.effect_measure) == ("ks", "wasserstein")
    assert (ordered.p_value, ordered.effect) == (ordered.ks_p, ordered.wasserstein)
    assert (named.check, named.effect_measure) == ("chi_square", "jensen_shannon")
    assert (named.p_value, named.effect) == (named.chi_square_p, named.jensen_shannon)


def test_the_significance_is_shared_by_the_columns_that_are_tested():
    before, after = numbers(NORMAL), numbers(sample(2000, 1))
    names = [f"x{number}" for number in range(10)]
    results = detect_drift(
        dict.fromkeys([*names, "few"], before), {**dict.fromkeys(names, after), "few": numbers([1.0])}, LIMITS
    )
    assert [result.status for result in results] == ["stable"] * 10 + ["unknown"]
    assert all(result.message.endswith(", limit 0.001") for result in results[:10])


def test_a_shift_is_found_and_its_message_has_both_limits():
    result = one(numbers(NORMAL), numbers(sample(2000, 1, 110)))
    assert result.status == "drift"
    assert result.message.startswith("'x' drifts: effect 0.4")
    assert "limit 0.1" in result.message
    assert "limit 0.01" in result.message


@pytest.mark.parametrize("rows", [2000, 200_000])
def test_a_difference_too_small_to_matter_is_no_drift_however_many_rows_show_it(rows):
    result = one(numbers(sample(rows, 0)), numbers(sample(rows, 1, 101)))
    assert result.status == "stable"
    assert result.effect < LIMITS.effect


def test_a_large_effect_that_chance_explains_is_no_drift():
    result = one(numbers(sample(100, 0)), numbers(sample(100, 3, 104)))
    assert result.effect > LIMITS.effect
    assert result.status == "stable"


def test_a_new_level_at_ten_percent_is_found():
    assert one(levels(a=5000, b=5000), levels(a=900, b=900, new=200)).status == "drift"


def test_a_score_shift_of_five_points_is_found_whatever_the_model_spreads_its_scores_over():
    for low, high in ((0.02, 0.06), (0.0, 0.9)):
        rng = np.random.default_rng(0)
        before, after = rng.uniform(low, high, 10_000), rng.uniform(low, high, 2000) + 0.05
        assert one(numbers(before), numbers(after), SCORE).status == "drift"
        assert one(numbers(before), numbers(rng.uniform(low, high, 2000) + 0.01), SCORE).status == "stable"


def test_the_positive_rate_is_reported_by_its_name():
    result = one(levels(yes=2500, no=7500), levels(yes=1200, no=800), POSITIVE_RATE)
    assert result.status == "drift"
    assert result.message.startswith("the predicted positive rate drifts")


def test_one_outlier_in_the_reference_does_not_hide_a_shift():
    wild = np.append(NORMAL, 1e9)
    assert spread_of(wild) == pytest.approx(spread_of(NORMAL), rel=0.01)
    assert one(numbers(wild), numbers(sample(2000, 1, 110))).status == "drift"


@pytest.mark.parametrize(
    ("reference", "current", "words"),
    [
        (numbers(NORMAL), None, "the log has no such column"),
        (numbers(NORMAL), numbers([]), "the window has 0 values"),
        (numbers([1.0] * 10), numbers(NORMAL), "the reference has 10 values"),
        (numbers(NORMAL), levels(a=500), "the reference holds number, the window category"),
    ],
)
def test_what_cannot_be_tested_says_why_and_hides_no_other(reference, current, words):
    currents = {"good": numbers(sample(2000, 1, 110))} | ({"bad": current} if current else {})
    bad, good = detect_drift({"bad": reference, "good": numbers(NORMAL)}, currents, LIMITS)
    assert bad.status == "unknown"
    assert words in bad.message
    assert (bad.reference_values, bad.values, bad.p_value, bad.effect) == (0, 0, None, None)
    assert good.status == "drift"
    assert "limit 0.01" in good.message  # one column was tested, so it has the whole significance


@pytest.mark.parametrize("value", [0.0, 7.0, -1e300])
def test_constant_columns_are_compared_without_a_warning(value):
    same = numbers(np.full(500, value))
    assert one(same, same).status == "stable"
    assert one(numbers(NORMAL), same).status == "drift"
    assert one(levels(a=500), levels(a=900)).status == "stable"


def test_levels_too_rare_for_the_test_are_taken_together():
    many = {f"l{n}": 1 for n in range(300)}
    assert compare_levels({"a": 10_000} | many, {"a": 2000} | dict.fromkeys(many, 0)).chi_square_p < 1e-9
    assert compare_levels({"a": 10_000, "rare": 1}, {"a": 2000}).chi_square_p == pytest.approx(0.65, abs=0.2)


few = settings(max_examples=20)
values = st.lists(st.floats(-1e6, 1e6), min_size=100, max_size=150)


@few
@given(values, values, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(before, after, random):
    result = one(numbers(before), numbers(after))
    random.shuffle(before)
    random.shuffle(after)
    again = one(numbers(before), numbers(after))
    assert again.status == result.status
    assert again.p_value == result.p_value
    assert again.effect == pytest.approx(result.effect)


@few
@given(values)
def test_a_column_beside_itself_never_drifts(column):
    result = one(numbers(column), numbers(column))
    assert result.status == "stable"
    assert result.ks == result.psi == result.jensen_shannon == 0
    assert result.effect == 0


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 500), min_size=1), st.integers(1, 5))
def test_levels_in_the_same_proportions_never_drift(counts, times):
    counts = counts | {"at least": 100}
    result = one(levels(**counts), levels(**{name: times * count for name, count in counts.items()}))
    assert result.status == "stable"
    assert result.chi_square == pytest.approx(0, abs=1e-9)


def test_two_hundred_windows_of_nothing_ask_for_no_retraining():
    rng = np.random.default_rng(0)
    reference = {f"n{c}": numbers(rng.lognormal(0, 1, 4000)) for c in range(2)}
    reference["level"] = levels(a=7000, b=2500, c=500)
    before: set[str] = set()
    alarmed = asked = 0
    for _ in range(200):
        current = {f"n{c}": numbers(rng.lognormal(0, 1, 2000)) for c in range(2)}
        drawn = rng.multinomial(2000, [0.7, 0.25, 0.05])
        current["level"] = levels(**dict(zip("abc", drawn.tolist(), strict=True)))
        now = set(drifting_columns(detect_drift(reference, current, LIMITS)))
        alarmed += bool(now)
        asked += bool(now & before)
        before = now
    assert alarmed <= 1
    assert asked == 0


def test_the_limits_are_the_contracts():
    strict = dataclasses.replace(LIMITS, effect=0.6)
    assert one(numbers(NORMAL), numbers(sample(2000, 1, 110)), limits=strict).status == "stable"


def test_a_limit_that_is_just_reached():
    """The test has to be below its level, the effect at its limit or above."""
    found = one(numbers(NORMAL), numbers(sample(2000, 1, 110)))
    for changes, status in (
        ({"effect": found.effect}, "drift"),
        ({"effect": np.nextafter(found.effect, 1.0)}, "stable"),
        ({"significance": found.p_value}, "stable"),
        ({"significance": np.nextafter(found.p_value, 1.0)}, "drift"),
    ):
        limits = dataclasses.replace(LIMITS, **changes)
        assert one(numbers(NORMAL), numbers(sample(2000, 1, 110)), limits=limits).status == status

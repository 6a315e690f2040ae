"""The policy file, the choice of an arm, and counts that add up."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.errors import PolicyCorrupt
from churn_assets.release import counts
from churn_assets.release.policy import (
    CHALLENGER,
    CHAMPION,
    POLICY,
    Policy,
    PolicyArm,
    Step,
    policy_from_json,
    read_policy,
    share_of,
    write_policy,
)

AT = dt.datetime(2026, 11, 27, 8, 0, tzinfo=dt.UTC)
STEPS = tuple(Step(weight, 30.0, 1000) for weight in (0.05, 0.25, 0.5, 1.0))


def arm(name, weight):
    return PolicyArm(name, f"{name}-version", f"bundles/{name}", "ab" * 32, weight)


ARM = vars(arm(CHAMPION, 1.0))


def canary(weight, step=0):
    arms = (arm(CHALLENGER, weight), arm(CHAMPION, 1.0 - weight))
    return Policy("r000001", "canary", arms, "5a17", "ana", "try it", AT, STEPS, step, AT)


def test_a_policy_is_stored_whole(tmp_path):
    policy = canary(0.25, 1)
    write_policy(tmp_path, policy)
    assert read_policy(tmp_path) == policy
    assert policy_from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_a_limit_that_an_older_policy_does_not_have_is_the_default():
    stored = canary(0.25, 1).to_json()
    del stored["limits"]["max_distribution_shift"]
    assert policy_from_json(stored) == canary(0.25, 1)
    assert policy_from_json(stored).limits.max_distribution_shift == 0.1


def test_a_home_without_a_policy_has_none(tmp_path):
    assert read_policy(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "random"},
        {"arms": []},
        {"unknown": 1},
        {"step": 9},
        {"at": "2026-11-27T08:00:00"},
        {"arms": [{**ARM, "bundle": "../elsewhere"}]},
        {"arms": [{**ARM, "weight": 0.5}]},
        {"arms": [{**ARM, "weight": 0.5}, {**ARM, "weight": 0.5}]},
        {"arms": [{**ARM, "weight": 2.0}, {**ARM, "name": CHALLENGER, "weight": -1.0}]},
        {"arms": [{**ARM, "name": "else"}]},
    ],
)
def test_a_damaged_policy_is_refused_in_one_line(tmp_path, change):
    write_policy(tmp_path, canary(0.5, 2))
    stored = json.loads((tmp_path / POLICY).read_text())
    (tmp_path / POLICY).write_text(json.dumps({**stored, **change}))
    with pytest.raises(PolicyCorrupt, match=r"^[^\n]*cannot be read[^\n]*expected a policy[^\n]*$"):
        read_policy(tmp_path)


@given(st.lists(st.text(max_size=30), max_size=50), st.text(min_size=1, max_size=20))
def test_a_growing_weight_moves_nobody_back(ids, salt):
    for customer in ids:
        share = share_of(salt, customer)
        assert 0.0 <= share < 1.0
        arms = [canary(step.weight, k).choose(share).name for k, step in enumerate(STEPS)]
        assert arms == sorted(arms, reverse=True)  # champion, ..., champion, challenger, ..., challenger
        assert arms[-1] == CHALLENGER


def test_ids_fall_on_all_shares_alike():
    inside = sum(share_of("a salt", str(number)) < 0.05 for number in range(200_000))
    assert abs(inside - 10_000) < 4 * (200_000 * 0.05 * 0.95) ** 0.5
    both = sum(share_of("a", str(n)) < 0.5 and share_of("b", str(n)) < 0.5 for n in range(20_000))
    assert abs(both - 5_000) < 4 * (20_000 * 0.25 * 0.75) ** 0.5  # another salt, another choice


def test_every_share_has_an_arm():
    arms = (arm("one", 0.1), arm("two", 0.2), arm(CHAMPION, 0.7))
    policy = dataclasses.replace(canary(0.5), kind="ab", arms=arms, steps=(), step_since=None)
    assert [policy.choose(x).name for x in (0.0, 0.1, 0.29, 0.31, 1.0 - 2**-53)] == [
        "one",
        "two",
        "two",
        CHAMPION,
        CHAMPION,
    ]


def test_counts_of_processes_add_up(tmp_path):
    whole = counts.ReleaseCounts()
    parts = [counts.ReleaseCounts(), counts.ReleaseCounts()]
    for number in range(200):
        row = (number / 200, number > 100, number % 7 == 0, 1e-5 * (1 + number))
        for each in (whole, parts[number % 2]):
            each.arm(CHAMPION if number % 3 else CHALLENGER).scored(*row)
    for number, part in enumerate(parts):
        part.pairs.flips, part.pairs.rows = number, 10
        counts.write_counts(tmp_path, "r000001", counts.writer_name(f"worker{number}"), part)
    (counts.counts_folder(tmp_path, "r000001") / "broken.json").write_text("{")
    read = counts.read_counts(tmp_path, "r000001")
    assert read.pairs == counts.PairCounts(rows=20, flips=1)
    for name in (CHAMPION, CHALLENGER):
        left, right = read.arms[name], whole.arms[name]
        assert left.score_sum == pytest.approx(right.score_sum)
        assert left.score_squares == pytest.approx(right.score_squares)
        assert (left.rows, left.called, left.warned, left.scores) == (
            right.rows,
            right.called,
            right.warned,
            right.scores,
        )
        assert left.seconds == right.seconds


@given(st.floats(1e-7, 100.0))
def test_a_time_lies_in_its_bin(seconds):
    place = counts.seconds_bin(seconds)
    assert seconds <= counts.seconds_of(place) * (1 + 1e-9)
    assert place == 0 or seconds > counts.seconds_of(place - 1) * (1 - 1e-9)


@pytest.mark.parametrize("weight", [0.05, 1.0])
@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("customers", [0, 1, 40, 3000])
def test_a_customer_of_several_processes_is_counted_once(tmp_path, processes, customers, weight):
    """Also one whose process was killed and has begun anew: its file stays."""
    shares = [weight * share_of("a salt", str(number)) for number in range(customers)]
    alone = counts.ReleaseCounts()
    for process in range(processes):
        part = counts.ReleaseCounts()
        for share in shares[process * customers // 8 :]:
            for each in (part, alone):
                each.arm(CHALLENGER).scored(0.5, True, False, None)
                each.arm(CHALLENGER).saw(share)
        counts.write_counts(tmp_path, "r000001", f"worker-{process}", part)
    read = counts.read_counts(tmp_path, "r000001").arm(CHALLENGER)
    assert read == counts.sum_counts([alone]).arm(CHALLENGER)
    assert abs(read.customers - customers) <= 0.01 * customers


@pytest.mark.parametrize("customers", [1000, 100_000])
def test_the_number_of_customers_is_as_exact_as_its_docstring_says(customers):
    errors = []
    for seed in range(20):
        arm, rng = counts.ArmCounts(), random.Random(seed)
        for _ in range(customers):
            arm.saw(rng.random())
        errors.append(counts.seen_customers(arm.seen) / customers - 1)
    assert sum(error**2 for error in errors) / len(errors) < 0.005**2
    assert abs(sum(errors)) / len(errors) < 0.002


def test_a_full_set_counts_as_the_most_that_it_can_tell():
    assert counts.seen_customers(b"\xff" * 8192) == 726_817


def test_counts_of_another_shape_are_left_out(tmp_path):
    part = counts.ReleaseCounts()
    part.arm(CHALLENGER).saw(0.5)
    counts.write_counts(tmp_path, "r000001", "worker-1", part)
    file = counts.counts_folder(tmp_path, "r000001") / "worker-1.json"
    stored = json.loads(file.read_text())
    stored["arms"][CHALLENGER]["seen"] = stored["arms"][CHALLENGER]["seen"][:8]
    (file.parent / "worker-2.json").write_text(json.dumps(stored))
    assert counts.read_counts(tmp_path, "r000001").arm(CHALLENGER).customers == 1

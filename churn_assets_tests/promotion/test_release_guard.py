"""The guard of a release: it advances, promotes and rolls back by itself, once, whatever the disk or the ledger do."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import sqlite3
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from churn_assets.contract.limits import Release
from churn_assets.errors import LedgerUnavailable, TransitionRefused
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import ChampionPointer, require_champion
from churn_assets.promotion.releases import AbArm, Releases
from churn_assets.promotion.rollout.guard import LOCK, ReleaseGuard
from churn_assets.release.counts import GUARDRAILS, counts_folder, write_counts
from churn_assets.release.guardrails import LabelFigures, read_report, write_label_figures
from churn_assets.release.policy import CHALLENGER, CHAMPION, POLICY, read_policy
from churn_assets.storage.lock import file_lock
from churn_assets_tests.disks import fill, small_disk
from churn_assets_tests.promotion.homes import AT, champion, home_with, moves
from churn_assets_tests.promotion.test_releases import challenge
from churn_assets_tests.release.test_guardrails import period
from churn_assets_tests.scoring.tiny import CONTRACT

USED = dataclasses.replace(
    CONTRACT, release=Release(canary_weights=(0.25, 0.5, 1.0), canary_hold_minutes=10, canary_rows=500)
)


def make_home(folder):
    """(settings, champion, approved challenger)."""
    settings, (v1, v2) = home_with(folder, 2)
    moves(settings).move(champion(v1), "first", "training", "the first")
    challenge(settings, v2, against=v1)
    return settings, v1, v2


@pytest.fixture
def home(tmp_path):
    return make_home(tmp_path)


def releases(settings, at=AT):
    return Releases(settings, Ledger(settings.ledger_path), ChampionPointer(settings.home), lambda: at, lambda: USED)


def guard_of(settings, at=AT, told=None, **options):
    """A guard of the home at an instant; what it reports goes to `told`."""
    report = lambda level, event, **facts: (told if told is not None else []).append((level, event, facts))  # noqa: E731
    return ReleaseGuard(
        settings, report, moves=options.pop("moves", lambda: releases(settings, at)), clock=lambda: at, **options
    )


def count(settings, found):
    """Counts of a worker for the policy in force."""
    policy = read_policy(settings.home)
    write_counts(settings.home, policy.id, "worker-1", found.counts)
    return policy


def newest(settings):
    return Ledger(settings.ledger_path).newest_policy_move("done")


def test_without_a_release_nothing_is_written(home):
    settings, _, _ = home
    guard_of(settings).check()
    assert not (settings.home / "releases").exists()


def test_workers_look_in_turns_but_for_one_that_has_a_rollback_to_finish(home):
    settings, _, v2 = home
    releases(settings).canary(v2, "ana", "it passed")
    policy = count(settings, period(errors=0))
    one, other = (guard_of(settings, every_s=60.0) for _ in range(2))
    assert one.check().startswith(f"{policy.id}: hold")
    assert other.check() == one.check() == f"{policy.id}: looked at a moment ago"
    lock = counts_folder(settings.home, policy.id) / LOCK
    for age_s in (61.0, -61.0):  # a while ago; by a clock that was set back since
        at = time.time() - age_s
        os.utime(lock, (at, at))
        assert other.check().startswith(f"{policy.id}: hold")
    count(settings, period(0.25, errors=90))

    def end(*_):
        raise LedgerUnavailable("the ledger is locked")

    failing = guard_of(settings, every_s=60.0, moves=lambda: SimpleNamespace(end=end))
    os.utime(lock, (0, 0))
    assert "locked" in failing.check()
    assert "locked" in failing.check(), "what is crossed is not put off"
    assert guard_of(settings, every_s=60.0).check() == f"{policy.id}: looked at a moment ago"


def test_a_canary_advances_through_its_steps_and_is_promoted(home):
    settings, _, v2 = home
    releases(settings).canary(v2, "ana", "it passed")
    told = []
    for step, weight, found in (
        (0, 0.25, period(rows=(600, 1800))), (1, 0.5, period(rows=(3000, 3000), seed=1)),
        (2, 1.0, period(rows=(600, 0), seed=2)),
    ):  # fmt: skip
        at = AT + step * timedelta(minutes=11)
        policy = count(settings, found)
        assert (policy.step, policy.challenger.weight) == (step, weight)
        guard_of(settings, at, told).check()
        assert (read_policy(settings.home).id, read_report(settings.home, policy.id).waiting) == (policy.id, "time")
        guard_of(settings, at + timedelta(minutes=11), told).check()
    assert require_champion(settings.home).version == v2
    assert (newest(settings).kind, newest(settings).by, newest(settings).outcome) == ("promote", "service", "promoted")
    assert newest(settings).numbers["status"] == "clear"
    assert {check["rows"] for check in newest(settings).numbers["checks"]} == {3600, 4200}  # of all steps
    assert [facts["move"] for _, _, facts in told] == ["advance", "advance", "promote"]


@pytest.mark.parametrize("kind", ["shadow", "canary", "ab"])
def test_what_is_crossed_ends_the_release_with_reason_and_numbers(home, kind):
    settings, v1, v2 = home
    start = {
        "shadow": lambda r: r.shadow(v2, "ana", "look"),
        "canary": lambda r: r.canary(v2, "ana", "try"),
        "ab": lambda r: r.ab({CHALLENGER: AbArm(v2, 0.5)}, "ana", "compare"),
    }
    start[kind](releases(settings))
    policy = count(settings, period(0.0 if kind == "shadow" else 0.25, errors=90))
    told = []
    guard = guard_of(settings, told=told)
    guard.check()
    end = newest(settings)
    assert (end.kind, end.outcome, end.by, end.before.id) == ("end", "rolled_back", "service", policy.id)
    assert "rows with an error" in end.why
    assert end.numbers["move"] == "rollback"
    assert read_policy(settings.home).kind == "champion"
    assert require_champion(settings.home).version == v1
    assert [(level, event) for level, event, _ in told] == [(logging.ERROR, "release moved")]
    guard.check()  # no flapping: nothing follows
    assert newest(settings) == end


def test_a_release_without_a_conclusion_ends_at_its_deadline(home):
    settings, _, v2 = home
    policy = releases(settings).canary(v2, "ana", "try").after
    guard_of(settings, AT + timedelta(days=13)).check()
    assert read_policy(settings.home) == policy
    guard_of(settings, AT + timedelta(days=14)).check()
    assert (newest(settings).outcome, newest(settings).numbers["move"]) == ("inconclusive", "inconclusive")


@pytest.mark.parametrize("damage", ["another model", "no manifest"])
def test_a_step_that_is_refused_is_tried_until_the_deadline_ends_the_release(home, damage):
    """The bundle of the challenger changes on disk while it answers everybody."""
    settings, v1, v2 = home
    releases(settings).canary(v2, "ana", "it passed")
    told = []
    for step, found in enumerate((period(rows=(600, 1800)), period(rows=(3000, 3000), seed=1))):
        count(settings, found)
        guard_of(settings, AT + (step + 1) * timedelta(minutes=11), told).check()
    policy = count(settings, period(rows=(600, 0), seed=2))
    assert policy.step == 2
    if damage == "another model":
        shutil.copytree(settings.bundles_dir / v1, settings.bundles_dir / v2, dirs_exist_ok=True)
    else:
        (settings.bundles_dir / v2 / "manifest.json").unlink()
    guard = guard_of(settings, AT + timedelta(days=13), told)
    for _ in range(2):
        guard.check()
    assert read_policy(settings.home) == policy
    assert [event for _, event, _ in told] == ["release moved", "release moved", "guardrails of the release"]
    guard_of(settings, AT + timedelta(days=14), told).check()
    end = newest(settings)
    assert (end.outcome, end.by, end.numbers["move"]) == ("inconclusive", "service", "inconclusive")
    assert f"has passed, and the move promote is refused: {told[-2][2]['reason'][:60]}" in end.why
    assert (read_report(settings.home, policy.id).move, told[-1][1]) == ("inconclusive", "release moved")
    assert require_champion(settings.home).version == v1
    assert read_policy(settings.home).kind == "champion"


@pytest.mark.parametrize("step", ["of this step", "of the step before"])
def test_final_labels_roll_back(home, step):
    settings, _, v2 = home
    policy = releases(settings).canary(v2, "ana", "try").after
    if step == "of the step before":
        releases(settings).advance(policy.id)
    write_label_figures(
        settings.home, policy.id, {CHALLENGER: LabelFigures(900, -0.08, -0.12, -0.04, 0.0, -0.01, 0.005)}
    )
    guard_of(settings).check()
    assert newest(settings).outcome == "rolled_back"
    assert "PR-AUC, fall 0.080 (0.040 to 0.120), limit 0.020" in newest(settings).why


def test_a_crossing_stays_one_until_the_ledger_takes_it(home):
    """The ledger is locked at the first look; at the next the counts show nothing any more."""
    settings, _, v2 = home
    releases(settings).canary(v2, "ana", "try")
    policy = count(settings, period(0.25, errors=90))
    told, looks = [], []

    def end(*args, **facts):
        looks.append(args)
        if len(looks) < 3:
            raise LedgerUnavailable("ledger.db: cannot be used now (locked)")
        return releases(settings).end(*args, **facts)

    guard = guard_of(settings, told=told, moves=lambda: SimpleNamespace(end=end))
    guard.check()
    count(settings, period(0.25))
    guard.check()
    assert [event for _, event, _ in told] == ["guardrails of the release"]  # the same trouble is told once
    guard.check()
    assert (newest(settings).outcome, newest(settings).before.id) == ("rolled_back", policy.id)


def test_a_report_that_cannot_be_written_holds_no_rollback_up(home):
    settings, _, v2 = home
    releases(settings).canary(v2, "ana", "try")
    policy = count(settings, period(0.25, errors=90))
    (counts_folder(settings.home, policy.id) / GUARDRAILS).mkdir()  # as good as a full disk: it cannot be replaced
    told = []
    guard_of(settings, told=told).check()
    assert newest(settings).outcome == "rolled_back"
    assert [event for _, event, _ in told] == ["guardrails of the release", "release moved"]


def test_one_worker_looks_at_a_time(home):
    settings, _, v2 = home
    policy = releases(settings).canary(v2, "ana", "try").after
    count(settings, period(0.25, errors=90))
    told = []
    with file_lock(counts_folder(settings.home, policy.id) / LOCK):
        guard_of(settings, told=told).check()
    assert (read_policy(settings.home), told) == (policy, [])


def test_a_report_is_written_when_it_says_something_else(home):
    settings, _, v2 = home
    policy = releases(settings).canary(v2, "ana", "try").after
    guard = guard_of(settings)
    path = counts_folder(settings.home, policy.id) / GUARDRAILS
    stamps = []
    for found in (period(rows=(300, 300)), None, period(rows=(400, 400))):
        if found is not None:
            count(settings, found)
        guard.check()
        stamps.append(path.stat().st_ino)
    assert stamps[0] == stamps[1] != stamps[2]


@pytest.mark.parametrize("trouble", ["a damaged policy", "a damaged report", "a damaged ledger", "damaged labels"])
def test_damage_is_told_once_and_ends_nothing(home, trouble):
    settings, _, v2 = home
    policy = releases(settings).canary(v2, "ana", "try").after
    at = AT + timedelta(minutes=11)
    count(settings, period(rows=(600, 600)))
    match trouble:
        case "a damaged policy":
            (settings.home / POLICY).write_text("{")
        case "a damaged report":
            (counts_folder(settings.home, policy.id) / GUARDRAILS).write_text("{")
        case "damaged labels":
            (counts_folder(settings.home, policy.id) / "labels.json").write_text('{"arms": 3}')
        case "a damaged ledger":
            settings.ledger_path.write_bytes(b"no ledger" * 100)
    told = []
    guard = guard_of(settings, at, told)
    for _ in range(2):
        guard.check()
    events = [event for _, event, _ in told]
    trouble_events = [] if trouble == "a damaged report" else ["guardrails of the release"]
    moved = ["release moved"] if trouble in ("a damaged report", "damaged labels") else []  # these hold nothing up
    assert events == trouble_events + moved


def test_a_person_who_rolls_back_a_second_after_the_guard_leaves_the_champion(home):
    settings, v1, v2 = home
    releases(settings).promote(v2, "ana", "it passed")
    releases(settings).canary(v1, "ana", "was it better")
    count(settings, period(0.25, errors=90))
    guard_of(settings).check()
    assert newest(settings).outcome == "rolled_back"
    with pytest.raises(TransitionRefused, match=f"^no release runs: service has ended the canary of {v1} on "):
        releases(settings).rollback("ben", "complaints")
    assert require_champion(settings.home).version == v2


def test_a_pointer_that_moved_ends_the_watch(home):
    settings, v1, v2 = home
    policy = releases(settings).canary(v2, "ana", "try").after
    count(settings, period(0.25, errors=90))
    pointer = settings.home / "champion.json"
    pointer.write_text(pointer.read_text().replace(v1, v2))
    guard_of(settings).check()
    assert read_policy(settings.home) == policy
    assert read_report(settings.home, policy.id) is None


def test_a_ledger_that_is_locked_for_real_is_waited_for(home):
    settings, _, v2 = home
    releases(settings).canary(v2, "ana", "try")
    count(settings, period(0.25, errors=90))
    other = sqlite3.connect(settings.ledger_path)
    other.execute("BEGIN IMMEDIATE")
    told = []

    class Impatient(Ledger):
        busy_s = 0.1

    ledger = Impatient(settings.ledger_path)
    impatient = Releases(settings, ledger, ChampionPointer(settings.home), lambda: AT, lambda: USED)
    guard = guard_of(settings, told=told, moves=lambda: impatient)
    guard.check()
    assert "cannot be used now" in told[-1][2]["reason"]
    other.rollback()
    other.close()
    guard.check()
    assert newest(settings).outcome == "rolled_back"
    assert CHAMPION in {arm.name for arm in read_policy(settings.home).arms}


def test_a_full_disk_puts_the_rollback_off_and_nothing_else_fails(tmp_path):
    with small_disk(tmp_path / "disk", 1024) as disk:
        settings, _, v2 = make_home(disk)
        policy = releases(settings).canary(v2, "ana", "try").after
        count(settings, period(0.25, errors=90))
        told = []
        guard = guard_of(settings, told=told)
        filler = fill(disk)
        for _ in range(2):
            guard.check()
        assert read_policy(settings.home) == policy
        assert told
        assert {event for _, event, _ in told} == {"guardrails of the release"}
        filler.unlink()
        guard.check()
        assert newest(settings).outcome == "rolled_back"
        assert read_report(settings.home, policy.id).move == "rollback"

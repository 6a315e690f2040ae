"""The moves of a release: what each leads to, what each refuses, and that a kill leaves no half of one."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import sqlite3
from datetime import timedelta

import pytest

from churn_assets.contract.limits import Release
from churn_assets.errors import (
    BundleCorrupt,
    BundleMismatch,
    LedgerCorrupt,
    LedgerUnavailable,
    NoChampion,
    RollbackRefused,
    TransitionRefused,
)
from churn_assets.promotion.ledger import SCHEMA, Ledger
from churn_assets.promotion.pointer import ChampionPointer, require_champion
from churn_assets.promotion.records import Person
from churn_assets.promotion.releases import AbArm, Releases
from churn_assets.release.counts import ReleaseCounts, counts_folder, write_counts
from churn_assets.release.policy import CHALLENGER, CHAMPION, POLICY, Policy, read_policy
from churn_assets.settings import Settings
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.promotion.homes import AT, bundle, champion, home_with, moves, verdict
from churn_assets_tests.scoring.tiny import CONTRACT, TEXT

STEPS = (0.05, 0.25, 1.0)
OWN = TEXT + "\n[release]\ncanary_weights = [0.02, 0.5]\ncanary_hold_minutes = 7\n"  # the contract in the bundles
USED = dataclasses.replace(CONTRACT, release=Release(canary_weights=STEPS, canary_hold_minutes=10, canary_rows=50))


@pytest.fixture
def home(tmp_path):
    """(settings, former champion, champion, approved challenger)."""
    settings, (v0, v1, v2) = home_with(tmp_path, 3, OWN)
    moves(settings).move(champion(v0), "first", "training", "the first")
    challenge(settings, v1, against=v0)
    moves(settings).move(champion(v1), "promotion", "the gate", "no worse")
    challenge(settings, v2, against=v1)
    return settings, v0, v1, v2


def challenge(settings, version, against, passed=True, needs_person=False):
    """Let a version pass the gate against a champion, or not."""
    ledger = Ledger(settings.ledger_path)
    ledger.add_challenger(version, f"bundles/{version}", bundle_hash(settings.bundles_dir / version), None, None, AT)
    judged = dataclasses.replace(verdict(version, passed), champion=against)
    ledger.record_verdict(version, judged, needs_person=needs_person, at=AT)


def releases(settings, ledger=None, pointer=None, at=AT):
    ledger, pointer = ledger or Ledger(settings.ledger_path), pointer or ChampionPointer(settings.home)
    return Releases(settings, ledger, pointer, lambda: at, lambda: USED)


def answering(settings) -> dict[str, tuple[str, float]]:
    """Arms in force: version and weight by name."""
    return {arm.name: (arm.version, arm.weight) for arm in in_force(settings).arms}


def in_force(settings) -> Policy:
    policy = read_policy(settings.home)
    assert policy is not None
    assert policy.champion.version == require_champion(settings.home).version
    assert policy == Ledger(settings.ledger_path).newest_policy_move("done").after
    return policy


def status_of(settings, version):
    return Ledger(settings.ledger_path).challenger(version).status


def test_every_move_of_the_champion_writes_a_policy_with_who_and_why(home):
    settings, v0, v1, _ = home
    told = [(m.kind, m.after.champion.version, m.by, m.why) for m in Ledger(settings.ledger_path).policy_moves("done")]
    assert told == [("champion", v0, "training", "the first"), ("champion", v1, "the gate", "no worse")]
    assert (in_force(settings).id, in_force(settings).kind) == ("r000002", "champion")


def test_a_challenger_is_let_in_step_by_step_and_becomes_champion(home):
    settings, _, v1, v2 = home
    shadow = releases(settings).shadow(v2, "ana", "look at it first")
    assert answering(settings) == {CHALLENGER: (v2, 0.0), CHAMPION: (v1, 1.0)}
    canary = releases(settings).canary(v2, "ana", "it agrees", expected=shadow.after.id)
    assert answering(settings) == {CHALLENGER: (v2, 0.05), CHAMPION: (v1, 0.95)}
    assert [arm.name for arm in canary.after.arms] == [CHALLENGER, CHAMPION]
    assert (canary.after.step_since, canary.after.deadline_at) == (AT, AT + timedelta(days=14))
    assert [(s.weight, s.hold_minutes, s.rows) for s in canary.after.steps] == [(w, 10, 50) for w in STEPS]
    later = AT + timedelta(hours=1)
    second = releases(settings, at=later).advance(canary.after.id)
    assert (second.by, second.after.step, second.after.step_since) == ("service", 1, later)
    assert answering(settings)[CHALLENGER] == (v2, 0.25)
    third = releases(settings).advance(second.after.id, numbers={"rows": 3})
    assert (third.numbers, answering(settings)[CHALLENGER]) == ({"rows": 3}, (v2, 1.0))
    assert {m.after.salt for m in (shadow, canary, second, third)} == {shadow.after.salt}
    assert releases(settings).status().rollout == ("r000003", "r000004", "r000005", "r000006")
    assert status_of(settings, v2) == "approved"
    promoted = releases(settings).advance(third.after.id, why="all steps held", numbers={"rows": 9})
    assert (promoted.kind, promoted.outcome, promoted.by, promoted.numbers) == (
        "promote", "promoted", "service", {"rows": 9},
    )  # fmt: skip
    assert (require_champion(settings.home).version, status_of(settings, v2)) == (v2, "promoted")
    assert answering(settings) == {CHAMPION: (v2, 1.0)}


@pytest.mark.parametrize("named", [None, "contracts/telecom.toml", "none.toml"])
def test_a_move_goes_by_the_contract_of_the_home_whatever_the_environment_names(home, named):
    _, _, _, v2 = home
    environ = {"CHURN_HOME": str(home[0].home)} | ({"CHURN_CONTRACT": named} if named else {})
    strange = Releases.of(Settings.from_environ(environ))
    policy = strange.canary(v2, "ana", "try it").after
    assert [(step.weight, step.hold_minutes) for step in policy.steps] == [(0.02, 7), (0.5, 7)]
    last = strange.advance(policy.id).after
    strange.advance(last.id, why="all steps held")
    assert require_champion(home[0].home).version == v2
    assert require_champion(home[0].home).fingerprint == CONTRACT.fingerprint


def test_an_edited_contract_of_the_same_tables_is_the_one_in_use_and_another_that_is_named_is_refused(home, tmp_path):
    settings, _, _, v2 = home
    edited = tmp_path / "edited.toml"
    edited.write_text(OWN.replace("[0.02, 0.5]", "[0.3]"))
    by_store = dataclasses.replace(settings, contract_path=Settings.from_environ({}).contract_path)
    for move in ("canary", "promote"):
        with pytest.raises(BundleMismatch, match=r"store\.toml: is contract 'store' .* expected"):
            getattr(Releases.of(by_store, is_named=True), move)(v2, "ana", "try it")
    policy = Releases.of(dataclasses.replace(settings, contract_path=edited)).canary(v2, "ana", "try it").after
    assert [step.weight for step in policy.steps] == [0.3]


def test_another_version_has_another_salt_and_so_has_the_next_release_of_the_same(home):
    settings, _, _, v2 = home
    other = bundle(settings.home, "other")
    salts = [releases(settings).shadow(v, "ana", "look").after.salt for v in (v2, other, v2)]
    assert len(set(salts)) == 3
    assert min(map(len, salts)) == 32
    assert [m.outcome for m in Ledger(settings.ledger_path).policy_moves()][-3:] == ["", "replaced", "replaced"]


@pytest.mark.parametrize(
    ("weight", "shares"),
    [(0.1, [0.1, 0.25, 1.0]), (0.25, [0.25, 1.0]), (0.01, [0.01, 0.05, 0.25, 1.0]), (0.99, [0.99, 1])],
)
def test_a_canary_starts_at_exactly_the_weight_that_was_asked_for(home, weight, shares):
    settings, _, _, v2 = home
    policy = releases(settings).canary(v2, "ana", "carefully", weight=weight).after
    assert ([step.weight for step in policy.steps], policy.challenger.weight) == (shares, weight)


def test_an_ab_gives_named_arms_their_shares_and_the_champion_the_rest(home):
    settings, v0, v1, v2 = home
    move = releases(settings).ab({"old": AbArm(v0, 0.2), "new": AbArm(v2, 0.3)}, "ana", "which one")
    assert answering(settings) == {"old": (v0, 0.2), "new": (v2, 0.3), CHAMPION: (v1, 0.5)}
    assert (move.after.steps, move.after.deadline_at) == ((), AT + timedelta(days=14))
    assert releases(settings).promote(v2, "ana", "it won").outcome == "promoted"
    assert answering(settings) == {CHAMPION: (v2, 1.0)}


def test_a_former_champion_counts_as_passed_and_becomes_champion_again(home):
    settings, v0, _, _ = home
    first = releases(settings).canary(v0, "ana", "was it better", weight=0.9).after
    last = releases(settings).advance(first.id).after
    assert releases(settings).advance(last.id).outcome == "promoted"
    assert require_champion(settings.home).version == v0


def test_a_rollback_ends_the_release_and_without_one_goes_to_the_former_champion(home):
    settings, v0, v1, v2 = home
    releases(settings).canary(v2, "ana", "try it")
    move = releases(settings).rollback("ben", "complaints")
    assert (move.kind, move.outcome, move.by) == ("rollback", "rolled_back", "ben")
    assert (answering(settings), status_of(settings, v2)) == ({CHAMPION: (v1, 1.0)}, "rejected")
    assert releases(settings).rollback("ben", "still", move.after.id).after.champion.version == v0
    assert require_champion(settings.home).version == v0


def by_a_person(settings, policy):
    releases(settings).rollback("ben", "complaints")


def by_the_guard(settings, policy):
    releases(settings).end(policy.id, "rolled_back", "complaints")


def by_its_deadline(settings, policy):
    releases(settings).end(policy.id, "inconclusive", "complaints")


def by_a_rejection(settings, policy):
    Ledger(settings.ledger_path).reject(policy.challenger.version, Person("ben"), "complaints", AT)


def by_the_champion(settings, policy):
    moves(settings).rollback(None, "ben", "complaints")


ENDS = (by_a_person, by_the_guard, by_its_deadline, by_the_champion)


@pytest.mark.parametrize(
    ("end", "kind"), [(by_a_rejection, "canary"), *((end, kind) for end in ENDS for kind in ("shadow", "canary"))]
)
def test_a_rollback_of_a_release_that_has_just_ended_leaves_the_champion(home, end, kind):
    settings, v0, v1, v2 = home
    policy = getattr(releases(settings), kind)(v2, "ana", "try it").after
    end(settings, policy)
    releases(settings).recover()
    before = in_force(settings)
    champion_now = v0 if end is by_the_champion else v1
    for expected in (None, CHAMPION):
        with pytest.raises(
            TransitionRefused, match=rf"^no release runs: \w+ has ended the {kind} of {v2} on 2026-"
        ) as e:
            releases(settings).rollback("ana", "complaints", expected)
        assert "complaints), and champion " in str(e.value)
        if end is by_the_champion:
            assert str(e.value).endswith(". Nothing is left to end, and no champion was before this one")
        else:
            assert str(e.value).endswith(f": churn rollback --to {v0}, or churn release rollback --expect {before.id}")
    with pytest.raises(TransitionRefused, match=f"policy {before.id} is in force"):
        releases(settings).rollback("ana", "complaints", policy.id)
    assert (in_force(settings), answering(settings)) == (before, {CHAMPION: (champion_now, 1.0)})


def test_a_promotion_is_rolled_back_though_it_has_ended_a_release(home):
    settings, _, v1, v2 = home
    releases(settings).canary(v2, "ana", "try it")
    releases(settings).promote(v2, "ana", "it won")
    assert releases(settings).rollback("ben", "complaints").after.champion.version == v1


def by_a_canary(r, v):
    policy = r.canary(v, "ana", "try it", weight=0.9).after
    r.advance(r.advance(policy.id).after.id)


def by_a_person_in_a_shadow(r, v):
    r.shadow(v, "ana", "look")
    r.promote(v, "ana", "it agrees")


def by_an_ab(r, v):
    r.ab({"other": AbArm(v, 0.5)}, "ana", "which one")
    r.promote(v, "ana", "it won")


PROMOTIONS = (by_a_canary, by_a_person_in_a_shadow, by_an_ab)


@pytest.mark.parametrize("is_former", [False, True], ids=["challenger", "former champion"])
@pytest.mark.parametrize("promote", [*PROMOTIONS, None])
def test_of_two_who_undo_the_same_promotion_the_second_undoes_nothing_more(home, promote, is_former):
    """With None by the gate itself, before a release of any kind."""
    settings, v0, v1, v2 = home
    version, before = (v0 if is_former else v2, v1) if promote else (v1, v0)
    if promote:
        promote(releases(settings), version)
    assert require_champion(settings.home).version == version
    rolled_back = releases(settings).rollback("ana", "complaints since noon").after
    assert rolled_back.champion.version == before
    for by, expected in (("ben", None), ("ana", None), ("ben", CHAMPION)):
        with pytest.raises(RollbackRefused) as refusal:
            releases(settings).rollback(by, "complaints since noon", expected)
        told = (
            f"ana has gone back from {version} to {before} on 2026-11-21 12:00:00 UTC (complaints since noon), expected"
        )
        assert str(refusal.value).startswith(told)
        assert "\n" not in str(refusal.value)
    with pytest.raises(RollbackRefused, match="ana has gone back from"):
        moves(settings).rollback(None, "ben", "complaints since noon")
    assert in_force(settings) == rolled_back
    if promote is None:
        assert "there is no champion before the present one" in str(refusal.value)
        return
    assert f": churn rollback --to {v0}, or churn release rollback --expect {rolled_back.id}" in str(refusal.value)
    assert releases(settings).rollback("ben", "it too", rolled_back.id).after.champion.version == v0


def test_a_release_between_does_not_make_a_second_rollback_go_further(home):
    settings, v0, _, v2 = home
    releases(settings).promote(v2, "ana", "needed today")
    releases(settings).rollback("ana", "complaints")
    releases(settings).shadow(v2, "ben", "why was it")
    releases(settings).shadow(v0, "ben", "and this")
    ended = releases(settings).rollback("ben", "seen enough").after
    with pytest.raises(TransitionRefused, match="no release runs: ben has ended the shadow"):
        releases(settings).rollback("ana", "complaints")
    assert in_force(settings) == ended


def again_in_shadow(r, v):
    r.shadow(v, "ana", "mine")
    return lambda: r.shadow(v, "ben", "mine")


def again_in_a_canary(r, v):
    r.canary(v, "ana", "mine")
    return lambda: r.canary(v, "ben", "mine")


def again_in_an_ab(r, v):
    r.ab({"new": AbArm(v, 0.5)}, "ana", "mine")
    return lambda: r.ab({"new": AbArm(v, 0.5)}, "ben", "mine")


def promoted_again(r, v):
    r.promote(v, "ana", "mine")
    return lambda: r.promote(v, "ben", "mine")


def promoted_after_its_rollback(r, v):
    promoted = promoted_again(r, v)
    r.rollback("cleo", "complaints")
    return promoted


def promoted_after_it_was_thrown_out(r, v):
    r.canary(v, "ana", "mine")
    r.rollback("cleo", "complaints")
    return lambda: r.promote(v, "ben", "mine")


@pytest.mark.parametrize(
    "again",
    [
        again_in_shadow, again_in_a_canary, again_in_an_ab, promoted_again, promoted_after_its_rollback,
        promoted_after_it_was_thrown_out,
    ],
)  # fmt: skip
def test_what_somebody_has_just_done_is_not_done_twice(home, again):
    settings, _, _, v2 = home
    second = again(releases(settings), v2)
    before = in_force(settings)
    with pytest.raises(TransitionRefused, match=v2):
        second()
    assert in_force(settings) == before


def test_a_shadow_that_a_person_ends_decides_nothing(home):
    settings, _, _, v2 = home
    releases(settings).shadow(v2, "ana", "look")
    releases(settings).rollback("ana", "seen enough")
    assert status_of(settings, v2) == "approved"


NUMBERS = {"status": "crossed", "checks": [{"check": "error_rate", "value": 0.1, "limit": 0.005, "status": "crossed"}]}


@pytest.mark.parametrize("outcome", ["rolled_back", "inconclusive"])
def test_a_version_that_was_thrown_out_needs_a_person(home, outcome):
    settings, _, v1, v2 = home
    policy = releases(settings).canary(v2, "loop", "the gate has passed it").after
    move = releases(settings).end(policy.id, outcome, "errors rise by 10 points", NUMBERS)
    assert (move.outcome, move.numbers, move.by) == (outcome, NUMBERS, "service")
    assert answering(settings) == {CHAMPION: (v1, 1.0)}
    assert Ledger(settings.ledger_path).challengers_to_promote() == []
    assert Ledger(settings.ledger_path).state().waiting is None  # it holds up no retraining
    for by in ("loop", "service"):
        with pytest.raises(TransitionRefused, match=r"thrown out on .* by service \(errors rise .*expected a person"):
            releases(settings).canary(v2, by, "again")
    assert status_of(settings, v2) == "rejected"
    again = releases(settings).canary(v2, "ana", "the proxy was at fault").after
    assert (status_of(settings, v2), again.salt != policy.salt) == ("approved", True)
    assert releases(settings).promote(v2, "ana", "it was").outcome == "promoted"


def test_what_a_person_rejects_stays_rejected_though_it_was_thrown_out_before(home):
    settings, _, _, v2 = home
    policy = releases(settings).canary(v2, "loop", "the gate has passed it").after
    releases(settings).end(policy.id, "rolled_back", "errors rise", NUMBERS)
    releases(settings).canary(v2, "ana", "the proxy was at fault")
    Ledger(settings.ledger_path).reject(v2, Person("ana"), "wrong for new customers", AT)
    releases(settings).recover()
    for by in ("ana", "ben", "loop"):
        with pytest.raises(TransitionRefused, match=r"is rejected \(wrong for new customers\), expected one that"):
            releases(settings).canary(v2, by, "again")
    assert status_of(settings, v2) == "rejected"


def test_what_ends_a_shadow_rejects_what_waits_only_if_a_guardrail_was_crossed(home):
    settings, _, v1, _ = home
    waiting = bundle(settings.home, "waiting")
    challenge(settings, waiting, v1, needs_person=True)
    policy = releases(settings).shadow(waiting, "ana", "look").after
    releases(settings).end(policy.id, "inconclusive", "14 days have passed")
    assert status_of(settings, waiting) == "waiting_approval"
    policy = releases(settings).shadow(waiting, "ana", "look").after
    releases(settings).end(policy.id, "rolled_back", "its scores are 0")
    assert status_of(settings, waiting) == "rejected"


def test_a_champion_that_moves_by_other_ways_ends_the_release_with_the_reason(home):
    settings, v0, _, v2 = home
    releases(settings).canary(v2, "ana", "try it")
    moves(settings).rollback(None, "ben", "complaints")
    newest = Ledger(settings.ledger_path).policy_moves("done")[-1]
    assert (newest.kind, newest.outcome, newest.by) == ("champion", "champion_moved", "ben")
    assert newest.why == f"the champion moved to {v0}: complaints"
    assert answering(settings) == {CHAMPION: (v0, 1.0)}


def test_a_challenger_that_is_rejected_while_it_answers_ends_its_release(home):
    settings, _, v1, v2 = home
    releases(settings).canary(v2, "ana", "try it")
    Ledger(settings.ledger_path).reject(v2, Person("ben"), "wrong for new customers", AT)
    releases(settings).recover()
    newest = Ledger(settings.ledger_path).policy_moves("done")[-1]
    assert (newest.kind, newest.outcome, newest.by) == ("end", "rolled_back", "ben")
    assert "was rejected: wrong for new customers" in newest.why
    assert answering(settings) == {CHAMPION: (v1, 1.0)}
    with pytest.raises(TransitionRefused, match="is rejected"):  # another person has decided
        releases(settings).canary(v2, "ana", "again")


# -- refusals ----------------------------------------------------------------------------------------------


def refused(settings, v1):
    version = bundle(settings.home, "refused")
    challenge(settings, version, v1, passed=False)
    return version


def waiting_approval(settings, v1):
    version = bundle(settings.home, "waiting approval")
    challenge(settings, version, v1, needs_person=True)
    return version


def waiting_gate(settings, v1):
    version = bundle(settings.home, "waiting gate")
    sha256 = bundle_hash(settings.bundles_dir / version)
    Ledger(settings.ledger_path).add_challenger(version, f"bundles/{version}", sha256, None, None, AT)
    return version


def rejected(settings, v1):
    version = waiting_approval(settings, v1)
    Ledger(settings.ledger_path).reject(version, Person("ben"), "no", AT)
    return version


def compared_with_another(settings, v1):
    version = bundle(settings.home, "compared")
    challenge(settings, version, "0" * 16)
    return version


def never_judged(settings, v1):
    return bundle(settings.home, "never judged")


def other_bytes(settings, v1):
    version = bundle(settings.home, "other bytes")
    ledger = Ledger(settings.ledger_path)
    ledger.add_challenger(version, f"bundles/{version}", "0" * 64, None, None, AT)
    ledger.record_verdict(version, dataclasses.replace(verdict(version), champion=v1), needs_person=False, at=AT)
    return version


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (refused, r"is refused \(.*\), expected one that has passed the gate; it may shadow: churn release shadow"),
        (waiting_approval, r"waits for a person, expected an approval: churn approve \w+ --by NAME --why TEXT"),
        (waiting_gate, r"waits for the gate, expected one that has passed it; run the job promote"),
        (rejected, r"is rejected \(no\), expected one that has passed the gate"),
        (compared_with_another, r"was compared with 0{16}, and \w+ is champion now, expected the one"),
        (never_judged, r"never was at the gate, expected a challenger that has passed it"),
        (other_bytes, r"its bundle is \w{12} now, it was 0{12} when it was judged; restore"),
        (lambda s, v1: v1, r"is the champion, expected another version"),
        (lambda s, v1: "../champion.json", r"there is no version '../champion.json' in this home, expected one of: \w"),
    ],
)
def test_no_version_answers_that_has_not_passed(home, make, message):
    settings, _, v1, _ = home
    version = make(settings, v1)
    before = in_force(settings)
    for start in (
        lambda: releases(settings).canary(version, "ana", "try it"),
        lambda: releases(settings).ab({"new": AbArm(version, 0.5)}, "ana", "try it"),
        lambda: releases(settings).promote(version, "ana", "try it"),
    ):
        with pytest.raises(TransitionRefused, match=message) as error:
            start()
        assert "\n" not in str(error.value)
    assert in_force(settings) == before
    if make in (refused, waiting_approval, waiting_gate, rejected, compared_with_another, never_judged):
        releases(settings).shadow(version, "ana", "look")


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (lambda r, p, v: r.canary(v, "", "try"), "approver is '', expected the name"),
        (lambda r, p, v: r.canary(v, "ana", " "), "why is empty, expected a reason"),
        (lambda r, p, v: r.canary(v, "ana", "try", weight=0.0), "the weight is 0, expected a share over 0"),
        (lambda r, p, v: r.canary(v, "ana", "try", weight=1.0), "the weight is 1, expected .* under 1, which leaves"),
        (lambda r, p, v: r.ab({"a": AbArm(v, 1.0)}, "ana", "try"), "weights are 1, expected .* sum to less than 1"),
        (
            lambda r, p, v: r.ab({"a": AbArm(v, 0.3), "b": AbArm(v, 0.7)}, "ana", "try"),
            "weights are 0.3, 0.7, expected .* sum to less than 1",
        ),
        (lambda r, p, v: r.ab({}, "ana", "try"), "the arms are none, expected 1 to 7 names"),
        (lambda r, p, v: r.ab({"champion": AbArm(v, 0.5)}, "ana", "try"), "the arms are champion, expected"),
        (
            lambda r, p, v: r.ab({"a": AbArm(v, 0.6), "b": AbArm(v, 0.6)}, "ana", "try"),
            "weights are 0.6, 0.6, expected",
        ),
        (lambda r, p, v: r.ab({"a": AbArm(v, float("nan"))}, "ana", "try"), "weights are nan, expected"),
        (lambda r, p, v: r.advance(p), "is a champion, expected a canary"),
        (lambda r, p, v: r.end(p, "rolled_back", "why"), "is of kind champion, expected a release that runs"),
        (lambda r, p, v: r.canary(v, "ana", "try", expected="r000001"), "expected r000001; the gate made the move"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(home, strategy, message):
    settings, _, _, v2 = home
    before = in_force(settings)
    with pytest.raises(TransitionRefused, match=message):
        strategy(releases(settings), before.id, v2)
    assert in_force(settings) == before


def test_while_customers_get_answers_of_a_release_no_other_begins(home):
    settings, v0, _, v2 = home
    policy = releases(settings).canary(v2, "ana", "try it").after
    for start in (
        lambda: releases(settings).canary(v0, "ben", "mine"),
        lambda: releases(settings).shadow(v0, "ben", "mine"),
        lambda: releases(settings).ab({"old": AbArm(v0, 0.5)}, "ben", "mine"),
        lambda: releases(settings).promote(v0, "ben", "mine"),
    ):
        with pytest.raises(TransitionRefused, match=r"is refused: canary of \w+ \(0.05 of .* runs .*ana: try it"):
            start()
    assert in_force(settings) == policy


def test_a_former_champion_is_gone_back_to_by_a_rollback(home):
    settings, v0, _, _ = home
    with pytest.raises(TransitionRefused, match=f"was champion before.*churn rollback --to {v0}"):
        releases(settings).promote(v0, "ana", "the old one")


def test_a_version_shadows_once(home):
    settings, _, _, v2 = home
    releases(settings).shadow(v2, "ana", "look")
    with pytest.raises(TransitionRefused, match="is in shadow already"):
        releases(settings).shadow(v2, "ben", "look")


def test_a_home_without_a_champion_lets_nothing_in(tmp_path):
    settings, (v0,) = home_with(tmp_path, 1)
    with pytest.raises(NoChampion):
        releases(settings).shadow(v0, "ana", "look")
    assert releases(settings).status().policy is None


def test_an_unsound_bundle_is_not_let_in(home):
    settings, _, _, v2 = home
    (settings.bundles_dir / v2 / "card.json").write_text("changed")
    with pytest.raises(BundleCorrupt):
        releases(settings).shadow(v2, "ana", "look")


# -- two at once ---------------------------------------------------------------------------------------------


def _start_canary(settings, version, expected, name, barrier, results):
    barrier.wait()
    try:
        results.put((name, "won", releases(settings).canary(version, name, f"{name} wants it", expected).after.id))
    except TransitionRefused as error:
        results.put((name, "lost", str(error)))


def test_of_two_processes_that_saw_the_same_policy_one_wins(home):
    settings, v0, _, v2 = home
    expected = in_force(settings).id
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_start_canary, args=(settings, version, expected, name, barrier, results))
        for name, version in (("ana", v0), ("ben", v2))
    ]
    for process in processes:
        process.start()
    told = sorted((results.get(timeout=30) for _ in processes), key=lambda result: result[1])
    for process in processes:
        process.join(30)
    (loser, lost, message), (winner, won, policy_id) = told
    assert (lost, won, loser) == ("lost", "won", "ben" if winner == "ana" else "ana")
    assert in_force(settings).id == policy_id
    assert f"policy {policy_id} is in force (canary of " in message
    assert (
        f"expected {expected}; {winner} made the move canary on 2026-11-21 12:00:00 UTC: {winner} wants it" in message
    )


# -- homes of other times ------------------------------------------------------------------------------------


def test_a_ledger_of_version_1_goes_on_working(home):
    settings, _, v1, v2 = home
    ledger = Ledger(settings.ledger_path)
    kept = [*ledger.moves()], [*ledger.challengers()]
    with sqlite3.connect(settings.ledger_path) as db:
        db.executescript("DROP TABLE policies; PRAGMA user_version = 1;")
    db.close()
    (settings.home / POLICY).unlink()
    assert (ledger.policy_moves(), [*ledger.moves()], [*ledger.challengers()]) == ([], *kept)
    releases(settings).canary(v2, "ana", "try it")
    assert ([*ledger.moves()], [*ledger.challengers()]) == kept
    assert [(m.number, m.kind) for m in ledger.policy_moves()] == [(1, "champion"), (2, "canary")]
    assert answering(settings)[CHAMPION] == (v1, 0.95)


def test_a_ledger_of_version_1_is_what_the_first_release_wrote(tmp_path):
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as db:
        db.executescript(f"{SCHEMA} PRAGMA user_version = 1;")
    db.close()
    Ledger(path).add_challenger("v", "bundles/v", "aa", None, None, AT)
    with sqlite3.connect(path) as db, sqlite3.connect(tmp_path / "new.db") as new:
        new.executescript(Ledger.schema)
        shape = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
        assert db.execute(shape).fetchall() == new.execute(shape).fetchall()
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()
    new.close()


def test_ids_are_not_used_twice_when_the_ledger_is_lost(home):
    settings, _, v1, v2 = home
    policy = releases(settings).shadow(v2, "ana", "look").after
    write_counts(settings.home, "r000009", "worker-1-a", ReleaseCounts())
    settings.ledger_path.unlink()
    for suffix in ("-wal", "-shm"):
        settings.ledger_path.with_name(f"ledger.db{suffix}").unlink(missing_ok=True)
    assert releases(settings).status().policy == policy  # the file alone is left of it
    with pytest.raises(TransitionRefused, match=r"in force \(shadow of .*ledger was lost: .*: churn release status$"):
        releases(settings).rollback("ana", "done", "r000002")
    assert releases(settings).rollback("ana", "done").after.id == "r000010"
    assert answering(settings) == {CHAMPION: (v1, 1.0)}


class NoPolicy(Ledger):
    """A ledger that takes moves of the champion, and none of the policy."""

    def intend_policy(self, move, approved):
        raise self._unavailable("the disk is full")


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_champion_that_moves_without_its_policy_is_told_with_the_way_out(home, is_lost):
    settings, _, _, v2 = home
    if is_lost:
        with sqlite3.connect(settings.ledger_path) as db:
            db.execute("DELETE FROM policies")
        db.close()
    with pytest.raises(LedgerUnavailable, match=f"champion {v2} answers everybody.*then: churn release status$"):
        releases(settings, NoPolicy(settings.ledger_path)).promote(v2, "ana", "needed today")
    assert require_champion(settings.home).version == v2
    assert releases(settings).status().policy.champion.version == v2
    assert answering(settings) == {CHAMPION: (v2, 1.0)}


@pytest.mark.parametrize("damage", ["after", "before", "numbers", "decides"])
def test_a_damaged_row_of_the_ledger_is_told_in_one_line(home, damage):
    settings, _, _, v2 = home
    releases(settings).shadow(v2, "ana", "look")
    with sqlite3.connect(settings.ledger_path) as db:
        db.execute(f'UPDATE policies SET "{damage}" = ?', ("{",))
    db.close()
    with pytest.raises(LedgerCorrupt, match=r"ledger\.db: is damaged .*restore it, or move it away") as error:
        releases(settings).rollback("ana", "done", "r000001")
    assert "\n" not in str(error.value)


def test_a_home_with_a_champion_alone_says_how_another_version_is_made(tmp_path):
    settings, (v0,) = home_with(tmp_path, 1)
    moves(settings).move(champion(v0), "first", "training", "the first")
    for start in (releases(settings).shadow, releases(settings).canary, releases(settings).promote):
        with pytest.raises(TransitionRefused) as refusal:
            start("0" * 16, "ana", "try it")
        assert str(refusal.value) == (
            f"there is no version '{'0' * 16}' in this home, and none beside champion {v0} yet, expected a challenger; "
            "a retraining makes one: churn retrain --by NAME --why TEXT"
        )


@pytest.mark.parametrize("content", ["{", None, "{}"])
def test_a_damaged_policy_is_written_again(home, content):
    settings, _, _, v2 = home
    policy = releases(settings).canary(v2, "ana", "try it").after
    (settings.home / POLICY).unlink()
    if content is not None:
        (settings.home / POLICY).write_text(content)
    releases(settings).recover()
    assert in_force(settings) == policy
    (settings.home / POLICY).write_text("{")
    assert releases(settings).advance(policy.id).after == in_force(settings)


def test_a_policy_of_a_backup_is_replaced_by_the_ledgers(home):
    settings, _, _, v2 = home
    old = (settings.home / POLICY).read_bytes()
    policy = releases(settings).canary(v2, "ana", "try it").after
    (settings.home / POLICY).write_bytes(old)
    assert releases(settings).status().problem == ""
    assert in_force(settings) == policy


def test_the_status_says_what_a_release_waits_for(home):
    settings, _, _, v2 = home
    assert (releases(settings).status().waits_for, releases(settings).status().is_running) == ("", False)
    policy = releases(settings).canary(v2, "ana", "try it").after
    counts = ReleaseCounts()
    for _ in range(7):
        counts.arm(CHALLENGER).scored(0.5, True, False, 0.001)
        counts.arm(CHAMPION).scored(0.5, True, False, 0.001)
    write_counts(settings.home, policy.id, "worker-1-a", counts)
    (counts_folder(settings.home, policy.id) / "guardrails.json").write_text(json.dumps(NUMBERS))
    status = releases(settings).status()
    assert status.waits_for == (
        "the next step: not before 2026-11-21 12:10 UTC, 7 of 50 rows of the challenger, and guardrails that hold; "
        "a decision until 2026-12-05 12:00 UTC"
    )
    assert (status.rows, status.guardrails) == (7, NUMBERS)
    stored = json.loads(json.dumps(status.to_json()))
    assert stored["policy"]["id"] == policy.id
    assert [move["kind"] for move in stored["moves"]] == ["champion", "champion", "canary"]
    assert policy.salt not in json.dumps(stored)

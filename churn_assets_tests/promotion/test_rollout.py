"""What the gate has approved is let in through a canary, if the contract says so; and who waits meanwhile."""

from __future__ import annotations

import dataclasses

import pytest

from churn_assets.promotion.holdout import freeze
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import ChampionPointer, require_champion
from churn_assets.promotion.records import Person
from churn_assets.promotion.releases import Releases
from churn_assets.release.policy import read_policy
from churn_assets_tests.promotion.homes import FakeRegistry
from churn_assets_tests.promotion.test_service import (
    COLORED,
    CONTRACT,
    LENIENT,
    MANUAL,
    NOW,
    bundle,
    clean,
    edited,
    enter,
    home_with,
    place,
    promote,
    promote_waiting,
    service,
    status,
)

CANARY = dataclasses.replace(LENIENT, release=dataclasses.replace(LENIENT.release, rollout="canary"))


def releases(settings):
    return Releases(settings, Ledger(settings.ledger_path), ChampionPointer(settings.home), lambda: NOW, lambda: CANARY)


def to_promote(settings):
    return [challenger.version for challenger in Ledger(settings.ledger_path).challengers_to_promote()]


def test_an_approved_challenger_starts_a_canary_and_becomes_champion_at_its_end(tmp_path):
    settings, old, new = home_with(tmp_path)
    outcome = promote(settings, CANARY, new)
    assert (outcome.status, status(settings, new), require_champion(tmp_path).version) == ("canary", "approved", old)
    policy = read_policy(tmp_path)
    assert (policy.kind, policy.by, policy.challenger.version, policy.challenger.weight) == (
        "canary",
        "loop",
        new,
        0.05,
    )
    assert policy.id in outcome.message
    assert to_promote(settings) == []  # nothing for a sensor to start
    assert [o.status for o in promote_waiting(settings, CANARY)] == ["canary"]  # by hand: nor is it judged again
    assert read_policy(tmp_path) == policy
    for _ in policy.steps:
        policy = releases(settings).advance(policy.id).after
    assert (require_champion(tmp_path).version, status(settings, new)) == (new, "promoted")
    assert require_champion(tmp_path).fingerprint == CONTRACT.fingerprint


@pytest.mark.parametrize("contract", [CANARY, LENIENT], ids=["canary", "direct"])
def test_what_is_approved_while_a_canary_runs_waits_for_its_end(tmp_path, contract):
    settings, old, new = home_with(tmp_path)
    promote(settings, CANARY, new)
    third = bundle(tmp_path, "boosted", 24).name
    enter(settings, tmp_path / "bundles" / third)
    assert to_promote(settings) == [third]
    (newest, running) = promote_waiting(settings, contract)
    assert ((newest.challenger, newest.status), running.status) == ((third, "waiting_release"), "canary"), (
        newest.message
    )
    assert (status(settings, third), to_promote(settings), require_champion(tmp_path).version) == ("approved", [], old)
    releases(settings).rollback("ana", "complaints")
    assert to_promote(settings) == [third]  # and the one that was thrown out is not tried again
    (outcome,) = promote_waiting(settings, contract)
    assert outcome.status == ("canary" if contract is CANARY else "promoted")


def test_a_contract_that_asks_for_a_person_has_one_before_the_canary(tmp_path):
    settings, _, new = home_with(tmp_path)
    contract = dataclasses.replace(MANUAL, release=dataclasses.replace(MANUAL.release, rollout="canary"))
    assert promote(settings, contract, new).status == "waiting_approval"
    assert read_policy(tmp_path).kind == "champion"
    service(settings).approve(new, Person("Ada"), "looks right")
    assert [outcome.status for outcome in promote_waiting(settings, contract)] == ["canary"]


def test_a_canary_ends_with_the_rejection_of_its_challenger(tmp_path):
    settings, _, new = home_with(tmp_path)
    promote(settings, CANARY, new)
    service(settings).reject(new, Person("Ada"), "wrong for new customers")
    assert (read_policy(tmp_path).kind, status(settings, new)) == ("champion", "rejected")
    assert Ledger(settings.ledger_path).policy_moves()[-1].by == "Ada"


def test_a_challenger_that_the_gate_refuses_later_answers_nobody_any_more(tmp_path):
    settings, _, new = home_with(tmp_path)
    promote(settings, CANARY, new)
    stricter = dataclasses.replace(CANARY, release=dataclasses.replace(CANARY.release, holdout_margin=0.9))
    assert promote(settings, stricter, new).status == "refused"
    assert read_policy(tmp_path).kind == "champion"
    assert Ledger(settings.ledger_path).policy_moves()[-1].outcome == "rolled_back"


def test_a_model_with_other_inputs_becomes_champion_straight(tmp_path):
    """Both models of a canary read the same rows, and these do not."""
    settings = place(tmp_path)
    enter(settings, bundle(tmp_path, "boosted", contract=edited(COLORED)), edited(COLORED))
    new = bundle(tmp_path, "logistic")
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    assert enter(settings, new, CANARY).alias == "champion"
    assert (read_policy(tmp_path).kind, read_policy(tmp_path).champion.version) == ("champion", new.name)


def test_the_registrys_alias_follows_a_promotion_that_the_service_made(tmp_path):
    settings, registry = place(tmp_path), FakeRegistry()
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    old, new = bundle(tmp_path, "logistic"), bundle(tmp_path, "boosted")
    for path in (old, new):
        enter(settings, path, registry=registry, run_id="run")
    assert service(settings, registry).promote(CANARY, new.name, None).status == "canary"
    assert registry.aliases["champion"] == registry.numbers[old.name]
    releases(settings).promote(new.name, "ana", "it won")
    state = service(settings, registry).watch_alias(CANARY)
    assert (state.named, state.moved) == (registry.numbers[old.name], False)  # nobody moved it by hand
    assert registry.aliases["champion"] == registry.numbers[new.name]
    third = bundle(tmp_path, "boosted", 18)
    enter(settings, third, registry=registry, run_id="run")
    registry.aliases["champion"] = registry.numbers[third.name]
    assert service(settings, registry).watch_alias(CANARY).moved

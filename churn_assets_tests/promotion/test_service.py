"""From a trained model to a challenger to a champion, or not: each outcome, and each thing that can be missing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

import churn_assets
from churn_assets.contract.limits import Release
from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Contract
from churn_assets.definitions import build
from churn_assets.defs.release.sensors import release_watch_sensor
from churn_assets.errors import (
    AssetMissing,
    BundleCorrupt,
    DataError,
    GateRefused,
    TrackingUnavailable,
    TransitionRefused,
)
from churn_assets.features.encode import encode_table
from churn_assets.mlflow_registry.connect import connect
from churn_assets.mlflow_registry.registry import MODEL_NAME, MlflowRegistry, aliases
from churn_assets.mlflow_registry.tracking import prepare_experiment
from churn_assets.promotion.holdout import freeze, holdout_path
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import ChampionPointer, read_champion, require_champion
from churn_assets.promotion.records import Person
from churn_assets.promotion.registration import (
    AuditFinding,
    Registration,
    TrainedModel,
    read_registration_record,
    save_registration_record,
)
from churn_assets.promotion.service import AliasState, Outcome, PromotionService
from churn_assets.scoring.bundle import write_bundle
from churn_assets.scoring.models.boosted import BoostedModel
from churn_assets.settings import Settings
from churn_assets.storage.sealed import bundle_hash
from churn_assets_tests.promotion.homes import FakeRegistry, champion, history, moves
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, TEXT, booster_bytes, customers, scorer_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LENIENT = dataclasses.replace(CONTRACT, release=Release(max_ece=0.2, segment_rows=5000))
MANUAL = dataclasses.replace(CONTRACT, release=Release(max_ece=0.2, segment_rows=5000, approval="manual"))


def place(home: Path, uri: str = "http://127.0.0.1:9") -> Settings:
    return Settings(root=home, home=home, contract_path=home / "tiny.toml", mlflow_uri=uri)


def service(settings: Settings, registry: object = None, ledger: Ledger | None = None) -> PromotionService:
    """The service of a home at the instant NOW."""
    ledger, pointer = ledger or Ledger(settings.ledger_path), ChampionPointer(settings.home)
    return PromotionService(settings, ledger, pointer, registry or FakeRegistry(), lambda: NOW)  # type: ignore[arg-type]


def bundle(home: Path, kind: str, rounds: int = 25, generated: bool = False, contract: Contract = CONTRACT) -> Path:
    scorer = dataclasses.replace(scorer_of(kind, "identity"), contract=contract)
    if rounds != 25:
        scorer = dataclasses.replace(scorer, model=BoostedModel([booster_bytes(3)], [rounds]))
    golden = customers(32, seed=8)
    return write_bundle(
        home / "bundles",
        scorer,
        card={},
        golden=colored(golden) if "color" in contract.by_name else golden,
        as_of=AS_OF,
        reference=customers(20, seed=9),
        provenance={"generated": generated},
    )


def colored(rows: pa.Table) -> pa.Table:
    """The rows with a column more, which no feature reads."""
    return rows.append_column("color", pa.array([True] * rows.num_rows))


def clean(count: int = 900, seed: int = 11) -> pa.Table:
    """Customers who churn as those did that the boosted model has learnt from."""
    rows = customers(count, seed)
    columns = encode_table(CONTRACT, rows)
    signal = 2.0 - 0.15 * columns["sent"] + 0.02 * np.nan_to_num(columns["spent"], nan=150.0) + (columns["city"] == 1)
    churned = (signal + np.random.default_rng(seed).normal(size=count) > 1.5).astype(np.int8)
    told = {b"churn_as_of": AS_OF.encode(), b"churn_source": b"tests"}
    rows = rows.take(pa.array(range(count)))  # as read from a file: nothing left below nulls
    return rows.append_column("churned", pa.array(churned)).replace_schema_metadata(told)


def enter(settings: Settings, path: Path, contract: Contract = CONTRACT, **options: object) -> Registration:
    """Register a model of this bundle, by default without MLflow."""
    model = TrainedModel(path.name, options.pop("pr_auc", 0.9), options.pop("generated", False))  # type: ignore[arg-type]
    registry = options.pop("registry", None)
    if registry is None:
        options |= {"missing": "MLflow is away"}
    return service(settings, registry).register(contract, model, path, **options)  # type: ignore[arg-type]


def promote(settings: Settings, contract: Contract, version: str) -> Outcome:
    return service(settings).promote(contract, version, None)


def promote_waiting(settings: Settings, contract: Contract) -> list[Outcome]:
    return [*service(settings).promote_waiting(contract, None).outcomes]


def home_with(tmp_path: Path, champion: str = "logistic", challenger: str = "boosted") -> tuple[Settings, str, str]:
    """A home with a frozen holdout, a champion and a challenger that waits."""
    settings = place(tmp_path)
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    one, two = bundle(tmp_path, champion), bundle(tmp_path, challenger)
    enter(settings, one)
    enter(settings, two)
    return settings, one.name, two.name


def status(settings: Settings, version: str) -> str:
    return Ledger(settings.ledger_path).challenger(version).status


def test_a_better_challenger_becomes_champion_and_mlflow_being_away_is_only_said(tmp_path):
    settings, old, new = home_with(tmp_path)
    outcome = promote(settings, LENIENT, new)
    assert (outcome.status, status(settings, new)) == ("promoted", "promoted"), outcome.message
    champion = require_champion(tmp_path)
    assert (champion.version, champion.by, champion.since_at) == (new, "the gate", NOW)
    assert [move.kind for move in history(settings)] == ["first", "promotion"]
    assert "not in MLflow's registry" in str(outcome.missing)
    kept = Ledger(settings.ledger_path).challenger(new)
    assert kept.verdict == outcome.verdict
    assert kept.verdict.champion == old


def test_a_worse_challenger_is_refused_with_every_number_in_the_ledger(tmp_path):
    settings, old, new = home_with(tmp_path, "boosted", "logistic")
    outcome = promote(settings, LENIENT, new)
    assert (outcome.status, status(settings, new), require_champion(tmp_path).version) == ("refused", "refused", old)
    checks = {check.check: check for check in Ledger(settings.ledger_path).challenger(new).verdict.checks}
    assert not checks["holdout_pr_auc"].passed
    assert checks["holdout_pr_auc"].value < -0.1
    assert Ledger(settings.ledger_path).state().rejections == 1
    with pytest.raises(TransitionRefused):
        promote(settings, LENIENT, new)  # by hand, once more: it stays refused


def test_by_contract_a_person_decides_and_the_gate_is_held_again(tmp_path):
    settings, old, new = home_with(tmp_path)
    assert promote(settings, MANUAL, new).status == "waiting_approval"
    assert require_champion(tmp_path).version == old
    assert promote_waiting(settings, MANUAL) == []
    service(settings).approve(new, Person("Ada"), "looks right")
    assert [outcome.status for outcome in promote_waiting(settings, MANUAL)] == ["promoted"]
    assert (require_champion(tmp_path).version, require_champion(tmp_path).by) == (new, "Ada")


def test_what_was_approved_and_fails_the_gate_now_is_refused(tmp_path):
    settings, old, new = home_with(tmp_path)
    promote(settings, MANUAL, new)
    service(settings).approve(new, Person("Ada"), "looks right")
    stricter = dataclasses.replace(MANUAL, release=dataclasses.replace(MANUAL.release, holdout_margin=0.9))
    assert promote(settings, stricter, new).status == "refused"
    assert (status(settings, new), require_champion(tmp_path).version) == ("refused", old)


def test_an_approved_bundle_that_has_changed_is_refused(tmp_path):
    settings, old, new = home_with(tmp_path)
    path = tmp_path / "bundles" / new
    promote(settings, MANUAL, new)
    service(settings).approve(new, Person("Ada"), "looks right")
    other = write_bundle(
        tmp_path / "elsewhere",
        scorer_of("boosted", "identity"),
        card={},
        golden=customers(32, seed=8),
        as_of=AS_OF,
        reference=customers(20, seed=9),
        provenance={"generated": False, "from": "somebody else"},
    )
    shutil.rmtree(path)
    shutil.copytree(other, path)  # whole, of the same version, and not what Ada looked at
    outcome = promote(settings, MANUAL, new)
    assert outcome.status == "refused"
    assert "is not the one that Ada approved" in outcome.message
    assert require_champion(tmp_path).version == old


def test_a_damaged_challenger_is_refused(tmp_path):
    settings, old, new = home_with(tmp_path)
    (tmp_path / "bundles" / new / "card.json").write_text("{}")
    outcome = promote(settings, LENIENT, new)
    assert outcome.status == "refused"
    assert "card.json" in outcome.message
    assert require_champion(tmp_path).version == old


def test_a_challenger_of_another_lineage_than_the_contract_in_use_is_refused(tmp_path):
    settings, _, new = home_with(tmp_path)
    other = dataclasses.replace(LENIENT, label=dataclasses.replace(CONTRACT.label, horizon_days=60))
    freeze(settings.holdout_dir, other, clean(), False, "first", NOW)
    outcome = promote(settings, other, new)
    assert outcome.status == "refused"
    assert "uses the label, which the contract in use does not have so; train again" in outcome.message


EDITS = {
    "value": ("monthly_value = 25.0", "monthly_value = 30.0"),
    "quality": ("max_rejected_share = 0.05", "max_rejected_share = 0.06"),
    "prose": ('doc = "Money spent."', 'doc = "Spent so far."'),
    "bounds": ("high = 1000\n", "high = 2000\n"),
    "monitoring": ("window = 2000", "window = 1000"),
    "audit": ("[monitoring]", "[audit]\necho_roc_auc = 0.7\n\n[monitoring]"),
    "release": ("[monitoring]", '[release]\napproval = "automatic"\n\n[monitoring]'),
    "attestation": ('doc = "E-mails sent."', 'doc = "E-mails sent."\nattested = "Ann: counted daily"'),
    "name": ('name = "tiny"', 'name = "small"'),
}
OTHER_INPUTS = ("horizon_days = 30", "horizon_days = 60")


def edited(edit: tuple[str, str], release: Release = LENIENT.release) -> Contract:
    """The tiny contract with one text in place of another, as written, and with limits of the gate that it can pass."""
    assert edit[0] in TEXT
    return dataclasses.replace(parse_contract(TEXT.replace(*edit), "tiny.toml"), release=release)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_that_no_model_uses_crowns_nobody_and_the_gate_compares_on_the_same_holdout(tmp_path, edit):
    settings, contract = place(tmp_path), edited(edit)
    freeze(settings.holdout_dir, CONTRACT, clean(400), False, "first", NOW)
    old = bundle(tmp_path, "boosted")
    enter(settings, old)
    worse = bundle(tmp_path, "logistic", contract=contract)
    assert enter(settings, worse, contract).alias == "challenger"
    outcome = promote(settings, contract, worse.name)
    assert outcome.status == "refused"
    assert "on the frozen holdout" in outcome.message
    assert {check.check: check.passed for check in outcome.verdict.checks}["holdout"]  # that of the first contract
    assert require_champion(tmp_path).version == old.name
    assert [move.kind for move in history(settings)] == ["first"]


def test_an_edit_that_no_model_uses_does_not_undo_a_rollback(tmp_path):
    settings, old, new = home_with(tmp_path)
    assert promote(settings, LENIENT, new).status == "promoted"
    service(settings).rollback(by="Ada", why="complaints")
    contract = edited(EDITS["value"])
    assert enter(settings, bundle(tmp_path, "boosted", 24, contract=contract), contract).alias == "challenger"
    assert require_champion(tmp_path).version == old


@pytest.mark.parametrize("approval", ["automatic", "manual"])
def test_a_model_with_other_inputs_goes_through_registration_and_a_person_where_one_is_asked(tmp_path, approval):
    settings, old, _ = home_with(tmp_path)
    contract = edited(OTHER_INPUTS, dataclasses.replace(LENIENT.release, approval=approval))
    path = bundle(tmp_path, "boosted", 24, contract=contract)
    registration = enter(
        settings,
        path,
        contract,
        before_champion=lambda: freeze(settings.holdout_dir, contract, clean(), False, path.name, NOW),
    )
    assert "the label defined otherwise" in registration.reason
    assert [check.check for check in Ledger(settings.ledger_path).challenger(path.name).verdict.checks] == [
        *("bundle", "attested", "holdout", "inputs")
    ]
    if approval == "manual":
        assert (registration.alias, registration.champion) == ("challenger", old)
        assert f"it waits for a person: churn approve {path.name}" in registration.reason
        service(settings).approve(path.name, Person("Ada"), "the horizon is right now")
        assert promote(settings, contract, path.name).status == "promoted"
    else:
        assert (registration.alias, registration.champion) == ("champion", path.name)
    assert [move.kind for move in history(settings)] == ["first", "promotion"]
    assert require_champion(tmp_path).version == path.name


COLORED = ('name = "paperless"', 'name = "color"\nkind = "boolean"\nrole = "input"\n\n[[columns]]\nname = "paperless"')


@pytest.mark.parametrize("more", ["champion", "challenger", "neither"])
def test_models_whose_inputs_the_contract_in_use_allows_are_compared(tmp_path, more):
    contract = edited(COLORED)
    settings = place(tmp_path)
    freeze(settings.holdout_dir, contract, colored(clean()), False, "first", NOW)
    kinds = {"champion": "boosted", "challenger": "logistic"}
    old, new = (bundle(tmp_path, kind, contract=contract if who == more else CONTRACT) for who, kind in kinds.items())
    enter(settings, old, contract)
    registration = enter(settings, new, contract)
    assert (registration.alias, registration.champion) == ("challenger", old.name)
    outcome = promote(settings, contract, new.name)
    assert not {check.check: check.passed for check in outcome.verdict.checks}["holdout_pr_auc"]
    assert outcome.status == "refused"


def test_a_champion_with_an_input_that_the_contract_has_no_more_is_not_compared_with(tmp_path):
    settings = place(tmp_path)
    old = bundle(tmp_path, "boosted", contract=edited(COLORED))
    enter(settings, old, edited(COLORED))
    new = bundle(tmp_path, "logistic")
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    registration = enter(settings, new, LENIENT)
    assert (registration.alias, registration.champion) == ("champion", new.name)
    assert "without column 'color'" in registration.reason


def test_after_a_rollback_a_person_decides_on_a_model_with_other_inputs(tmp_path):
    settings, old, _ = home_with(tmp_path)
    contract = edited(OTHER_INPUTS)

    def retrained(rounds: int) -> Registration:
        path = bundle(tmp_path, "boosted", rounds, contract=contract)
        return enter(
            settings,
            path,
            contract,
            before_champion=lambda: freeze(settings.holdout_dir, contract, clean(), False, path.name, NOW),
        )

    assert retrained(24).alias == "champion"
    service(settings).rollback(by="Ada", why="complaints")
    assert "waits for a person" in retrained(23).reason
    assert require_champion(tmp_path).version == old


def test_a_refused_challenger_is_not_crowned_when_the_pointer_is_lost(tmp_path):
    settings, _, new = home_with(tmp_path, "boosted", "logistic")
    assert promote(settings, LENIENT, new).status == "refused"
    (tmp_path / "champion.json").unlink()
    registration = enter(settings, tmp_path / "bundles" / new)
    assert (registration.alias, registration.champion) == ("challenger", "")
    assert read_champion(tmp_path) is None


def test_without_a_holdout_the_gate_refuses_and_says_what_to_do(tmp_path):
    settings, old, new = home_with(tmp_path)
    holdout_path(settings.holdout_dir, CONTRACT).unlink()
    outcome = promote(settings, LENIENT, new)
    assert outcome.status == "refused"
    assert "there is no frozen holdout" in outcome.message
    assert "churn run --home" in outcome.message
    assert require_champion(tmp_path).version == old


def test_a_damaged_holdout_hinders_the_gate_and_leaves_the_challenger_waiting(tmp_path):
    settings, _, new = home_with(tmp_path)
    path = holdout_path(settings.holdout_dir, CONTRACT)
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good[:-100])
    outcome = promote(settings, LENIENT, new)
    assert (outcome.status, status(settings, new)) == ("undecided", "waiting_gate")
    assert "the gate cannot be held" in outcome.message
    path.write_bytes(good)
    assert promote(settings, LENIENT, new).status == "promoted"


@pytest.mark.parametrize("what", ["pointer", "bundle"])
def test_without_a_champion_to_compare_with_the_challenger_waits(tmp_path, what):
    settings, old, new = home_with(tmp_path)
    if what == "pointer":
        (tmp_path / "champion.json").unlink()
    else:
        shutil.rmtree(tmp_path / "bundles" / old)
    outcome = promote(settings, LENIENT, new)
    assert (outcome.status, status(settings, new)) == ("undecided", "waiting_gate")
    assert "churn run" in outcome.message


def test_a_champion_that_came_while_the_gate_was_held_is_not_replaced_by_its_verdict(tmp_path):
    settings, old, new = home_with(tmp_path)
    third = bundle(tmp_path, "network").name
    moves(settings).move(champion(third, CONTRACT.fingerprint), "first", "training", "a former champion")
    service(settings).rollback(by="Ada", why="complaints")

    class MovedMeanwhile(Ledger):
        def record_verdict(self, *about, **options):
            service(settings).rollback(third, by="Ada", why="complaints")
            return super().record_verdict(*about, **options)

    moved = service(settings, ledger=MovedMeanwhile(settings.ledger_path))
    (outcome,) = moved.promote_waiting(LENIENT, None).outcomes
    assert (outcome.status, status(settings, new)) == ("overtaken", "approved")
    assert f"compared with {old}, and {third} is champion now" in outcome.message
    assert require_champion(tmp_path).version == third
    assert [again.status for again in promote_waiting(settings, LENIENT)] == ["promoted"]
    assert Ledger(settings.ledger_path).challenger(new).verdict.champion == third


def test_rows_that_a_model_cannot_score_block_the_gate(tmp_path):
    settings, _, new = home_with(tmp_path)

    class Unable:
        def score_table(self, rows, as_of):
            raise DataError("the holdout lacks column 'sent'")

    blocked = PromotionService(
        *(settings, Ledger(settings.ledger_path), ChampionPointer(tmp_path), FakeRegistry()),
        load_scorer=lambda path, contract: Unable(),  # type: ignore[arg-type, return-value]
    )
    outcome = blocked.promote(LENIENT, new, None)
    assert (outcome.status, status(settings, new)) == ("undecided", "waiting_gate")
    assert outcome.message.endswith("the holdout lacks column 'sent'")


def test_the_champion_is_not_its_own_challenger(tmp_path):
    settings, old, _ = home_with(tmp_path)
    Ledger(settings.ledger_path).add_challenger(
        old, f"bundles/{old}", bundle_hash(tmp_path / "bundles" / old), 1, None, NOW
    )
    outcome = promote(settings, LENIENT, old)
    assert outcome.status == "refused"
    assert "is the champion already" in outcome.message


def test_a_column_that_nobody_attests_any_more_refuses_the_challenger(tmp_path):
    settings, _, new = home_with(tmp_path)
    save_registration_record(
        tmp_path, TrainedModel(new, 0.9, False, (AuditFinding("sent", "alone gets 80 % of the way"),))
    )
    outcome = promote(settings, LENIENT, new)
    assert outcome.status == "refused"
    assert "column 'sent' alone gets 80 % of the way" in outcome.message


def test_a_challenger_without_the_record_of_its_audit_is_refused(tmp_path):
    settings, _, new = home_with(tmp_path)
    (tmp_path / "admissions" / f"{new}.json").unlink()
    outcome = promote(settings, LENIENT, new)
    assert outcome.status == "refused"
    assert "register the model again" in outcome.message
    (tmp_path / "admissions" / f"{new}.json").write_text("{")
    with pytest.raises(AssetMissing, match="cannot be read"):
        read_registration_record(tmp_path, new)


def test_the_newest_goes_first_and_those_behind_a_promoted_one_are_superseded(tmp_path):
    settings, _, older = home_with(tmp_path)
    newer = bundle(tmp_path, "boosted", rounds=18)
    enter(settings, newer)
    outcomes = promote_waiting(settings, LENIENT)
    assert [(o.challenger, o.status) for o in outcomes] == [(newer.name, "promoted"), (older, "refused")]
    assert f"superseded by {newer.name}" in outcomes[1].message
    assert require_champion(tmp_path).version == newer.name
    assert Ledger(settings.ledger_path).state().rejections == 0


def test_one_behind_a_newer_one_that_is_refused_has_its_turn(tmp_path):
    settings, _, older = home_with(tmp_path)
    newer = bundle(tmp_path, "network")
    enter(settings, newer)
    outcomes = promote_waiting(settings, LENIENT)
    assert [(o.challenger, o.status) for o in outcomes] == [(newer.name, "refused"), (older, "promoted")]


def test_a_home_without_anything_has_nobody_waiting(tmp_path):
    assert promote_waiting(place(tmp_path), LENIENT) == []
    assert read_champion(tmp_path) is None


class AwayRegistry(FakeRegistry):
    """Knows every version, and answers nothing after that."""

    def set_alias(self, alias, number):
        raise TrackingUnavailable("MLflow does not answer")

    def set_tags(self, number, tags):
        raise TrackingUnavailable("MLflow does not answer")


def test_the_registry_is_told_after_the_commit_and_follows_a_rollback(tmp_path):
    settings, registry = place(tmp_path), FakeRegistry()
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    for kind in ("logistic", "boosted"):
        path = bundle(tmp_path, kind)
        enter(settings, path, registry=registry, run_id="run")
    assert registry.aliases == {"champion": 1, "challenger": 2}
    outcome = service(settings, registry).promote(LENIENT, path.name, None)
    assert (outcome.status, outcome.missing) == ("promoted", None)
    assert registry.aliases["champion"] == 2
    tags = registry.tags[2]
    assert (tags["gate"], tags["gate_champion"]) == ("passed", outcome.verdict.champion)
    assert json.loads(tags["gate_figures"])["holdout_pr_auc"][2] is True
    service(settings).rollback(by="Ada", why="complaints")
    assert "named version 2 in the registry, expected 1" in service(settings, registry).tell_registry()
    assert service(settings, registry).tell_registry() is None
    assert registry.aliases["champion"] == 1


@pytest.mark.parametrize("at", ["a training", "a gate that refuses", "a gate that promotes"])
def test_an_alias_that_somebody_moved_in_the_registry_is_reported_and_set_back(tmp_path, at):
    settings, registry = place(tmp_path), FakeRegistry()
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    first, second = bundle(tmp_path, "logistic"), bundle(tmp_path, "boosted" if "promotes" in at else "network")
    for path in (first, second):
        enter(settings, path, registry=registry, run_id="run")
    registry.aliases["champion"] = 2
    if at == "a training":
        message = enter(settings, bundle(tmp_path, "boosted", rounds=18), registry=registry, run_id="run").missing
    else:
        message = service(settings, registry).promote_waiting(LENIENT, None).registry_message
    assert f"the alias champion named version 2 in the registry, expected 1, the champion {first.name}" in message
    champion = require_champion(tmp_path)
    assert champion.version == (second if "promotes" in at else first).name
    assert registry.aliases["champion"] == champion.registered_version


@pytest.mark.parametrize(("policy", "again"), [("put_back", False), ("gate", True)])
def test_an_alias_moved_to_a_refused_challenger_goes_as_the_contract_says(tmp_path, policy, again):
    settings, registry = place(tmp_path), FakeRegistry()
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    first, second = bundle(tmp_path, "boosted"), bundle(tmp_path, "logistic")
    for path in (first, second):
        enter(settings, path, registry=registry, run_id="run")
    assert service(settings, registry).promote(LENIENT, second.name, None).status == "refused"
    registry.aliases["champion"] = registry.numbers[second.name]
    contract = dataclasses.replace(LENIENT, release=dataclasses.replace(LENIENT.release, moved_alias=policy))
    state = service(settings, registry).watch_alias(contract)
    assert state.moved
    assert registry.aliases["champion"] == registry.numbers[first.name]
    assert require_champion(tmp_path).version == first.name
    assert status(settings, second.name) == ("waiting_gate" if again else "refused")
    assert ("waits for the gate once more" in state.message) == again
    assert service(settings, registry).watch_alias(contract) == AliasState()


def test_an_alias_that_a_rollback_left_behind_was_moved_by_nobody(tmp_path):
    settings, registry = place(tmp_path), FakeRegistry()
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    for kind in ("logistic", "boosted"):
        path = bundle(tmp_path, kind)
        enter(settings, path, registry=registry, run_id="run")
    assert service(settings, registry).promote(LENIENT, path.name, None).status == "promoted"
    service(settings, registry).rollback(by="Ada", why="complaints")
    state = service(settings, registry).watch_alias(LENIENT)
    assert (state.moved, state.named) == (False, 2)
    assert "named version 2" in state.message


def test_a_registry_that_does_not_answer_changes_nothing_but_the_message(tmp_path):
    settings, registry = place(tmp_path), AwayRegistry()
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    for kind in ("logistic", "boosted"):
        path = bundle(tmp_path, kind)
        registration = enter(settings, path, registry=registry, run_id="run")
        assert (registration.missing, registration.registered_version) == (
            "MLflow does not answer",
            registry.numbers[path.name],
        )
    outcome = service(settings, registry).promote(LENIENT, path.name, None)
    assert (outcome.status, outcome.missing) == ("promoted", "MLflow does not answer")
    assert require_champion(tmp_path).registered_version == 2
    assert service(settings, registry).tell_registry() == "MLflow does not answer"


def tick(settings: Settings, cursor: str | None) -> dg.SensorResult | dg.SkipReason:
    """The sensor that lets MLflow follow a champion which moved without the gate."""
    with dg.build_sensor_context(cursor=cursor) as context:
        result = release_watch_sensor(settings)(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def test_an_alias_follows_a_champion_that_moves_while_it_is_set(tmp_path):
    settings = place(tmp_path)
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    one, two = bundle(tmp_path, "logistic"), bundle(tmp_path, "boosted")

    class Slow(FakeRegistry):
        moves = False

        def set_alias(self, alias, number):
            if self.moves:
                self.moves = False
                service(settings).rollback(by="Ada", why="complaints")
            return super().set_alias(alias, number)

    registry = Slow()
    for path in (one, two):
        enter(settings, path, registry=registry, run_id="run")
    service(settings, registry).promote(LENIENT, two.name, None)
    registry.moves = True
    service(settings, registry).tell_registry()
    assert registry.aliases["champion"] == registry.numbers[one.name]


def test_mlflow_itself_has_verdict_and_aliases(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings, registry = place(tmp_path, uri), MlflowRegistry(uri)
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    run = connect(uri).create_run(prepare_experiment(uri, "churn/tiny", tmp_path / "artifacts")).info.run_id
    one, two = bundle(tmp_path, "logistic"), bundle(tmp_path, "boosted")
    first = enter(settings, one, registry=registry, run_id=run)
    second = enter(settings, two, registry=registry, run_id=run)
    again = enter(settings, one, registry=registry, run_id=run)
    assert (first.alias, first.registered_version, first.champion) == ("champion", 1, one.name)
    assert (second.alias, second.registered_version, second.champion) == ("challenger", 2, one.name)
    assert again == first
    assert aliases(connect(uri)) == {"champion": 1, "challenger": 2}
    assert PromotionService.of(settings).promote(LENIENT, two.name, None).missing is None
    assert aliases(connect(uri)) == {"champion": 2}
    tags = connect(uri).get_model_version(MODEL_NAME, "2").tags
    assert tags["gate"] == "passed"
    assert '"holdout_pr_auc"' in tags["gate_figures"]
    service(settings).rollback(by="Ada", why="complaints")
    assert tick(settings, None).run_requests[0].run_key == "publish_champion-3"
    assert isinstance(tick(settings, "3"), dg.SkipReason)  # asked for once
    (tmp_path / "tiny.toml").write_text(TEXT)
    job = build(settings).get_repository_def().get_job("publish_champion")
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance).success
    assert aliases(connect(uri)) == {"champion": 1}
    assert isinstance(tick(settings, None), dg.SkipReason)  # MLflow's file has it
    service(settings).rollback(two.name, by="Ada", why="it was not the model")
    assert tick(settings, "3").cursor == "4"
    assert "named version 1 in the registry, expected 2" in PromotionService.of(settings).tell_registry()
    assert PromotionService.of(settings).tell_registry() is None
    assert aliases(connect(uri)) == {"champion": 2}
    assert "does not answer" in PromotionService.of(place(tmp_path)).tell_registry()


# -- registration --------------------------------------------------------------------------------------


def test_the_first_becomes_champion_and_the_second_challenger(tmp_path):
    settings, registry = place(tmp_path), FakeRegistry()
    one, two = bundle(tmp_path, "logistic"), bundle(tmp_path, "boosted")
    assert enter(settings, one, registry=registry, run_id="run").alias == "champion"
    assert enter(settings, two, registry=registry, run_id="run").alias == "challenger"
    champion = require_champion(tmp_path)
    assert (champion.version, champion.registered_version, champion.by) == (one.name, 1, "training")
    assert (champion.path(tmp_path), champion.since_at) == (one, NOW)


def test_without_mlflow_the_model_is_champion_all_the_same(tmp_path):
    registration = enter(place(tmp_path), bundle(tmp_path, "logistic"))
    assert (registration.alias, registration.registered_version) == ("champion", None)
    assert registration.missing == "MLflow is away"
    assert require_champion(tmp_path).registered_version is None


def test_the_same_champion_again_leaves_the_pointer_as_it_is_until_mlflow_numbers_it(tmp_path):
    settings, one = place(tmp_path), bundle(tmp_path, "logistic")
    enter(settings, one)
    before = (tmp_path / "champion.json").read_bytes()
    enter(settings, one)
    assert (tmp_path / "champion.json").read_bytes() == before
    enter(settings, one, registry=FakeRegistry(), run_id="run")
    assert require_champion(tmp_path).registered_version == 1
    assert len(history(settings)) == 1


def test_every_first_champion_is_in_the_history_once_and_one_of_real_customers_replaces_one_of_generated(tmp_path):
    settings = place(tmp_path)
    one, two = bundle(tmp_path, "logistic", generated=True), bundle(tmp_path, "boosted")
    for path, generated in ((one, True), (one, True), (two, False)):
        assert enter(settings, path, generated=generated).alias == "champion"
    moves = [(move.kind, move.before, move.to.version, move.status, move.by) for move in history(settings)]
    assert moves == [("first", None, one.name, "done", "training"), ("first", one.name, two.name, "done", "training")]


def test_a_refused_model_changes_nothing(tmp_path):
    with pytest.raises(GateRefused):
        enter(place(tmp_path), bundle(tmp_path, "logistic"), pr_auc=0.4)
    assert read_champion(tmp_path) is None


def test_what_must_be_on_disk_is_written_before_a_champion_and_not_for_a_challenger(tmp_path):
    settings, champions = place(tmp_path), []

    def before_champion():
        champions.append(read_champion(tmp_path))

    for kind in ("logistic", "boosted"):
        enter(settings, bundle(tmp_path, kind), before_champion=before_champion)
    assert champions == [None]


def test_a_changed_bundle_cannot_be_approved(tmp_path):
    settings, _, new = home_with(tmp_path)
    promote(settings, MANUAL, new)
    (tmp_path / "bundles" / new / "card.json").write_text("{}")
    with pytest.raises(BundleCorrupt):
        service(settings).approve(new, Person("Ada"), "looks right")
    assert status(settings, new) == "waiting_approval"


WRITERS = (
    *("write_champion(", "ChampionMoves(", ".record_verdict(", ".add_challenger(", ".fail_promotion("),
    *(".intend_move(", ".finish_move(", ".abandon_move(", ".finish_request("),
)


def test_nobody_outside_the_package_writes_ledger_or_pointer():
    package = Path(churn_assets.__file__).parent
    sources = [path for path in package.rglob("*.py") if (package / "promotion") not in path.parents]
    assert sources
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert not [writer for writer in WRITERS if writer in text], path

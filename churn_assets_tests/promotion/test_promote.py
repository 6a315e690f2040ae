"""From a challenger that waits to a champion, or not: each way it can end, and each thing that can be missing."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from churn_assets.contract.model import Contract
from churn_assets.contract.policy import Release
from churn_assets.errors import AssetMissing, TransitionRefused
from churn_assets.features.encode import encode_table
from churn_assets.mlflow_registry.connect import connect
from churn_assets.mlflow_registry.models import MODEL_NAME, aliases
from churn_assets.mlflow_registry.tags import follow, sync_aliases
from churn_assets.mlflow_registry.tracking import prepare_experiment
from churn_assets.promotion import promote as succession
from churn_assets.promotion.champion import bundle_hash, history, rollback
from churn_assets.promotion.holdout import freeze, holdout_path
from churn_assets.promotion.ledger.ledger import Ledger
from churn_assets.promotion.pointer import read_champion, require_champion
from churn_assets.promotion.promote import promote_waiting, try_promotion
from churn_assets.promotion.register import promote
from churn_assets.promotion.registration_rules import Model, keep_admission, read_admission
from churn_assets.scoring.bundle import write_bundle
from churn_assets.scoring.models.boosted import BoostedModel
from churn_assets.settings import Settings
from churn_assets_tests.scoring.tiny import AS_OF, CONTRACT, booster_bytes, customers, scorer_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LENIENT = dataclasses.replace(CONTRACT, release=Release(max_ece=0.2, segment_rows=5000))
MANUAL = dataclasses.replace(CONTRACT, release=Release(max_ece=0.2, segment_rows=5000, approval="manual"))


def place(home: Path, uri: str = "http://127.0.0.1:9") -> Settings:
    return Settings(root=home, home=home, contract_path=home / "tiny.toml", mlflow_uri=uri)


def bundle(home: Path, kind: str, rounds: int = 25) -> Path:
    scorer = scorer_of(kind, "identity")
    if rounds != 25:
        scorer = dataclasses.replace(scorer, model=BoostedModel([booster_bytes(3)], [rounds]))
    return write_bundle(
        home / "bundles",
        scorer,
        card={},
        golden=customers(32, seed=8),
        as_of=AS_OF,
        reference=customers(20, seed=9),
        provenance={"generated": False},
    )


def clean(count: int = 900, seed: int = 11) -> pa.Table:
    """Customers who churn as those did that the boosted model has learnt from."""
    rows = customers(count, seed)
    columns = encode_table(CONTRACT, rows)
    signal = 2.0 - 0.15 * columns["sent"] + 0.02 * np.nan_to_num(columns["spent"], nan=150.0) + (columns["city"] == 1)
    churned = (signal + np.random.default_rng(seed).normal(size=count) > 1.5).astype(np.int8)
    told = {b"churn_as_of": AS_OF.encode(), b"churn_source": b"tests"}
    rows = rows.take(pa.array(range(count)))  # as read from a file: nothing left below nulls
    return rows.append_column("churned", pa.array(churned)).replace_schema_metadata(told)


def enter(settings: Settings, path: Path, contract: Contract = CONTRACT, accused: tuple[tuple[str, str], ...] = ()):
    model = Model(path.name, 0.9, False, accused)
    return promote(settings, contract, model, path, (settings.mlflow_uri, None, "MLflow is away"))


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
    outcome = try_promotion(settings, LENIENT, new, None, NOW)
    assert (outcome.status, status(settings, new)) == ("promoted", "promoted"), outcome.words
    champion = require_champion(tmp_path)
    assert (champion.version, champion.by, champion.since_at) == (new, "the gate", NOW)
    assert [move.kind for move in history(settings)] == ["first", "promotion"]
    assert "not in MLflow's registry" in str(outcome.missing)
    kept = Ledger(settings.ledger_path).challenger(new)
    assert kept.verdict == outcome.verdict.to_json()
    assert kept.verdict["champion"] == old


def test_a_worse_challenger_is_refused_with_every_number_in_the_ledger(tmp_path):
    settings, old, new = home_with(tmp_path, "boosted", "logistic")
    outcome = try_promotion(settings, LENIENT, new, None, NOW)
    assert (outcome.status, status(settings, new), require_champion(tmp_path).version) == ("refused", "refused", old)
    checks = {check["check"]: check for check in Ledger(settings.ledger_path).challenger(new).verdict["checks"]}
    assert not checks["holdout_pr_auc"]["passed"]
    assert checks["holdout_pr_auc"]["found"] < -0.1
    assert Ledger(settings.ledger_path).rejections_in_a_row() == 1
    with pytest.raises(TransitionRefused):
        try_promotion(settings, LENIENT, new, None, NOW)  # by hand, once more: it stays refused


def test_by_contract_a_person_decides_and_the_gate_is_held_again(tmp_path):
    settings, old, new = home_with(tmp_path)
    assert try_promotion(settings, MANUAL, new, None, NOW).status == "waiting_approval"
    assert require_champion(tmp_path).version == old
    assert promote_waiting(settings, MANUAL, None, NOW) == []
    Ledger(settings.ledger_path).approve(new, "Ada", "looks right", bundle_hash(tmp_path / "bundles" / new))
    assert [outcome.status for outcome in promote_waiting(settings, MANUAL, None, NOW)] == ["promoted"]
    assert (require_champion(tmp_path).version, require_champion(tmp_path).by) == (new, "Ada")


def test_what_was_approved_and_fails_the_gate_now_is_refused(tmp_path):
    settings, old, new = home_with(tmp_path)
    try_promotion(settings, MANUAL, new, None, NOW)
    Ledger(settings.ledger_path).approve(new, "Ada", "looks right", bundle_hash(tmp_path / "bundles" / new))
    stricter = dataclasses.replace(MANUAL, release=dataclasses.replace(MANUAL.release, holdout_margin=0.9))
    assert try_promotion(settings, stricter, new, None, NOW).status == "refused"
    assert (status(settings, new), require_champion(tmp_path).version) == ("refused", old)


def test_an_approved_bundle_that_has_changed_is_refused(tmp_path):
    settings, old, new = home_with(tmp_path)
    path = tmp_path / "bundles" / new
    try_promotion(settings, MANUAL, new, None, NOW)
    Ledger(settings.ledger_path).approve(new, "Ada", "looks right", bundle_hash(path))
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
    outcome = try_promotion(settings, MANUAL, new, None, NOW)
    assert outcome.status == "refused"
    assert "is not the one that Ada approved" in outcome.words
    assert require_champion(tmp_path).version == old


def test_a_damaged_challenger_is_refused(tmp_path):
    settings, old, new = home_with(tmp_path)
    (tmp_path / "bundles" / new / "card.json").write_text("{}")
    outcome = try_promotion(settings, LENIENT, new, None, NOW)
    assert outcome.status == "refused"
    assert "card.json" in outcome.words
    assert require_champion(tmp_path).version == old


def test_a_challenger_of_another_contract_is_refused(tmp_path):
    settings, _, new = home_with(tmp_path)
    other = dataclasses.replace(LENIENT, name="other")
    freeze(settings.holdout_dir, other, clean(), False, "first", NOW)
    outcome = try_promotion(settings, other, new, None, NOW)
    assert outcome.status == "refused"
    assert "made under contract 'tiny'" in outcome.words


def test_without_a_holdout_the_gate_refuses_and_says_what_to_do(tmp_path):
    settings, old, new = home_with(tmp_path)
    holdout_path(settings.holdout_dir, CONTRACT).unlink()
    outcome = try_promotion(settings, LENIENT, new, None, NOW)
    assert outcome.status == "refused"
    assert "there is no frozen holdout" in outcome.words
    assert "churn run --home" in outcome.words
    assert require_champion(tmp_path).version == old


def test_a_damaged_holdout_hinders_the_gate_and_leaves_the_challenger_waiting(tmp_path):
    settings, _, new = home_with(tmp_path)
    path = holdout_path(settings.holdout_dir, CONTRACT)
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good[:-100])
    outcome = try_promotion(settings, LENIENT, new, None, NOW)
    assert (outcome.status, status(settings, new)) == ("undecided", "waiting_gate")
    assert "the gate cannot be held" in outcome.words
    path.write_bytes(good)
    assert try_promotion(settings, LENIENT, new, None, NOW).status == "promoted"


@pytest.mark.parametrize("what", ["pointer", "bundle"])
def test_without_a_champion_to_compare_with_the_challenger_waits(tmp_path, what):
    settings, old, new = home_with(tmp_path)
    if what == "pointer":
        (tmp_path / "champion.json").unlink()
    else:
        shutil.rmtree(tmp_path / "bundles" / old)
    outcome = try_promotion(settings, LENIENT, new, None, NOW)
    assert (outcome.status, status(settings, new)) == ("undecided", "waiting_gate")
    assert "churn run" in outcome.words


def test_a_champion_that_came_while_the_gate_was_held_is_not_replaced_by_its_verdict(tmp_path, monkeypatch):
    settings, old, new = home_with(tmp_path)
    third = bundle(tmp_path, "network").name
    held = succession.hold_gate

    def held_while_a_person_moves_the_champion(*about):
        verdict = held(*about)
        rollback(settings, third, by="Ada", why="complaints")
        return verdict

    monkeypatch.setattr(succession, "hold_gate", held_while_a_person_moves_the_champion)
    (outcome,) = promote_waiting(settings, LENIENT, None, NOW)
    assert (outcome.status, status(settings, new)) == ("overtaken", "approved")
    assert f"compared with {old}, and {third} is champion by now" in outcome.words
    assert require_champion(tmp_path).version == third
    monkeypatch.undo()
    assert [found.status for found in promote_waiting(settings, LENIENT, None, NOW)] == ["promoted"]
    assert Ledger(settings.ledger_path).challenger(new).verdict["champion"] == third


def test_the_champion_is_not_its_own_challenger(tmp_path):
    settings, old, _ = home_with(tmp_path)
    Ledger(settings.ledger_path).add_challenger(
        old, f"bundles/{old}", bundle_hash(tmp_path / "bundles" / old), 1, None, NOW
    )
    outcome = try_promotion(settings, LENIENT, old, None, NOW)
    assert outcome.status == "refused"
    assert "is the champion already" in outcome.words


def test_a_column_that_nobody_attests_any_more_refuses_the_challenger(tmp_path):
    settings, _, new = home_with(tmp_path)
    keep_admission(tmp_path, Model(new, 0.9, False, (("sent", "alone gets 80 % of the way"),)))
    outcome = try_promotion(settings, LENIENT, new, None, NOW)
    assert outcome.status == "refused"
    assert "column 'sent' alone gets 80 % of the way" in outcome.words


def test_a_challenger_without_the_record_of_its_audit_is_refused(tmp_path):
    settings, _, new = home_with(tmp_path)
    (tmp_path / "admissions" / f"{new}.json").unlink()
    outcome = try_promotion(settings, LENIENT, new, None, NOW)
    assert outcome.status == "refused"
    assert "register the model again" in outcome.words
    (tmp_path / "admissions" / f"{new}.json").write_text("{")
    with pytest.raises(AssetMissing, match="cannot be read"):
        read_admission(tmp_path, new)


def test_the_newest_goes_first_and_those_behind_a_promoted_one_are_superseded(tmp_path):
    settings, _, older = home_with(tmp_path)
    newer = bundle(tmp_path, "boosted", rounds=18)
    enter(settings, newer)
    outcomes = promote_waiting(settings, LENIENT, None, NOW)
    assert [(o.version, o.status) for o in outcomes] == [(newer.name, "promoted"), (older, "refused")]
    assert f"superseded by {newer.name}" in outcomes[1].words
    assert require_champion(tmp_path).version == newer.name
    assert Ledger(settings.ledger_path).rejections_in_a_row() == 0


def test_one_behind_a_newer_one_that_is_refused_has_its_turn(tmp_path):
    settings, _, older = home_with(tmp_path)
    newer = bundle(tmp_path, "network")
    enter(settings, newer)
    outcomes = promote_waiting(settings, LENIENT, None, NOW)
    assert [(o.version, o.status) for o in outcomes] == [(newer.name, "refused"), (older, "promoted")]


def test_a_home_without_anything_has_nobody_waiting(tmp_path):
    assert promote_waiting(place(tmp_path), LENIENT, None, NOW) == []
    assert read_champion(tmp_path) is None


def test_mlflow_is_told_the_verdict_and_follows_a_rollback(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = place(tmp_path, uri)
    freeze(settings.holdout_dir, CONTRACT, clean(), False, "first", NOW)
    run = connect(uri).create_run(prepare_experiment(uri, "churn/tiny", tmp_path / "artifacts")).info.run_id
    for kind in ("logistic", "boosted"):
        path = bundle(tmp_path, kind)
        promote(settings, CONTRACT, Model(path.name, 0.9, False), path, (uri, run, None))
    outcome = try_promotion(settings, LENIENT, path.name, None, NOW)
    assert (outcome.status, outcome.missing) == ("promoted", None)
    assert aliases(connect(uri)) == {"champion": 2}
    tags = connect(uri).get_model_version(MODEL_NAME, "2").tags
    assert tags["gate"] == "passed"
    assert '"holdout_pr_auc"' in tags["gate_figures"]
    rollback(settings, by="Ada", why="complaints")
    assert follow(settings, require_champion(tmp_path)) is None
    assert aliases(connect(uri)) == {"champion": 1}
    assert sync_aliases(uri, 1) is False
    assert "does not answer" in str(follow(place(tmp_path), require_champion(tmp_path)))

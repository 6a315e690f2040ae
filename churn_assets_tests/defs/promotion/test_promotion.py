"""The asset `promotion`: what it shows, and that materialising it by hand does not go around the gate."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.promotion.holdout import freeze
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import require_champion
from churn_assets.promotion.registration import (
    AuditFinding,
    TrainedModel,
    read_registration_record,
    save_registration_record,
)
from churn_assets.settings import Settings
from churn_assets_tests.defs.home import ROOT, checks, metadata, run
from churn_assets_tests.defs.home import settings as settings_of
from churn_assets_tests.promotion.test_service import NOW, bundle, clean, enter
from churn_assets_tests.scoring.tiny import TEXT

LENIENT = TEXT + "\n[release]\nmax_ece = 0.2\nsegment_rows = 5000\n"


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def tiny_home(tmp_path: Path, champion: str, challenger: str, text: str = LENIENT) -> tuple[Settings, str, str]:
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    home = tmp_path / "home"
    environ = {"CHURN_HOME": str(home), "CHURN_CONTRACT": str(path), "CHURN_MLFLOW_URI": "http://127.0.0.1:9"}
    settings = Settings.from_environ(environ, ROOT)
    contract = parse_contract(text, "tiny.toml")
    freeze(settings.holdout_dir, contract, clean(), False, "first", NOW)
    one, two = bundle(home, champion), bundle(home, challenger)
    enter(settings, one, contract)
    enter(settings, two, contract)
    return settings, one.name, two.name


def test_a_fresh_home_has_nobody_waiting(tmp_path, instance):
    result = run(settings_of(tmp_path), instance, ["promotion"])
    assert result.success
    assert checks(result) == {"the_challenger_is_no_worse": True}
    told = metadata(result, "promotion")
    assert (told["champion"], told["message"]) == ("none", "no challenger waits for the gate")


def test_a_challenger_that_passes_is_champion_and_the_verdict_is_shown(tmp_path, instance):
    settings, _, new = tiny_home(tmp_path, "logistic", "boosted")
    result = run(settings, instance, ["promotion"])
    told = metadata(result, "promotion")
    assert result.success
    assert checks(result) == {"the_challenger_is_no_worse": True}
    assert require_champion(settings.home).version == told["champion"] == new
    assert "| holdout_pr_auc |" in told["verdict"]
    assert all(told[name].startswith("![") for name in ("pr_auc_differences", "precision_and_recall"))
    assert "not in MLflow's registry" in told["mlflow_of_the_challenger"]


def test_a_refused_challenger_fails_the_check_and_not_the_run_however_often_it_is_made_by_hand(tmp_path, instance):
    settings, old, new = tiny_home(tmp_path, "boosted", "logistic")
    result = run(settings, instance, ["promotion"])
    (check,) = result.get_asset_check_evaluations()
    assert result.success
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert f"challenger {new} is refused" in str(check.description)
    assert run(settings, instance, ["promotion"]).success
    assert require_champion(settings.home).version == old
    assert Ledger(settings.ledger_path).challenger(new).status == "refused"


def test_a_person_who_has_to_say_yes_is_told_how(tmp_path, instance):
    settings, old, new = tiny_home(tmp_path, "logistic", "boosted", LENIENT + 'approval = "manual"\n')
    told = metadata(run(settings, instance, ["promotion"]), "promotion")
    assert told["status"] == "waiting approval"
    assert f"churn approve {new}" in told["message"]
    assert require_champion(settings.home).version == old


def test_the_audit_of_a_model_that_was_registered_is_kept_for_the_gate(tmp_path):
    model = TrainedModel("v1", 0.9, True, (AuditFinding("sent", "follows the label"),))
    save_registration_record(tmp_path, model)
    assert read_registration_record(tmp_path, "v1") == model

"""Which models are registered, and under which alias."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from churn_assets.contract.limits import Quality
from churn_assets.contract.load import load_contract
from churn_assets.errors import AssetMissing, GateRefused
from churn_assets.promotion.pointer import Champion
from churn_assets.promotion.registration import (
    AuditFinding,
    TrainedModel,
    assign_role,
    check_registration,
    read_registration_record,
    save_registration_record,
    unattested,
)

STORE = load_contract(Path(__file__).resolve().parents[2] / "contracts" / "store.toml")
FLOORED = dataclasses.replace(STORE, quality=Quality(pr_auc_floor=0.6))
NEW = TrainedModel("new", 0.9, generated=False)


def champion(version: str = "old", fingerprint: str = STORE.fingerprint) -> Champion:
    return Champion(
        version, f"bundles/{version}", fingerprint, 1, datetime(2026, 1, 1, tzinfo=UTC), "training", "first"
    )


@pytest.mark.parametrize("pr_auc", [0.6, 0.61, 1.0])
def test_a_model_at_the_floor_or_above_is_admitted(pr_auc):
    check_registration(TrainedModel("v", pr_auc, generated=False), FLOORED)


@pytest.mark.parametrize("pr_auc", [0.5999, 0.0, float("nan")])
def test_a_model_below_the_floor_is_refused_in_one_line(pr_auc):
    with pytest.raises(GateRefused, match=r"^model v: test PR-AUC is .*, expected at least 0\.6000 .*$"):
        check_registration(TrainedModel("v", pr_auc, generated=False), FLOORED)


@pytest.mark.parametrize(
    ("before", "bundle_there", "champion_generated", "alias", "words"),
    [
        (None, False, False, "champion", "the first model of this home"),
        (champion(), True, False, "challenger", "champion old stays"),
        (champion("new"), True, False, "champion", "first"),
        (champion(fingerprint="f" * 64), True, False, "challenger", "inputs differ from those of champion old: they"),
        (champion(), False, False, "champion", "is gone from this home"),
        (champion(), True, True, "champion", "was trained on generated customers"),
    ],
    ids=["first", "second", "the same again", "other contract", "bundle gone", "generated before"],
)
def test_the_role_depends_on_the_champion_there_is(tmp_path, before, bundle_there, champion_generated, alias, words):
    if bundle_there:
        (tmp_path / "bundles" / before.version).mkdir(parents=True)
    role = assign_role(NEW, STORE, before, tmp_path, champion_generated)
    assert role.alias == alias
    assert words in role.reason


@pytest.mark.parametrize("before", [None, champion()], ids=["no champion", "bundle gone"])
def test_a_model_that_was_refused_is_never_champion_without_the_gate(tmp_path, before):
    role = assign_role(NEW, STORE, before, tmp_path, refused=True)
    assert (role.alias, role.change) == ("challenger", "")
    assert "refused or rejected: only the gate promotes it" in role.reason


def test_generated_customers_do_not_depose_generated_ones(tmp_path):
    (tmp_path / "bundles" / "old").mkdir(parents=True)
    assert (
        assign_role(TrainedModel("new", 0.9, generated=True), STORE, champion(), tmp_path, True).alias == "challenger"
    )


def test_a_champion_is_of_real_customers_unless_it_is_said_to_be_of_generated_ones(tmp_path):
    (tmp_path / "bundles" / "old").mkdir(parents=True)
    assert assign_role(NEW, STORE, champion(), tmp_path).alias == "challenger"


FINDINGS = (
    AuditFinding("favday", "is an echo"),
    AuditFinding("esent", "is alone"),
    AuditFinding("favday", "is isolated"),
    AuditFinding("city", "is alone"),
)
SUSPECT = TrainedModel("v", 0.9, False, FINDINGS)  # contracts/store.toml attests `esent` alone of these


def test_findings_on_columns_that_nobody_attests_are_open():
    assert unattested(SUSPECT, STORE) == [FINDINGS[0], FINDINGS[2], FINDINGS[3]]
    assert unattested(NEW, STORE) == []


def test_a_model_with_an_open_finding_is_refused_and_each_column_is_named_once():
    with pytest.raises(GateRefused, match=r"'favday' is an echo \(the same for 'city'\), expected") as refusal:
        check_registration(SUSPECT, STORE)
    assert "\n" not in str(refusal.value)
    with pytest.raises(GateRefused, match="'city' is alone, expected somebody to attest"):
        check_registration(dataclasses.replace(SUSPECT, findings=FINDINGS[3:]), STORE)
    check_registration(dataclasses.replace(SUSPECT, findings=FINDINGS[1:2]), STORE)


def test_what_the_gate_checks_again_is_stored_and_read(tmp_path):
    path = save_registration_record(tmp_path, SUSPECT)
    assert path.parent.parent == tmp_path
    assert read_registration_record(tmp_path, "v") == SUSPECT


def test_a_record_that_is_missing_or_damaged_is_an_error_that_says_which(tmp_path):
    with pytest.raises(AssetMissing, match="does not exist, expected the findings of the audit of model v"):
        read_registration_record(tmp_path, "v")
    save_registration_record(tmp_path, SUSPECT).write_text("{}")
    with pytest.raises(AssetMissing, match="cannot be read, expected the findings"):
        read_registration_record(tmp_path, "v")

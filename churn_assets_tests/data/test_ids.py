"""One customer has one id on every way in: tables, requests, feedback and files of outcomes."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.contract.load import parse_contract
from churn_assets.contract.values import canonical_id
from churn_assets.data.outcomes import import_file
from churn_assets.data.readers.read import read_table
from churn_assets.data.validation.validate import validate_features_only
from churn_assets.errors import RowsRejected
from churn_assets.features.encode import encode_rows
from churn_assets.features.scalar import RowReader
from churn_assets.prediction_log.feedback import Imported, parse_reports
from churn_assets.settings import Settings
from churn_assets_tests.data.test_instants import CONTRACT, TEXT
from churn_assets_tests.serving.client import ROW, home_with_champion, post
from churn_assets_tests.strategies import ROOT

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
WITH_ORDER = parse_contract(f'{TEXT}[[columns]]\nname = "order"\nkind = "id"\nrole = "input"\n')

# What a cell or a request has, and the id.
IDS = [
    (12345, "12345"),
    (12345.0, "12345"),
    ("12345", "12345"),
    (" 12345 ", "12345"),
    ("12345.0", "12345"),
    ("1.2345E+4", "12345"),
    ("00123", "00123"),
    ("000000", "000000"),
    ("C0000   ", "C0000"),
    ("C\u00a0", "C"),
    (12345678901234567890, "12345678901234567890"),
    ("12345678901234567890", "12345678901234567890"),
    ("99E568", "99E568"),
    ("1.5", "1.5"),
    ("1.2.0", "1.2.0"),
    (0, "0"),
    (-7, "-7"),
    (1.5, None),
    (True, None),
    ("   ", None),
    ("x" * 201, None),
    (10**250, None),
    (float("nan"), None),
    (float("inf"), None),
    (["a"], None),
]


@pytest.mark.parametrize(("value", "own_id"), IDS)
def test_a_value_of_any_type_is_one_id_or_none(value, own_id):
    assert canonical_id(value) == own_id
    report = {"customer_id": value, "churned": True, "observed_at": "2026-01-20"}
    if own_id is not None:
        assert parse_reports([report], "r", NOW, None)[0].customer_id == own_id


def to_file(path, ids):
    if path.suffix == ".csv":
        path.write_text("id,joined\n" + "".join(f"{own_id},2025-07-11\n" for own_id in ids))
    else:
        pq.write_table(pa.table({"id": ids, "joined": ["2025-07-11"] * len(ids)}), path)
    return path


SPELLED: list[tuple[list[object], str]] = [
    (["12345", "12346"], ".csv"),
    (["12345.0", "12346.0"], ".csv"),
    (["  12345", "12346  "], ".csv"),
    (["1.2345E+04", "1.2346E+04"], ".csv"),
    ([12345, 12346], ".parquet"),
    ([12345.0, 12346.0], ".parquet"),
    (["12345 ", "12346.0"], ".parquet"),
]


@pytest.mark.parametrize(("ids", "suffix"), SPELLED)
def test_a_table_has_the_ids_however_it_spells_them(tmp_path, ids, suffix):
    table = read_table(to_file(tmp_path / f"t{suffix}", ids), CONTRACT, label_required=False)
    assert validate_features_only(CONTRACT, table).customers["id"].to_pylist() == ["12345", "12346"]


@pytest.mark.parametrize("read", [RowReader(WITH_ORDER), lambda row: encode_rows(WITH_ORDER, [row])])
@pytest.mark.parametrize("order", ["x" * 201, "a\nb", "  ", 5])
def test_an_id_beside_the_key_is_a_text_that_can_be_an_id(read, order):
    with pytest.raises(RowsRejected, match=r"expected an id \(text\) of at most 200 printable characters"):
        read({"joined": "2025-07-11", "order": order})


def test_a_prediction_meets_its_outcomes_however_both_spell_the_id(tmp_path):
    home = home_with_champion(tmp_path / "home")
    of = Settings.from_environ({"CHURN_HOME": str(home)}, ROOT)
    customer = {name: cell for name, cell in ROW.items() if name != "id"}
    for ids, _ in SPELLED:
        assert post(home, "/predict", {**customer, "id": ids[0]}).json()["customer_id"] == "12345"
        batch = post(home, "/predict_batch", {"customers": [{**customer, "id": own_id} for own_id in ids]}).json()
        assert [answer["customer_id"] for answer in batch["predictions"]] == ["12345", "12346"]
    for number, (ids, _) in enumerate(SPELLED, 1):
        outcomes = tmp_path / f"outcomes_{number}.csv"
        rows = [f"{own_id},no,2026-01-{number:02}\n" for own_id in [*ids, "00012345"]]
        outcomes.write_text("customer_id, churned, observed_at\n" + "".join(rows))
        assert import_file(of, outcomes, NOW) == Imported(3, 0, 0, unmatched=1, example="00012345")


def test_an_import_says_how_many_customers_have_both_outcomes(tmp_path):
    of = Settings.from_environ({"CHURN_HOME": str(tmp_path / "home")}, ROOT)
    path = tmp_path / "outcomes.csv"
    path.write_text(
        "customer_id,churned,observed_at\na,1,2026-01-01\nb,1,2026-01-01\nb.0,1,2026-01-02\nb,0,2026-01-03\n"
    )
    assert import_file(of, path, NOW) == Imported(4, 0, 0, unmatched=4, example="a", conflicting=1)

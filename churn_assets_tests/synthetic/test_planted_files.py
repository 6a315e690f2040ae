"""`churn generate --leak`: a table with columns that know the outcome, and the contract that has them."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from churn_assets.contract.load import load_contract
from churn_assets.data.validation.validate import validate
from churn_assets.errors import ScenarioError
from churn_assets.synthetic.leaks import read_leaks
from churn_assets.synthetic.scenario import read_scenario
from churn_assets.synthetic.write import write_customers
from churn_assets_tests.strategies import TELECOM


def test_each_planted_column_has_the_requested_strength_and_is_in_the_contract(tmp_path):
    # A last chunk of three rows, which may all be of one class.
    leaks = read_leaks(["label_echo:0.9", "late_update:0.7"])
    written = write_customers(TELECOM, 65_539, 1, tmp_path / "t.parquet", leaks=leaks)
    assert written.files == (tmp_path / "t.parquet", tmp_path / "t.toml")
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.num_rows == written.rows == 65_539
    found = validate(load_contract(tmp_path / "t.toml"), table)
    assert found.report.rows_rejected == 0
    churned = found.customers["churned"].to_numpy()
    assert roc_auc_score(churned, found.customers["value_index"].to_numpy()) == pytest.approx(0.9, abs=0.01)
    assert roc_auc_score(-churned, found.customers["days_since_update"].to_numpy()) == pytest.approx(0.7, abs=0.01)


def test_the_same_seed_gives_the_same_leaks_and_the_other_columns_stay(tmp_path):
    for name in ("a", "b"):
        write_customers(TELECOM, 500, 3, tmp_path / f"{name}.parquet", leaks=[("label_echo", 0.8)])
    write_customers(TELECOM, 500, 3, tmp_path / "plain.parquet")
    one, two, plain = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("a", "b", "plain"))
    assert one == two
    assert one.select(plain.column_names) == plain
    assert np.ptp(one["value_index"].to_numpy()) > 0


@pytest.mark.parametrize("text", ["label_echo", "label_echo:x", "label_echo:0.99", "echo:0.8"])
def test_a_leak_that_cannot_be_read_names_the_kinds(text):
    with pytest.raises(ScenarioError, match=rf"--leak '{text}' cannot be read; expected KIND:STRENGTH.*label_echo"):
        read_leaks([text])


def test_a_contract_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "t.toml").write_text("mine")
    with pytest.raises(ScenarioError, match=r"t\.toml exists already"):
        write_customers(TELECOM, 100, 1, tmp_path / "t.parquet", leaks=[("label_echo", 0.8)])
    assert (tmp_path / "t.toml").read_text() == "mine"
    assert not (tmp_path / "t.parquet").exists()


def test_a_leak_and_labels_that_come_late_exclude_each_other(tmp_path):
    late = read_scenario(TELECOM, label_delay_days=10)
    with pytest.raises(ScenarioError, match="expected one of the two options"):
        write_customers(
            TELECOM, 100, 1, tmp_path / "t.csv", late, labels=tmp_path / "l.csv", leaks=[("label_echo", 0.8)]
        )

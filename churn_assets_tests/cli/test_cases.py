"""Stored inputs that once went wrong, from file to call list by two commands."""

import subprocess
import sys

import pandas as pd

from churn_assets_tests.cases import SMALL, needs_cases
from churn_assets_tests.cli.test_main import churn

CASES = ("three_states", "units", "dates", "nulls_in_category", "linear_twins", "cohort_customer_age")


@needs_cases
def test_the_columns_of_six_small_cases_go_from_file_to_call_list(tmp_path):
    # The cases have 48 customers, of whom no model can be trained; their script makes 400 of the same kind.
    script = (SMALL / "make_small.py").read_text()
    subprocess.run([sys.executable, "-c", script.replace("n=48", "n=400")], cwd=tmp_path, check=True)
    cells = [pd.read_csv(tmp_path / f"{name}.csv", dtype=str, keep_default_na=False) for name in CASES]
    wide = pd.concat([cells[3][["plan"]], *cells], axis=1).drop(columns="churn")
    wide = wide.loc[:, ~wide.columns.duplicated()]
    table, contract, home = tmp_path / "wide.csv", tmp_path / "wide.toml", tmp_path / "home"
    table.write_text("sep=;\nExport of all customers\n" + wide.to_csv(index=False, sep=";"), encoding="utf-16")
    asked = ("contract", "init", table, "--label", "status", "--churned", "Churned", "-o", contract)
    drafted = churn(*asked, home=home)
    assert drafted.returncode == 0, drafted.stderr
    assert "it can be used as it is" in drafted.stdout
    made = churn("run", "--contract", contract, "--source", table, home=home)
    assert made.returncode == 0, made.stderr + made.stdout
    assert "400 rows in; " in made.stdout
    assert "; 0 rejected" in made.stdout
    assert (home / "champion.json").is_file()
    assert not (home / "refusal.json").exists()
    listed = pd.read_csv(home / "reports" / "risk_list.csv")["customer_id"]
    assert set(listed) == set(wide["customer_id"][wide["status"] != "Churned"])

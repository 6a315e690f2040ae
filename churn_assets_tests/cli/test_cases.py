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
    # As an export: a line above the header, units below it, empty rows, the header again, a total.
    header, *rows = wide.to_csv(index=False, sep=";").splitlines()
    units = ";".join({"customer_id": "", "status": ""}.get(name, "unit") for name in wide.columns)
    total = ";".join({"customer_id": "Total", "bill": "99999.5"}.get(name, "") for name in wide.columns)
    empty = ";" * (len(wide.columns) - 1)
    lines = ["sep=;", "Export of all customers", header, units, *rows[:200], empty, header, *rows[200:], empty, total]
    table.write_text("\n".join(lines) + "\n", encoding="utf-16")
    asked = ("contract", "init", table, "--label", "status", "--churned", "Churned", "-o", contract)
    drafted = churn(*asked, home=home)
    assert drafted.returncode == 0, drafted.stderr
    assert "it can be used as it is" in drafted.stdout
    made = churn("run", "--contract", contract, "--source", table, home=home)
    assert made.returncode == 0, made.stderr + made.stdout
    assert "403 rows in; " in made.stdout
    assert "; 3 rejected" in made.stdout
    assert (home / "champion.json").is_file()
    assert not (home / "refusal.json").exists()
    listed = pd.read_csv(home / "reports" / "risk_list.csv")["customer_id"]
    assert set(listed) == set(wide["customer_id"][wide["status"] != "Churned"])

"""`churn contract init` and `churn generate` as they are typed."""

import pytest

from churn_assets_tests.cli.test_main import churn, refused
from churn_assets_tests.data import tables
from churn_assets_tests.strategies import ROOT


def test_a_telecom_table_goes_from_file_to_call_list_by_two_commands(tmp_path):
    table = tables.to_csv(tmp_path / "telecom.csv", tables.telecom(700))
    contract, home = tmp_path / "contracts" / "mine.toml", tmp_path / "home"
    asked = ("contract", "init", table, "--label", "Churn", "--churned", "Yes", "-o", contract)
    drafted = churn(*asked, home=home)
    assert drafted.returncode == 0, drafted.stderr
    assert f"churn run --contract {contract} --source {table}" in drafted.stdout
    assert "--force" in refused(churn(*asked, home=home))
    made = churn("run", "--contract", contract, "--source", table, home=home)
    assert made.returncode == 0, made.stderr + made.stdout
    assert "Chosen:" in made.stdout
    assert "700 rows in; repaired: none; 0 rejected" in made.stdout
    assert (home / "reports" / "model_report.html").is_file()
    scored = churn("score", table, "-o", tmp_path / "scores.csv", home=home)
    assert scored.returncode == 0, scored.stderr
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 701


def test_a_bank_table_with_leaks_is_refused_where_the_contract_says_so_until_somebody_vouches(tmp_path):
    table = tables.to_csv(tmp_path / "bank.csv", tables.bank(1500))
    contract, home = tmp_path / "bank.toml", tmp_path / "home"
    drafted = churn("contract", "init", table, "--label", "Exited", "--churned", "1", "-o", contract, home=home)
    assert drafted.returncode == 0, drafted.stderr
    contract.write_text(contract.read_text() + '\n[audit]\naccused = "refuse"\n')
    assert "'SatisfactionDrop'" in refused(churn("run", "--contract", contract, "--source", table, home=home))
    assert not (home / "champion.json").exists()
    assert "SatisfactionDrop" in (home / "reports" / "model_report.html").read_text(encoding="utf-8")
    contract.write_text(contract.read_text().replace("\nsuspect =", '\nattested = "a test, today, known"\nsuspect ='))
    made = churn("run", "--contract", contract, "--source", table, "--select", "registered_model", home=home)
    assert made.returncode == 0, made.stderr
    assert (home / "champion.json").is_file()


def test_a_table_with_too_few_churners_is_drafted_and_a_larger_one_is_asked_for(tmp_path):
    table = tables.to_csv(tmp_path / "small.csv", tables.telecom(40))
    contract = tmp_path / "my own.toml"
    drafted = churn("contract", "init", table, "--label", "Churn", "--churned", "Yes", "-o", contract, home=tmp_path)
    assert drafted.returncode == 0, drafted.stderr
    [stops] = [line for line in drafted.stdout.splitlines() if line.startswith("`churn run` stops with this table: ")]
    assert "it can be used as it is" not in " ".join(drafted.stdout.split())
    assert f"churn run --contract '{contract}' --source A_LARGER_TABLE" in drafted.stdout
    reason = stops.removeprefix("`churn run` stops with this table: ").removesuffix(".")
    stopped = churn("run", "--contract", contract, "--source", table, home=tmp_path / "home")
    assert reason in refused(stopped)
    assert "There is no champion yet. Look closer: `churn ui`" in stopped.stderr


def test_an_unreadable_table_is_one_line_and_no_contract(tmp_path):
    (tmp_path / "bad.xlsx").write_bytes(b"no workbook")
    words = ("contract", "init", tmp_path / "bad.xlsx", "--label", "a", "--churned", "1", "-o", tmp_path / "c.toml")
    assert "bad.xlsx is not a workbook" in refused(churn(*words, home=tmp_path))
    assert not (tmp_path / "c.toml").exists()


def test_generate_takes_a_file_as_contract_and_gives_the_same_bytes(tmp_path):
    for name, contract in (("one.csv", "telecom"), ("two.csv", ROOT / "contracts" / "telecom.toml")):
        made = churn("generate", "--contract", contract, "--rows", "50", "-o", tmp_path / name, home=tmp_path)
        assert "50 generated customers, not real ones, seed 7" in made.stdout
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--contract", "nothing"], "no contract at nothing"),
        (["--contract", "telecom", "--fault", "x:y"], "unknown 'x'"),
        (["--contract", "telecom", "--offer", "0.5"], "--truth"),
    ],
)
def test_a_wrong_option_of_the_generator_is_an_error_of_one_line(words, said, tmp_path):
    assert said in refused(churn("generate", *words, "-o", tmp_path / "a.csv", home=tmp_path))
    assert list(tmp_path.glob("a.csv*")) == []

"""`churn contract init` and `churn generate` as they are typed, and the documents that tell of them."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from churn_assets.cli import app
from churn_assets.errors import ChurnError
from churn_assets.settings import Settings
from churn_assets_tests.data import tables

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```bash( run=long)?\n(.*?)^```", re.M | re.S)


def churn(*words, fails=False):
    result = CliRunner().invoke(app, list(words), catch_exceptions=True)
    if fails:
        assert isinstance(result.exception, ChurnError)
        return str(result.exception)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder to type commands in, a home of its own, and nothing of it left in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("CHURN_HOME", "CHURN_CONTRACT", "CHURN_SOURCE"):
        monkeypatch.setenv(name, "set, so that it is put back")
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize("document", ["contract-init.md", "generator.md"])
def test_the_quick_commands_of_the_documents_run(document, elsewhere):
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    commands = [line for is_long, block in BLOCK.findall(text) if not is_long for line in block.splitlines()]
    assert len(commands) >= 4
    for command in commands:
        name, *words = shlex.split(command)
        assert name == "churn"
        churn(*words)


def test_a_telecom_table_goes_from_file_to_call_list_by_two_commands(elsewhere):
    tables.to_csv(elsewhere / "telecom.csv", tables.telecom(700))
    said = churn("contract", "init", "telecom.csv", "--label", "Churn", "--churned", "Yes", "-o", "contracts/mine.toml")
    assert "churn run --contract contracts/mine.toml --source telecom.csv" in said
    said = churn("run", "--contract", "contracts/mine.toml", "--source", "telecom.csv")
    assert "Chosen:" in said
    assert "700 rows in, 0 repaired, 0 rejected" in said
    churn("score", "telecom.csv", "-o", "scores.csv")
    assert len((elsewhere / "scores.csv").read_text().splitlines()) == 701


def test_a_draft_is_not_written_over_and_the_table_not_read_for_nothing(elsewhere):
    (elsewhere / "mine.toml").write_text("kept")
    words = ("contract", "init", "nowhere.csv", "--label", "a", "--churned", "1", "-o", "mine.toml")
    assert "--force" in churn(*words, fails=True)
    assert "no file at nowhere.csv" in churn(*words, "--force", fails=True)
    assert (elsewhere / "mine.toml").read_text() == "kept"


def test_generate_takes_a_file_as_contract_and_refuses_what_it_does_not_know(elsewhere):
    path = str(ROOT / "contracts" / "telecom.toml")
    churn("generate", "--contract", path, "--rows", "50", "-o", "one.csv")
    churn("generate", "--contract", "telecom", "--rows", "50", "-o", "two.csv")
    assert (elsewhere / "one.csv").read_bytes() == (elsewhere / "two.csv").read_bytes()
    assert "no contract at nothing" in churn("generate", "--contract", "nothing", "-o", "a.csv", fails=True)
    assert "unknown 'x'" in churn("generate", "--contract", path, "-o", "a.csv", "--fault", "x:y", fails=True)
    assert "--truth" in churn("generate", "--contract", path, "-o", "a.csv", "--offer", "0.5", fails=True)


def test_settings_know_where_the_contracts_are():
    assert (Settings.from_environ({}).root / "contracts" / "store.toml").is_file()

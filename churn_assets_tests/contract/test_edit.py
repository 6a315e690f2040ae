"""`churn attest` and `churn exclude` on the file of a contract: one value changes, and nothing else."""

from __future__ import annotations

import os
import stat
import tomllib
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.contract.edit import attest, exclude
from churn_assets.contract.load import load_contract, parse_contract
from churn_assets.contract.model import Role
from churn_assets.errors import ContractError
from churn_assets_tests.contract.small import SMALL
from churn_assets_tests.strategies import STORE

TODAY = date(2026, 11, 26)
MARKED = SMALL.replace('name = "visits"\n', 'name = "visits"  # as the shop counts them\n') + "# the end"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(MARKED)
    return path


def test_an_attestation_is_one_new_line_and_is_written_once(path):
    before, after = attest(path, "visits", "Ann", "counted daily", TODAY)
    line = 'attested = "Ann, 2026-11-26: counted daily"\n'
    assert path.read_text().replace(line, "") == MARKED
    assert after.column("visits").attested == "Ann, 2026-11-26: counted daily"
    assert after.fingerprint == before.fingerprint
    content = path.read_bytes()
    again, same = attest(path, "visits", "Ann", "counted daily", date(2027, 1, 1))
    assert same is again
    assert path.read_bytes() == content
    attest(path, "visits", "Ben", "counted weekly", TODAY)
    assert path.read_text() == content.decode().replace(
        "Ann, 2026-11-26: counted daily", "Ben, 2026-11-26: counted weekly"
    )


@given(by=st.text(min_size=1).filter(str.strip), why=st.text(min_size=1).filter(str.strip))
def test_any_text_of_an_attestation_is_read_back(tmp_path_factory, by, why):
    path = tmp_path_factory.mktemp("contract") / "small.toml"
    path.write_text(MARKED)
    attest(path, "spend", by, why, TODAY)
    assert load_contract(path).column("spend").attested == f"{by}, {TODAY}: {why}"
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    del document["columns"][4]["attested"]
    assert document == tomllib.loads(MARKED)


FORMS = {
    "CRLF": MARKED.replace("\n", "\r\n"),
    "BOM": "\ufeff" + MARKED,
    "a header of other spelling": MARKED.replace("[[columns]]", ' [[ "columns" ]] # a column'),
    "a text like a header": MARKED.replace('"Small"', "'''\n[[columns]]\nname = 'spend'\nrole = 'key'\n'''"),
    "a long old value": MARKED.replace(
        'name = "spend"\n',
        'name = "spend"\n\'role\' = """\\\n  feature"""  # kept\ndoc = """\n[x]\nrole = "input"\n"""\n',
    ),
    "the column at the end": MARKED.replace("# the end", '[[columns]]\nname = "last"\nkind = "number"'),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_only_one_value_changes_in_any_form_of_file(tmp_path, text):
    path = tmp_path / "small.toml"
    path.write_bytes(text.encode())
    for name in ("spend", "last"):
        if name not in load_contract(path).by_name:
            continue
        expected = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        next(column for column in expected["columns"] if column["name"] == name)["excluded"] = True
        exclude(path, name)
        content = path.read_bytes()
        assert tomllib.loads(content.decode("utf-8-sig")) == expected
        assert content.startswith("\ufeff".encode()) == text.startswith("\ufeff")
        assert content.count(b"\r\n") in (0, content.count(b"\n"))
        assert content.count(b"#") == text.count("#")


def test_a_file_keeps_its_mode_and_its_link(path, tmp_path):
    path.chmod(0o640)
    (tmp_path / "link.toml").symlink_to(path)
    exclude(tmp_path / "link.toml", "visits")
    assert (tmp_path / "link.toml").is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert load_contract(path).column("visits").excluded
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.toml", "small.toml"]


def test_the_features_that_read_an_excluded_column_leave_the_model_with_it(path):
    path.write_text(MARKED.replace("[features]\n", '[features]\ntwice = "2 * spend_per_visit"\n'))
    before, after = exclude(path, "visits")
    assert after.left_out == ("twice", "spend_per_visit")
    assert [feature.name for feature in after.features] == ["age_days"]
    assert "visits" not in [column.name for column in (*after.scoring_columns, *after.feature_columns)]
    assert "visits" in [column.name for column in after.kept_columns]
    assert after.fingerprint == before.fingerprint
    assert before.left_out == ()
    content = path.read_bytes()
    again, same = exclude(path, "visits")
    assert same is again
    assert path.read_bytes() == content


def test_an_expression_over_an_excluded_column_is_still_checked():
    text = SMALL.replace('name = "visits"\n', 'name = "visits"\nexcluded = true\n').replace("spend / visits", "spend /")
    with pytest.raises(ContractError, match="'spend_per_visit', position"):
        parse_contract(text)


def test_a_contract_without_excluded_columns_has_the_fingerprint_it_had():
    assert STORE.fingerprint.startswith("e5e064f8e169")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("visitz", "there is no column 'visitz'; did you mean 'visits'?"),
        ("id", "column 'id' has role 'key'; expected one of: joined, seen, spend"),
        ("lost", "column 'lost' has role 'label'"),
        ("note", "column 'note' has role 'ignore'"),
    ],
)
@pytest.mark.parametrize("command", [exclude, lambda path, name: attest(path, name, "Ann", "known", TODAY)])
def test_a_column_that_is_no_input_is_refused(path, command, name, message):
    with pytest.raises(ContractError, match=message):
        command(path, name)
    assert path.read_text() == MARKED


def test_a_column_that_a_rule_or_the_time_needs_is_still_required(path):
    before, after = exclude(path, "joined")
    assert after.left_out == ("age_days",)
    assert after.unread == ()
    assert "joined" in [column.name for column in after.scoring_columns]
    assert after.fingerprint == before.fingerprint


def test_an_attested_column_is_read_again_in_its_old_role(path):
    path.write_text(MARKED.replace('name = "visits"', 'name = "visits"\nrole = "input"'))
    whole = load_contract(path)
    _, without = exclude(path, "visits")
    assert (without.unread, without.left_out) == (("visits",), ("spend_per_visit",))
    _, again = attest(path, "visits", "Ann", "counted daily", TODAY)
    assert again.column("visits").role is Role.INPUT
    assert (again.unread, again.features) == ((), whole.features)
    assert exclude(path, "visits")[1].unread == ("visits",)
    assert path.read_text().count("excluded") == 1


def test_a_model_needs_an_input(path):
    path.write_text(MARKED.replace('age_days = "days(as_of - joined)"\n', ""))
    for name in ("spend", "visits", "member"):
        exclude(path, name)
    with pytest.raises(ContractError, match="expected at least 1 model input"):
        exclude(path, "plan")
    assert not load_contract(path).column("plan").excluded


@pytest.mark.parametrize(("by", "why"), [("", "known"), (" ", "known"), ("Ann", "\n")])
def test_an_attestation_names_somebody_and_a_reason(path, by, why):
    with pytest.raises(ContractError, match="is empty; expected who attests 'spend'"):
        attest(path, "spend", by, why, TODAY)


def test_columns_in_one_array_are_for_a_person_to_change(path):
    columns = "columns = [{name = 'id', kind = 'id', role = 'key'}, {name = 'lost', kind = 'text', role = 'label'}"
    text = f"{columns}, {{name = 'spend', kind = 'number'}}, {{name = 'visits', kind = 'integer'}}]\n"
    text += MARKED[: MARKED.index("[time]")] + MARKED[MARKED.index("[value]") : MARKED.index("[monitoring]")]
    path.write_text(text)
    with pytest.raises(ContractError, match=r"no edit changes column 'spend' alone; write excluded = true"):
        exclude(path, "spend")
    assert path.read_text() == text


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that this user cannot write")
def test_a_file_that_cannot_be_written_is_one_line(path, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ContractError, match="cannot be written"):
        exclude(path, "spend")
    tmp_path.chmod(0o700)

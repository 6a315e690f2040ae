"""`churn keys`, typed by a user."""

import json

import pytest

from churn_assets_tests.cli.test_main import churn, refused


def test_a_key_is_made_shown_once_listed_and_revoked(tmp_path):
    made = churn(
        "keys", "create", "crm", "--scope", "predict", "--scope", "feedback", "--expires", "90d", home=tmp_path
    )
    token = made.stdout.strip()
    prefix, key_id, secret = token.split("_", 2)
    assert (made.returncode, prefix) == (0, "churn")
    assert f"key {key_id} (crm: predict, feedback) is shown this once" in made.stderr
    assert secret not in made.stderr
    (entry,) = json.loads(churn("keys", "list", "--json", home=tmp_path).stdout)
    assert (entry["id"], entry["state"], entry["revoked"]) == (key_id, "valid", None)
    listed = churn("keys", "list", home=tmp_path).stdout
    assert listed == f"{key_id}  valid    crm: predict, feedback; until {entry['expires']}\n"
    assert churn("keys", "revoke", token, home=tmp_path).stdout == f"key {key_id} (crm) is revoked\n"
    assert f"{key_id}  revoked  crm" in churn("keys", "list", home=tmp_path).stdout
    assert churn("keys", "revoke", key_id, home=tmp_path).returncode == 0


def test_a_home_without_keys_says_so_and_is_not_made(tmp_path):
    assert churn("keys", "list", home=tmp_path / "home").stdout == "no keys; the service asks for none\n"
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create", "crm", "--scope", "write"], "the scopes are 'write', expected some of: predict, feedback,"),
        (["create", "crm", "--scope", "view", "--expires", "soon"], "the expiry is 'soon', expected for example 90d"),
        (["create", "", "--scope", "view"], "the name is '', expected 1 to 100 printable characters"),
        (["revoke", "0123"], "there is no key '0123', expected an id of `churn keys list`"),
        (["revoke", "churn_0123_secret"], "there is no key '0123', expected an id of `churn keys list`"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, words, message):
    assert message in refused(churn("keys", *words, home=tmp_path))


def test_an_unreadable_file_is_one_line(tmp_path):
    (tmp_path / "keys.db").write_text("no database" * 200)
    assert "keys.db: cannot be read" in refused(churn("keys", "list", home=tmp_path))

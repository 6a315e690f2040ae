"""Calls of management are on disk before they are made, and no secret is among them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from churn_assets.access.audit import FILE, record_call
from churn_assets.access.keys import KeyStore
from churn_assets.errors import AuditUnwritable

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def churn(home, *arguments):
    code = "from churn_assets.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_keys_made_and_revoked_are_recorded_without_the_secret(tmp_path):
    token = churn(tmp_path, "keys", "create", "crm", "--scope", "predict").stdout.strip()
    key_id = token.split("_")[1]
    assert churn(tmp_path, "keys", "revoke", token).returncode == 0
    text = (tmp_path / FILE).read_text()
    created, revoked = map(json.loads, text.splitlines())
    assert (created["action"], created["name"], created["scopes"]) == ("keys create", "crm", ["predict"])
    assert created["key"] == key_id
    assert (revoked["action"], revoked["key"]) == ("keys revoke", key_id)
    assert token.rpartition("_")[2] not in text
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_call_that_cannot_be_recorded_is_not_made(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(AuditUnwritable, match="expected the audit log of this home; correct its permissions"):
        record_call(tmp_path, "keys create", NOW)
    result = churn(tmp_path, "keys", "create", "crm", "--scope", "predict")
    assert (result.returncode, result.stderr.startswith("error:")) == (2, True)
    assert KeyStore(tmp_path).all() == []


@pytest.mark.parametrize("arguments", [("create", "crm", "--scope", "none"), ("revoke", "abc")])
def test_a_call_that_is_refused_is_not_recorded(tmp_path, arguments):
    assert churn(tmp_path, "keys", *arguments).returncode == 2
    assert not (tmp_path / FILE).exists()


def test_a_line_that_the_disk_does_not_take_whole_leaves_none(tmp_path):
    record_call(tmp_path, "keys create", NOW, name="first")
    before = (tmp_path / FILE).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limit[1]))
    try:
        with pytest.raises(AuditUnwritable):
            record_call(tmp_path, "keys create", NOW, name="second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (tmp_path / FILE).read_bytes() == before

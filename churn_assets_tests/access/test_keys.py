"""Keys: made once, kept as hashes in a file that only its owner reads, expired and revoked."""

import hashlib
import os
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from churn_assets.access.keys import MAX_NAME, SCOPES, KeyStore, parse_lifetime
from churn_assets.errors import KeyRefused, KeysUnreadable

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    return KeyStore(tmp_path / "home")


def test_a_home_without_keys_has_none_and_is_not_made(store):
    assert store.all() == []
    with pytest.raises(KeyRefused, match="there is no key 'abc', expected an id of `churn keys list`"):
        store.revoke("abc", NOW)
    assert not store.path.parent.exists()


def test_the_secret_is_kept_as_a_hash_alone_in_a_file_of_its_owner(store):
    old = os.umask(0)
    try:
        key, token = store.create("crm", ["feedback", "predict"], timedelta(days=1), NOW)
    finally:
        os.umask(old)
    prefix, key_id, secret = token.split("_", 2)
    assert (prefix, key_id) == ("churn", key.id)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert key.digest == hashlib.sha256(secret.encode()).digest()
    assert {path.name for path in store.path.parent.iterdir()} == {"keys.db"}, "no second file to read or to copy"
    assert secret.encode() not in store.path.read_bytes()
    assert secret not in repr(key) + repr(store.all()) + str(key.to_json(NOW))
    assert store.all() == [key]


def test_a_file_that_others_could_read_is_closed_by_the_next_key(store):
    store.create("a", ["view"], None, NOW)
    store.path.chmod(0o644)
    store.create("b", ["view"], None, NOW)
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert [key.name for key in store.all()] == ["a", "b"]


def test_two_keys_of_one_name_differ_in_id_and_secret(store):
    tokens = {store.create("crm", ["predict"], None, NOW)[1] for _ in range(20)}
    assert len({token.split("_", 2)[1] for token in tokens}) == len({token.split("_", 2)[2] for token in tokens}) == 20


def test_a_key_is_valid_until_it_expires_or_is_revoked(store):
    forever, _ = store.create("forever", ["view"], None, NOW)
    daily, _ = store.create("daily", ["view"], timedelta(days=1), NOW)
    tomorrow = NOW + timedelta(days=1)
    assert daily.state(tomorrow.timestamp() - 0.001) == "valid"
    assert daily.state(tomorrow.timestamp()) == "expired"
    revoked = store.revoke(forever.id, tomorrow)
    assert revoked.state(NOW.timestamp()) == "revoked"
    assert store.revoke(forever.id, tomorrow + timedelta(days=1)) == revoked, "the first revocation counts"
    assert store.all() == [revoked, daily]
    assert revoked.to_json(tomorrow) == {
        "id": forever.id,
        "name": "forever",
        "scopes": ["view"],
        "state": "revoked",
        "created": "2026-11-01T08:00:00+00:00",
        "expires": None,
        "revoked": "2026-11-02T08:00:00+00:00",
    }


def test_admin_has_every_scope_and_the_others_one_each(store):
    admin, _ = store.create("ops", ["admin"], None, NOW)
    crm, _ = store.create("crm", ["feedback", "predict", "predict"], None, NOW)
    assert all(admin.allows(scope) for scope in SCOPES)
    assert crm.scopes == ("predict", "feedback")
    assert [scope for scope in SCOPES if crm.allows(scope)] == ["predict", "feedback"]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31mred", "x" * (MAX_NAME + 1), "right\u202eleft"])
def test_a_name_is_short_and_printable(store, name):
    with pytest.raises(KeyRefused, match=r"the name is .*expected 1 to 100 printable characters") as caught:
        store.create(name, ["view"], None, NOW)
    assert str(caught.value).isprintable()
    assert not store.path.exists()


@pytest.mark.parametrize(("scopes", "given"), [([], "not given"), (["predict", "write"], "'predict', 'write'")])
def test_scopes_are_of_a_closed_list(store, scopes, given):
    with pytest.raises(KeyRefused, match=f"the scopes are {given}, expected some of: predict, feedback, "):
        store.create("crm", scopes, None, NOW)


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [("90d", timedelta(days=90)), ("12h", timedelta(hours=12)), ("1m", timedelta(minutes=1)), ("99999d", None)],
)
def test_a_lifetime_is_a_number_and_a_unit(text, lifetime):
    assert parse_lifetime(text) == (lifetime or timedelta(days=99_999))


@pytest.mark.parametrize("text", ["", "0d", "-1d", "1.5h", "d", "90", "90 d", "90D", "100000d", "٣d", "1d\n"])
def test_another_lifetime_is_refused(text):
    with pytest.raises(KeyRefused, match="expected for example 90d, 12h or 30m"):
        parse_lifetime(text)


def test_a_damaged_file_and_one_that_cannot_be_opened_are_one_error(store):
    store.path.parent.mkdir()
    store.path.write_text("no database" * 200)
    for call in (store.all, lambda: store.create("crm", ["view"], None, NOW)):
        with pytest.raises(KeysUnreadable, match=r"keys.db: cannot be read \(file is not a database\)"):
            call()
    store.path.unlink()
    store.path.mkdir()
    with pytest.raises(KeysUnreadable, match=r"keys.db: cannot be used \(unable to open database file\)"):
        store.create("crm", ["view"], None, NOW)


def test_the_time_of_the_file_changes_with_every_transaction(store):
    """The service looks at nothing else: a file in WAL mode would stay as it is."""
    key, _ = store.create("crm", ["view"], None, NOW)
    os.utime(store.path, (0, 0))
    store.revoke(key.id, NOW)
    assert store.path.stat().st_mtime > 0
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)

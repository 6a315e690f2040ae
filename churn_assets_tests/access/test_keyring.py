"""The keys as a running process sees them: changes are seen, and nothing opens what was closed."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from churn_assets.access.keyring import ForwardClock, Keyring, check_address, is_loopback
from churn_assets.access.keys import KeyStore
from churn_assets.errors import KeysUnreadable, SettingsError
from churn_assets.settings import ServingSettings
from churn_assets_tests.storage.no_files import NO_FILES, within

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    return KeyStore(tmp_path)


@pytest.fixture
def keyring(tmp_path):
    keyring = Keyring(tmp_path)
    keyring.refresh()
    return keyring


def test_a_home_without_keys_asks_for_none(keyring):
    assert not keyring.required
    assert keyring.find(b"churn_0123456789ab_secret") is None


def test_the_first_key_is_asked_for_and_found_by_its_whole_token(store, keyring):
    key, token = store.create("crm", ["predict"], None, NOW)
    _, other = store.create("bi", ["view"], None, NOW)
    keyring.refresh()
    assert keyring.required
    assert keyring.find(token.encode()) == key
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    mixed = token[:19] + other[19:]
    for text in (wrong, mixed, token[:-1], token + "A", token + " " * 100, token.upper(), token[19:], token[:19], ""):
        assert keyring.find(text.encode()) is None, text


def test_changes_that_leave_the_same_size_and_time_behind_are_seen(store, keyring):
    """Within one tick of the file system's clock, or after that was set back."""
    key, token = store.create("crm", ["predict"], None, NOW)
    os.utime(store.path, ns=(10**18, 10**18))
    keyring.refresh()
    store.revoke(key.id, NOW)
    os.utime(store.path, ns=(10**18, 10**18))
    keyring.refresh()
    assert keyring.find(token.encode()).state(0.0) == "revoked"


def test_an_unchanged_file_is_not_read_again(store, keyring, monkeypatch):
    store.create("crm", ["predict"], None, NOW)
    os.utime(store.path, ns=(10**18, 10**18))
    keyring.refresh()
    monkeypatch.setattr(KeyStore, "all", lambda self: 1 / 0)
    keyring.refresh()


def test_a_deleted_file_opens_nothing(store, keyring):
    _, token = store.create("crm", ["predict"], None, NOW)
    keyring.refresh()
    store.path.unlink()
    keyring.refresh()
    assert keyring.required
    assert keyring.find(token.encode()) is None


def test_a_damaged_file_leaves_the_keys_as_they_were(store, keyring):
    key, token = store.create("crm", ["predict"], None, NOW)
    keyring.refresh()
    intact = store.path.read_bytes()
    store.path.write_bytes(b"no database" * 200)
    for _ in range(2):
        with pytest.raises(KeysUnreadable):
            keyring.refresh()
        assert keyring.find(token.encode()) == key
    store.path.write_bytes(intact)
    store.revoke(key.id, NOW)
    keyring.refresh()
    assert keyring.find(token.encode()) == replace(key, revoked_s=NOW.timestamp())


def test_keys_that_cannot_be_read_count_for_a_minute(store, tmp_path):
    seconds = [0.0]
    keyring = Keyring(tmp_path, steady=lambda: seconds[0])
    _, token = store.create("crm", ["predict"], None, NOW)
    keyring.refresh()
    intact = store.path.read_bytes()
    store.path.write_bytes(b"no database" * 200)
    for now, outdated in ((30.0, False), (59.0, False), (61.0, True), (3600.0, True)):
        seconds[0] = now
        with pytest.raises(KeysUnreadable):
            keyring.refresh()
        assert keyring.outdated is outdated
    store.path.write_bytes(intact)
    keyring.refresh()
    assert not keyring.outdated
    assert keyring.find(token.encode()) is not None
    seconds[0] += 61.0  # the disk hangs: nothing is read, and nothing fails
    assert keyring.outdated


def test_a_key_that_has_expired_stays_so_when_the_clock_is_set_back(store, tmp_path):
    wall, steady = [NOW.timestamp()], [5.0]
    keyring = Keyring(tmp_path, ForwardClock(lambda: wall[0], lambda: steady[0]))
    key, _ = store.create("crm", ["predict"], timedelta(hours=1), NOW)

    def state_after(real_s: float, step_s: float = 0.0) -> str:
        steady[0] += real_s
        wall[0] += real_s + step_s
        return keyring.state(key)

    assert state_after(3500) == "valid"
    assert state_after(0, -6 * 3600) == "valid"
    assert state_after(200) == "expired"
    assert state_after(0, 6 * 3600) == "expired"
    assert state_after(0, -12 * 3600) == "expired"
    fresh, _ = store.create("bi", ["view"], timedelta(days=1), NOW)
    wall[0] += 1e9  # a clock that is wrong by decades for a moment expires nothing for good
    assert keyring.state(fresh) == "expired"
    wall[0] -= 1e9
    assert keyring.state(fresh) == "valid"


def test_a_file_that_is_damaged_from_the_start_opens_nothing(store, keyring):
    store.path.write_bytes(b"no database" * 200)
    with pytest.raises(KeysUnreadable):
        keyring.refresh()
    assert keyring.required


LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "localhost"]
REACHED = ["0.0.0.0", "::", "10.0.0.7", "192.168.1.4", "fe80::1", "::ffff:10.0.0.7", "example.com", "", "127.0.0.1.x"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_loopback_no_key_is_needed(host, tmp_path):
    assert is_loopback(host)
    check_address(host, ServingSettings(home=tmp_path))


@pytest.mark.parametrize("host", REACHED)
def test_on_another_address_a_key_is_needed_or_the_word_of_the_user(host, tmp_path, store):
    assert not is_loopback(host)
    with pytest.raises(SettingsError, match=rf"would listen on {host} and the home has no API key: .*CHURN_INSECURE=1"):
        check_address(host, ServingSettings(home=tmp_path))
    check_address(host, ServingSettings(home=tmp_path, insecure=True))
    key, _ = store.create("crm", ["predict"], None, NOW)
    check_address(host, ServingSettings(home=tmp_path))
    store.revoke(key.id, NOW)
    check_address(host, ServingSettings(home=tmp_path))


def test_keys_that_cannot_be_read_stop_the_start_on_any_address(tmp_path, store):
    store.path.write_bytes(b"no database" * 200)
    with pytest.raises(KeysUnreadable):
        check_address("127.0.0.1", ServingSettings(home=tmp_path, insecure=True))


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_closes_the_service_and_is_not_waited_for(tmp_path, make):
    home = tmp_path / "home"
    home.mkdir()
    make(home / "keys.db")
    keyring = Keyring(home)
    with within(), pytest.raises(KeysUnreadable, match=r"is not a file|symbolic links"):
        keyring.refresh()
    assert keyring.unreadable

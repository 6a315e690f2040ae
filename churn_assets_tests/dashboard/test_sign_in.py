"""Who may look: keys and scopes, sessions, forms of other sites, names of other hosts."""

from __future__ import annotations

import datetime as dt

import pytest

from churn_assets.access.keys import KeyStore
from churn_assets.dashboard.process import run_dashboard
from churn_assets.dashboard.session import Sessions
from churn_assets.errors import SettingsError
from churn_assets.settings import DashboardSettings, Settings
from churn_assets_tests.dashboard.browser import visit

COOKIE = "churn_dashboard_3001"


def make_key(settings: Settings, *scopes: str, name: str = "ana") -> tuple[str, str]:
    """The id and the token of a new key."""
    key, token = KeyStore(settings.home).create(name, scopes or ("view",), None, dt.datetime.now(dt.UTC))
    return key.id, token


def sign_in(visitor, token, status=303, target="/"):
    fields = visitor.get(f"/sign-in?next={target}").form("/sign-in")
    return visitor.post("/sign-in", {**fields, "key": token}, status)


def test_without_keys_the_page_is_open_to_this_machine_and_says_so(visitor):
    assert "no keys: open to this machine" in visitor.get("/").text


def test_without_keys_a_name_of_another_host_is_refused(made):
    for address in ("http://evil.example:3001", "http://127.0.0.1.evil.example"):
        assert "not this machine" in visit(made, address=address).get("/", 400).text
    for address in ("http://127.0.0.1:3001", "http://[::1]:3001"):
        visit(made, address=address).get("/")
    visit(made, address="http://churn.example", insecure=True).get("/")


def test_a_key_opens_a_session_that_no_script_reads(settings):
    _, token = make_key(settings)
    visitor = visit(settings)
    response = visitor.client.get("/")
    assert (response.status_code, response.headers["location"]) == (303, "/sign-in?next=/")
    assert visitor.client.get("/overview.json").status_code == 401
    response = sign_in(visitor, token, target="/?days=7")
    assert response.headers["location"] == "/?days=7"
    cookie = response.headers["set-cookie"]
    assert token not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    content = visitor.get("/")
    assert "ana" in content.text
    visitor.post("/sign-out", content.form("/sign-out"))
    visitor.client.get("/", follow_redirects=False)
    assert visitor.client.get("/").status_code == 303


@pytest.mark.parametrize("token", ["", "churn_000000000000_wrong", "\N{SNOWMAN}"])
def test_a_wrong_key_is_said(settings, token):
    make_key(settings)
    response = sign_in(visit(settings), token, status=401)
    assert "this is no valid key" in response.text


def test_a_key_without_the_scope_is_refused_and_its_scopes_are_named(settings):
    _, token = make_key(settings, "predict", "feedback")
    visitor = visit(settings)
    sign_in(visitor, token)
    assert "your key has the scopes predict, feedback, expected view" in visitor.get("/", 403).text


def test_a_revoked_key_ends_its_sessions(settings):
    own_id, token = make_key(settings)
    visitor = visit(settings)
    sign_in(visitor, token)
    visitor.get("/")
    KeyStore(settings.home).revoke(own_id, dt.datetime.now(dt.UTC))
    assert visitor.client.get("/").status_code == 303


def test_a_client_shows_its_key_with_each_request(settings):
    _, token = make_key(settings, "view")
    client = visit(settings).client
    assert client.get("/overview.json", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert client.get("/overview.json", headers={"X-API-Key": token}).status_code == 200
    assert client.get("/overview.json", headers={"X-API-Key": "churn_nobody"}).status_code == 401


def test_a_session_ends_after_its_time(settings):
    _, token = make_key(settings)
    now = [0.0]
    keyring = visit(settings).dashboard.sessions.keyring
    keyring.refresh()
    sessions = Sessions(keyring, lambda: now[0])
    cookie = sessions.begin(token)
    assert sessions.identify(cookie, "").key.name == "ana"
    now[0] = 13 * 3600.0
    assert sessions.identify(cookie, "") is None
    assert sessions.identify("another", "") is None


@pytest.mark.parametrize(
    ("fields", "headers"),
    [({"form_token": "wrong"}, {}), ({}, {"Sec-Fetch-Site": "cross-site"}), ({}, {"Origin": "http://evil.example"})],
)
def test_a_form_of_another_site_is_refused(settings, fields, headers):
    _, token = make_key(settings)
    visitor = visit(settings)
    sign_in(visitor, token)
    form = {**visitor.get("/").form("/sign-out"), **fields}
    assert "not of this session" in visitor.post("/sign-out", form, 403, headers=headers).text
    visitor.get("/")


def test_a_link_to_another_site_is_not_followed(settings):
    _, token = make_key(settings)
    for target in ("https://evil.example", "//evil.example", "/\\evil.example"):
        assert sign_in(visit(settings), token, target=target).headers["location"] == "/"


def test_a_form_that_is_too_long_or_none_is_refused(settings):
    make_key(settings)
    visitor = visit(settings)
    visitor.post("/sign-in", {"key": "x" * 70_000}, 413)
    assert visitor.client.post("/sign-in", json={"key": "x"}).status_code == 415


def test_the_dashboard_listens_beyond_this_machine_only_with_a_key(settings):
    dashboard = DashboardSettings(settings.home, host="0.0.0.0")
    with pytest.raises(SettingsError, match=r"the dashboard would listen on 0\.0\.0\.0 .* --scope view"):
        run_dashboard(settings, dashboard, {})

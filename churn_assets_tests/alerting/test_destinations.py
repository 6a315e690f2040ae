"""Where alerts go is read from the environment, and shown without its secrets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.alerting.destinations import AlertSettings, redact_url
from churn_assets.errors import SettingsError, without_user_info

HIDDEN = "S3CRET"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("json://example.org/S3CRET", "json://example.org/…"),
        ("jsons://me:S3CRET@example.org:8443/S3CRET?k=S3CRET", "jsons://example.org/…"),
        ("mailto://me:S3CRET@gmail.com", "mailto://gmail.com/…"),
        ("mailtos://me:S3/CRET@gmail.com", "mailtos://…"),
        ("mailtos://S3:CR/ET@gmail.com", "mailtos://…"),
        ("https://hooks.slack.com/services/S3CRET/S3CRET", "https://hooks.slack.com/…"),
        ("slack://S3CRET/S3CRET/S3CRET/#alerts", "slack://…"),
        ("tgram://S3CRET/123", "tgram://…"),
        ("discord://S3CRET/S3CRET", "discord://…"),
        ("workflows://prod.westus.logic.azure.com:443/S3CRET/S3CRET/", "workflows://prod.westus.logic.azure.com/…"),
        ("json://[S3CRET/", "json://…"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, name):
    assert redact_url(url) == name


@given(st.sampled_from(["json", "mailto", "slack", "tgram"]), st.text("/@:?#[]ab.", max_size=12), st.text("@/:?x"))
def test_no_password_and_no_path_is_ever_shown(scheme, before, after):
    for url in (f"{scheme}://u{before}:{HIDDEN}{after}@host/", f"{scheme}://host/{before}{HIDDEN}{after}"):
        assert HIDDEN.lower() not in redact_url(url).lower()


def test_urls_are_separated_by_blanks_and_by_commas_but_not_within_one():
    text = " json://a.b/?to=x,y, slack://T/A/C/#one\n\tjson://a.b/2,json://a.b/?to=x,y "
    destinations = AlertSettings.from_environ({"CHURN_ALERT_URLS": text}).destinations
    assert [destination.url for destination in destinations] == [
        "json://a.b/?to=x,y",
        "slack://T/A/C/#one",
        "json://a.b/2",
    ]
    assert [destination.name for destination in destinations] == ["json://a.b/…", "slack://…", "json://a.b/… (2)"]


def test_nothing_set_is_the_log_only():
    settings = AlertSettings.from_environ({"CHURN_ALERT_URLS": "  "})
    assert (settings.destinations, settings.cooldown_s, settings.timeout_s) == ((), 21_600, 10)
    assert "to the log only" in settings.summary


@pytest.mark.parametrize("text", ["hunter2", "json://a.b/x hunter2", "://hunter2", "json:// hunter2"])
def test_text_that_is_not_a_url_is_refused_without_being_shown(text):
    with pytest.raises(SettingsError, match="CHURN_ALERT_URLS: entry") as caught:
        AlertSettings.from_environ({"CHURN_ALERT_URLS": text})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("CHURN_ALERT_COOLDOWN_S", "6h"), ("CHURN_ALERT_TIMEOUT_S", "0"), ("CHURN_ALERT_TIMEOUT_S", "21")],
)
def test_an_impossible_number_is_refused(name, value):
    with pytest.raises(SettingsError, match=f"{name} is '{value}', expected a whole number"):
        AlertSettings.from_environ({name: value})


def test_a_password_in_a_message_is_left_out():
    message = without_user_info("no answer from postgresql://me:pw@db/mlflow, see http://docs@here and a@b.c")
    assert message == "no answer from postgresql://…@db/mlflow, see http://…@here and a@b.c"
    for password in ("it's", "t" * 1500):
        assert without_user_info(f"no answer from http://ana:{password}@db") == "no answer from http://…@db"

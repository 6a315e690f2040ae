"""Settings are read from an environment that is handed in, and reading them changes nothing."""

import dataclasses
import os
from pathlib import Path

import pytest

from churn_assets.errors import SettingsError
from churn_assets.settings import QUIET_ENVIRONMENT, Settings
from churn_assets_tests.strategies import ROOT


def test_an_empty_environment_gives_the_defaults_of_this_checkout():
    settings = Settings.from_environ({}, cwd=Path("/"))
    assert settings.root == ROOT
    assert settings.home == ROOT / "data" / "var"
    assert settings.contract_path == ROOT / "contracts" / "store.toml"
    assert settings.raw_dir == ROOT / "data" / "raw"
    assert settings.source is None
    assert settings.telemetry is False
    assert settings.executor == "in_process"
    assert settings.mlflow_uri == f"sqlite:///{ROOT}/data/var/mlflow/mlflow.db"


def test_an_empty_variable_is_as_good_as_none():
    names = [
        "CHURN_ROOT", "CHURN_HOME", "CHURN_CONTRACT", "CHURN_SOURCE", "CHURN_TELEMETRY", "CHURN_EXECUTOR",
        "CHURN_MLFLOW_URI", "CHURN_RETRAIN_CRON", "CHURN_SCORE_CRON",
    ]  # fmt: skip
    assert Settings.from_environ(dict.fromkeys(names, ""), Path("/")) == Settings.from_environ({}, Path("/"))


def test_the_root_is_the_variable_else_the_working_directory_else_the_checkout(tmp_path):
    (tmp_path / "contracts").mkdir()
    assert Settings.from_environ({}, cwd=tmp_path).root == tmp_path
    assert Settings.from_environ({}, cwd=tmp_path / "contracts").root == ROOT
    assert Settings.from_environ({"CHURN_ROOT": str(tmp_path)}, cwd=ROOT).root == tmp_path


@pytest.mark.parametrize("variable", ["CHURN_HOME", "CHURN_CONTRACT"])
def test_a_relative_path_is_relative_to_the_root(variable, tmp_path):
    settings = Settings.from_environ({"CHURN_ROOT": str(tmp_path), variable: "here/there"})
    assert tmp_path / "here" / "there" in (settings.home, settings.contract_path)
    settings = Settings.from_environ({"CHURN_ROOT": str(tmp_path), variable: "/here"})
    assert Path("/here") in (settings.home, settings.contract_path)


def test_a_tilde_is_the_users_home():
    assert Settings.from_environ({"CHURN_HOME": "~/churn"}).home == Path.home() / "churn"


@pytest.mark.parametrize("word", ["1", "true", "YES", " on "])
def test_telemetry_may_be_asked_for(word):
    settings = Settings.from_environ({"CHURN_TELEMETRY": word})
    assert settings.telemetry is True
    assert not QUIET_ENVIRONMENT.keys() & settings.library_environ().keys()


@pytest.mark.parametrize("word", ["", "0", "false", "No", "off"])
def test_telemetry_is_off_otherwise(word):
    settings = Settings.from_environ({"CHURN_TELEMETRY": word})
    assert settings.telemetry is False
    assert QUIET_ENVIRONMENT.items() <= settings.library_environ().items()


WRONG = {
    "CHURN_TELEMETRY": ("perhaps", "CHURN_TELEMETRY is 'perhaps', expected 1 or 0"),
    "CHURN_EXECUTOR": ("celery", "CHURN_EXECUTOR is 'celery', expected one of: in_process, forkserver"),
    "CHURN_LOG_FORMAT": ("xml", "CHURN_LOG_FORMAT is 'xml', expected one of: text, json"),
    "CHURN_HOME": (__file__, "a file; name a folder"),
    "CHURN_INSTANCE": ("Web.0", "CHURN_INSTANCE is 'Web.0', expected 1 to 63 lower-case letters, digits and hyphens"),
    "CHURN_MLFLOW_URI": ("sqlite:////a?b/m.db", "expected a path without '%', '?' and '#'"),
}


@pytest.mark.parametrize(("variable", "value", "words"), [(k, *v) for k, v in WRONG.items()], ids=WRONG)
def test_an_impossible_value_is_told_in_one_line(variable, value, words):
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({variable: value})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_homes_share_no_path(tmp_path):
    one, two = (Settings.from_environ({"CHURN_HOME": str(tmp_path / name)}) for name in ("one", "two"))
    for name in dir(Settings):
        value = getattr(one, name)
        if isinstance(value, Path) and name not in ("root", "raw_dir", "contract_path"):
            assert value.is_relative_to(one.home), name
            assert value != getattr(two, name), name
    assert one.mlflow_uri != two.mlflow_uri
    assert set(one.library_environ().values()) & set(two.library_environ().values()) <= set(QUIET_ENVIRONMENT.values())


def test_reading_settings_makes_nothing(tmp_path):
    before = dict(os.environ)
    Settings.from_environ({"CHURN_HOME": str(tmp_path / "home"), "CHURN_ROOT": str(tmp_path)}).library_environ()
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings.from_environ({}).telemetry = True


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://localhost:3001"),
        ({"CHURN_DASHBOARD_PORT": "4000", "CHURN_HOST": "127.0.0.1"}, "http://localhost:4000"),
        ({"CHURN_HOST": "0.0.0.0"}, ""),
        ({"CHURN_HOST": "0.0.0.0", "CHURN_DASHBOARD_URL": "https://churn.example/"}, "https://churn.example"),
    ],
)
def test_the_dashboard_is_linked_where_its_address_is_known(environ, url):
    assert Settings.from_environ(environ).dashboard_url == url


def test_an_address_of_the_dashboard_that_is_none_is_refused():
    with pytest.raises(SettingsError, match=r"CHURN_DASHBOARD_URL is 'javascript:x', expected a URL"):
        Settings.from_environ({"CHURN_DASHBOARD_URL": "javascript:x"})

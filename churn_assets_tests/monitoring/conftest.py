"""A home with a champion, made once, and a log of one's own in a copy of it."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from churn_assets_tests.monitoring.logs import Log, make_home


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return make_home(tmp_path_factory.mktemp("made"))


@pytest.fixture
def log(tmp_path, made):
    shutil.copytree(made.home, tmp_path / "home")
    return Log(dataclasses.replace(made, home=tmp_path / "home"))

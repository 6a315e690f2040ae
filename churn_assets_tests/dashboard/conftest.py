"""A home with models, a log, reports and alerts, and the dashboard on a copy of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from churn_assets.settings import Settings
from churn_assets_tests.dashboard.browser import Visitor, visit
from churn_assets_tests.dashboard.reports import write_figures
from churn_assets_tests.test_home_0_1 import CHAMPION, WAITING, unpack


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The home that release 0.1 left, with reports of two models, for tests that only read."""
    settings = unpack(tmp_path_factory.mktemp("dashboard"))
    for version in (CHAMPION, WAITING):
        write_figures(settings, version)
    return settings


@pytest.fixture
def settings(tmp_path: Path, made: Settings) -> Settings:
    """A copy, for tests that change it."""
    shutil.copytree(made.home, tmp_path / "home")
    return Settings(root=tmp_path, home=tmp_path / "home", contract_path=made.contract_path)


@pytest.fixture(scope="session")
def visitor(made: Settings) -> Visitor:
    """A visitor who changes nothing."""
    return visit(made)


@pytest.fixture
def stranger(tmp_path: Path) -> Visitor:
    """A visitor of a home in which nothing was done yet."""
    return visit(Settings(root=tmp_path, home=tmp_path / "none", contract_path=tmp_path / "none.toml"))

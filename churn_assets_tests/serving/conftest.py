"""One home with a champion for all that only read it."""

from pathlib import Path

import pytest

from churn_assets_tests.serving.client import home_with_champion


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return home_with_champion(tmp_path_factory.mktemp("home"))

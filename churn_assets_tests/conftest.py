"""One thread a process, and Hypothesis without deadlines: this machine is shared."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CHURN_GRPC_PORT", "0")  # services of several tests run at once; those of gRPC name a port

from hypothesis import HealthCheck, settings

from churn_assets.storage.store import Database, Place
from churn_assets.synthetic import register_generated_source
from churn_assets_tests.postgresql import Server, serving
from churn_assets_tests.trained import candidates, choice, customers, features, splits

__all__ = ["candidates", "choice", "customers", "features", "splits"]  # fixtures of several folders

register_generated_source()

settings.register_profile("here", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

LONG = ("test_kill_rounds.py",)  # a single test each, which waits for minutes: first, so that others run beside it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with many tests first, as xdist would have them, so that no long one is left for the end."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name not in LONG, -tests[item.path], str(item.path)))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server of this process's tests."""
    with serving() as server:
        yield server


@pytest.fixture
def database_url(postgresql: Server) -> Iterator[str]:
    """The URL of an empty database."""
    with postgresql.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where a store lies: a file that is not there yet, then an empty database."""
    if request.param == "sqlite":
        yield tmp_path / "home" / "store.db"
        return
    yield Database(request.getfixturevalue("database_url"))

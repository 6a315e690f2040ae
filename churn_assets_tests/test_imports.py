"""A process imports what it uses: each package is imported alone, in a process of its own."""

import json
import subprocess
import sys
from functools import cache

import pytest

from churn_assets_tests.strategies import ROOT

HEAVY = {"pandas", "sklearn", "torch", "xgboost", "mlflow", "matplotlib", "dagster", "bentoml", "evidently", "scipy"}

_LOADED = """
import importlib, json, sys
before = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))
"""


@cache
def loaded_by(*modules: str) -> frozenset[str]:
    """Top-level modules that a fresh interpreter loads for these."""
    done = subprocess.run([sys.executable, "-c", _LOADED, *modules], capture_output=True, text=True, check=True)
    return frozenset(json.loads(done.stdout)) - {"churn_assets"}


def modules_of(package: str) -> list[str]:
    import importlib
    import pkgutil

    found = importlib.import_module(package)
    return [package, *(m.name for m in pkgutil.walk_packages(found.__path__, f"{package}."))]


def test_the_package_itself_imports_nothing():
    assert loaded_by("churn_assets") == set()


def test_the_contract_needs_the_standard_library_only():
    foreign = loaded_by(*modules_of("churn_assets.contract"), "churn_assets.settings", "churn_assets.errors")
    assert foreign <= set(sys.stdlib_module_names)


def test_features_add_numpy_only():
    foreign = loaded_by(*modules_of("churn_assets.features")) - set(sys.stdlib_module_names)
    assert {name for name in foreign if not name.startswith("_")} <= {"numpy"}


@pytest.mark.parametrize("package", ["features", "scoring", "data", "promotion", "prediction_log", "storage", "events"])
def test_no_heavy_library_comes_with_a_plain_package(package):
    assert loaded_by(*modules_of(f"churn_assets.{package}")) & HEAVY == set()


@pytest.mark.parametrize(
    "package", ["contract", "data", "features", "prediction_log", "training", "scoring", "mlflow_registry", "promotion"]
)
def test_dagster_is_known_to_defs_alone(package):
    assert "dagster" not in loaded_by(*modules_of(f"churn_assets.{package}"))


def test_the_service_and_the_sensors_do_not_know_duckdb():
    """A service that opened the warehouse would lock the ingest out."""
    for module in ("churn_assets.serving.routes", "churn_assets.definitions"):
        assert "duckdb" not in loaded_by(module)


def test_the_definitions_load_no_training_library():
    """Sensors, the UI and `dagster asset list` load the definitions: they must stay light."""
    assert loaded_by("churn_assets.definitions") & (HEAVY - {"dagster"}) == set()


def test_the_command_line_answers_without_a_heavy_library():
    assert loaded_by("churn_assets.cli.app") & HEAVY == set()


def test_a_ledger_is_that_of_the_settings_except_where_file_and_database_are_compared():
    """`Ledger.of` finds a database; the home's file is an empty ledger where a database has it."""
    package = ROOT / "churn_assets"
    of_files = {str(p.relative_to(package)) for p in package.rglob("*.py") if "ledger_path)" in p.read_text("utf-8")}
    assert of_files == {"cli/database.py", "doctor.py", "promotion/ledger/store.py"}

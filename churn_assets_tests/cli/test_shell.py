"""What stands around the package: the commands, the pins, and nothing of the machine it was made on."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from churn_assets_tests.strategies import ROOT

TOP_LEVEL = [
    "pyproject.toml", "constraints.txt", "Makefile", "README.md", "CHANGELOG.md", "LICENSE", "workspace.yaml",
    "dagster.yaml", "bentofile.yaml", "contracts", "data", "deploy", "docs", "benchmarks", "churn_assets",
    "churn_assets_tests", ".ci/run", ".pre-commit-config.yaml", ".github/workflows/ci.yml",
    ".github/pull_request_template.md", ".github/ISSUE_TEMPLATE/bug.md", "mkdocs.yml", "CONTRIBUTING.md", "SECURITY.md",
]  # fmt: skip

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))


def tracked() -> list[str]:
    """Files that belong to the repository; in an unpacked archive, all that are no product."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sorted(name for name in done.stdout.split("\0") if name and (ROOT / name).is_file())


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_the_top_level_is_complete(name):
    assert (ROOT / name).exists()


def test_what_ci_runs_can_be_run():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


def test_the_makefile_has_the_targets_that_are_promised():
    assert {"run", "test", "test-deploy", "ui", "bench", "clean", "setup"} <= TARGETS
    phony = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split())
    assert phony == TARGETS


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_help_names_every_target():
    _, told = _make(ROOT, "help")
    assert {line.split()[1] for line in told.splitlines()} == TARGETS


def _make(folder, *arguments):
    # These tests run inside `make test`: without its variables this is a make of its own.
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def checkout(tmp_path):
    """The shell alone, with a pip and a churn that say that they were called."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("python", "churn"):
        (tools / name).write_text(f'#!/bin/sh\necho called {name} "$@"\n')
        (tools / name).chmod(0o755)
    return tmp_path


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_a_second_make_run_installs_nothing(checkout):
    code, told = _make(checkout, "run")
    assert code == 0
    assert "called python -m pip install" in told
    assert "-c constraints.txt -e .[dev]" in told
    assert "called churn run" in told
    code, told = _make(checkout, "run")
    assert (code, told.strip()) == (0, "called churn run")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_pins_are_installed(checkout, changed):
    _make(checkout, "run")
    later = (checkout / ".venv" / ".installed").stat().st_mtime + 5
    os.utime(checkout / changed, (later, later))
    assert "pip install" in _make(checkout, "run")[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_a_failed_installation_is_tried_again(checkout):
    python = checkout / ".venv" / "bin" / "python"
    good = python.read_text()
    python.write_text("#!/bin/sh\nexit 1\n")
    assert _make(checkout, "run")[0] != 0
    python.write_text(good)
    assert "pip install" in _make(checkout, "run")[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_an_old_python_is_refused(checkout):
    shutil.rmtree(checkout / ".venv")
    old = checkout / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    code, told = _make(checkout, "run", f"PYTHON={old}")
    assert code != 0
    assert "is older than Python 3.11; set PYTHON=" in told


def test_make_clean_keeps_what_cannot_be_made_again():
    recipe = MAKEFILE[MAKEFILE.index("\nclean:") :]
    assert "data" not in recipe.partition("\n\t")[2]
    assert ".venv" not in recipe.partition("\n\t")[2]


# -- pins --------------------------------------------------------------------------------------------


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [line.partition("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in found}


def requirements() -> list[str]:
    return [*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["dev"]]


@pytest.mark.parametrize("text", requirements())
def test_every_dependency_is_pinned_to_a_version_that_it_allows(text):
    wanted = Requirement(text)
    assert pins()[canonicalize_name(wanted.name)] in wanted.specifier


def test_every_pin_is_exact_and_says_nothing_of_a_machine():
    for name, version in pins().items():
        assert re.fullmatch(r"[0-9a-z.]+", version), f"{name}=={version}"


def test_the_lists_of_dependencies_are_in_order():
    for listed in (PYPROJECT["project"]["dependencies"], PYPROJECT["project"]["optional-dependencies"]["dev"]):
        names = [Requirement(text).name for text in listed]
        assert names == sorted(names)


GROUPS = PYPROJECT["dependency-groups"]


def names_of_group(name: str) -> list[str]:
    return [
        each
        for entry in GROUPS[name]
        for each in (names_of_group(entry["include-group"]) if isinstance(entry, dict) else names_of([entry]))
    ]


def names_of(requirements: list[str]) -> list[str]:
    return [canonicalize_name(Requirement(text).name) for text in requirements]


REQUIRED = set(names_of(PYPROJECT["project"]["dependencies"]))
FOR_EVENTS = set(names_of(PYPROJECT["project"]["optional-dependencies"]["events"]))  # the image has this extra


@pytest.mark.parametrize("name", GROUPS)
def test_what_an_image_installs_is_a_dependency_and_pinned(name):
    listed = [entry for entry in GROUPS[name] if isinstance(entry, str)]
    assert listed == sorted(listed)
    assert set(names_of_group(name)) <= REQUIRED | FOR_EVENTS | {"xgboost-cpu"}
    assert set(names_of_group(name)) <= set(pins())


def test_the_pipeline_installs_every_dependency():
    # The build of XGBoost without a GPU has the same module.
    assert (REQUIRED | FOR_EVENTS) - set(names_of_group("pipeline")) == {"xgboost"}


# -- nothing of this machine -------------------------------------------------------------------------

# Written in pieces, so that this file does not find itself. A container's /tmp is no place of this machine.
MACHINE = [
    "/" + "work" + "/", "/" + "root" + "/", "/" + "home" + "/[a-z]+/", "/" + "opt" + "/(wheels|pypi)",
    "pypi" + r"\.org", "files" + r"\.pythonhosted", "registry" + r"\.npmjs", "deb" + r"\.debian\.org",
    "storage" + r"\.googleapis", "/" + "tmp" + "/(?!bash|bentoml)",
]  # fmt: skip


def test_no_file_names_a_place_of_the_machine_it_was_made_on():
    places = re.compile("|".join(MACHINE).encode())
    found = {name: places.findall((ROOT / name).read_bytes()) for name in tracked()}
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_the_package_carries_its_types():
    assert (ROOT / "churn_assets" / "py.typed").exists()
    carried = PYPROJECT["tool"]["setuptools"]["package-data"]["churn_assets"]
    others = {path.suffix for path in (ROOT / "churn_assets").rglob("*.*") if "starter" not in path.parts} - {
        ".py",
        ".pyc",
    }
    assert {"py.typed", "starter/**"} <= set(carried)
    assert others == {Path(pattern).suffix for pattern in carried} - {""} | {".typed"}


def test_the_licence_is_the_one_that_is_named():
    text = (ROOT / "LICENSE").read_text()
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text

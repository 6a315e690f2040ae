"""Where the real tools of `make test-deploy` are; a test whose tool is not there says so.

`need` and `need_module` skip the test with the reason, or fail it where `CI` is set: there the tools are installed.
`cannot_run` skips always: for what the machine itself does not allow.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from churn_assets_tests.strategies import ROOT

TOOLS = ROOT / ".tools"
PYTHON = TOOLS / "venv" / "bin" / "python"
NODE_MODULES = TOOLS / "npm" / "node_modules"
DEPLOY = ROOT / "deploy"


def search_path() -> str:
    """Folders of executables, in the order in which they are searched."""
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    ours = [TOOLS / "venv" / "bin", NODE_MODULES / ".bin"]
    theirs = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/sbin"]
    return os.pathsep.join(map(str, [*ours, *theirs, *postgres]))


def cannot_run(reason: str) -> NoReturn:
    """Skip this test; `reason` stands in the list at the end of the run."""
    pytest.skip(reason)


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    cannot_run(reason)


def need(name: str) -> str:
    """The path of the executable `name`: .tools first, then PATH, then the newest PostgreSQL's folder."""
    path = shutil.which(name, path=search_path())
    if path is None:
        _missing(f"there is no {name}; run deploy/tools/install")
    return path


@functools.cache
def _imports(module: str) -> bool:
    return PYTHON.exists() and subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True).returncode == 0


def need_module(module: str) -> str:
    """The interpreter that can import `module`, a package of deploy/tools/requirements.txt."""
    if not _imports(module):
        _missing(f"{PYTHON.relative_to(ROOT)} cannot import {module}; run deploy/tools/install")
    return str(PYTHON)


def need_package(name: str) -> Path:
    """The folder of the npm package `name`, of deploy/tools/package.json; `node` is there as well."""
    need("node")
    folder = NODE_MODULES / name
    if not folder.is_dir():
        _missing(f"there is no npm package {name}; run deploy/tools/install")
    return folder


def need_root(what: str) -> None:
    """`what` needs root, as building an image without a daemon does."""
    if os.geteuid() != 0:
        cannot_run(f"{what} needs root")


def output(
    *command: str | Path, environment: Mapping[str, str] | None = None, cwd: Path = ROOT, limit_s: int = 600
) -> str:
    """What `command` prints, both streams; the test fails with it if the command does."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd, env={**os.environ, **(environment or {})}, text=True, timeout=limit_s, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(map(str, command))}\nexit code {done.returncode}\n{done.stdout[-8000:]}"
    return done.stdout

"""The wheel works alone: installed in a new environment, in an empty folder, without this checkout."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import psutil
import pytest

from churn_assets.settings import STARTER, Settings, project_file
from churn_assets.starter import starter_files
from churn_assets_tests.strategies import ROOT

COPIED = ["contracts/store.toml", "contracts/telecom.toml", "dagster.yaml", "workspace.yaml", "data/raw/README.md"]


@pytest.mark.parametrize("name", COPIED)
def test_the_wheel_carries_the_files_of_the_top_level(name):
    assert (STARTER / name).read_bytes() == (ROOT / name).read_bytes(), f"copy {name} to churn_assets/starter/{name}"


def test_no_contract_is_missing_from_the_wheel():
    assert {path.name for path in (ROOT / "contracts").iterdir()} == {
        path.name for path in (STARTER / "contracts").iterdir()
    }


def test_a_file_of_the_project_wins_over_the_copy(tmp_path):
    name = "contracts/store.toml"
    assert project_file(tmp_path, name) == STARTER / name
    (tmp_path / "contracts").mkdir()
    (tmp_path / name).write_text("own")
    assert project_file(tmp_path, name) == tmp_path / name
    assert project_file(tmp_path, "contracts/none.toml") == tmp_path / "contracts/none.toml"


def test_a_root_without_contracts_uses_the_copy(tmp_path):
    assert Settings.from_environ({"CHURN_ROOT": str(tmp_path)}).contract_path == STARTER / "contracts/store.toml"


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """A new virtual environment with the wheel in it. Its dependencies are those of this environment: installing
    3 GB anew is for the workflow's job `wheel`."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "churn_assets", source / "churn_assets", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(source)], check=True)
    shutil.rmtree(source)
    (wheel,) = folder.glob("churn_assets-*.whl")
    here = folder / "venv"
    venv.create(here, with_pip=False)
    site = next((here / "lib").glob("python*")) / "site-packages"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    # A path in a .pth file is searched, and the .pth files of that folder, this checkout's among them, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = here / "bin" / "churn"
    command.write_text(f"#!{here}/bin/python\nfrom churn_assets.cli.main import main\nmain()\n")
    command.chmod(0o755)
    return here


@pytest.fixture(scope="module")
def project(environment, tmp_path_factory) -> Path:
    """A folder that `churn run` was started in, empty before."""
    folder = tmp_path_factory.mktemp("empty")
    done = churn(environment, folder, "run", CHURN_SOURCE="generated://store?rows=2500&seed=7")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def environ(environment: Path, **more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CHURN_", "PYTHON", "DAGSTER"))}
    return {**own, "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}", **more}


def churn(environment: Path, folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(environment / "bin" / "churn"), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environ(environment, **more), capture_output=True, text=True, check=False
    )


def test_the_package_that_runs_is_the_wheels(environment, tmp_path):
    code = "import churn_assets; print(churn_assets.__file__)"
    python = environment / "bin" / "python"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=environ(environment), capture_output=True, text=True)
    assert done.stdout.strip().startswith(str(environment)), done.stderr


def test_a_run_in_an_empty_folder_keeps_its_state_there(project):
    assert {path.name for path in project.iterdir()} == {"data"}
    assert (project / "data" / "var" / "champion.json").is_file()
    assert (project / "data" / "var" / "reports" / "model_report.html").is_file()
    assert (project / "data" / "var" / "dagster" / "dagster.yaml").read_bytes() == (ROOT / "dagster.yaml").read_bytes()


def test_the_shipped_contracts_have_the_names_that_the_documentation_uses(environment, project):
    for arguments in (["contract", "check", "contracts/telecom.toml"], ["contract", "check"], ["status"]):
        done = churn(environment, project, *arguments)
        assert done.returncode == 0, done.stderr
    made = churn(environment, project, "generate", "--contract", "telecom", "--rows", "50", "-o", "customers.csv")
    assert made.returncode == 0, made.stderr
    (project / "customers.csv").unlink()


def test_the_service_answers_with_the_champion(environment, project):
    port = free_port()
    with running(environment, project, "serve", "--host", "127.0.0.1", "--port", str(port)):
        page = answer(f"http://127.0.0.1:{port}/")
        assert "<form" in page
        assert answer(f"http://127.0.0.1:{port}/readyz")


def test_the_ui_shows_the_graph_is_alone_and_leaves_no_process(environment, project):
    port = free_port()
    with running(environment, project, "ui", "--port", str(port)) as process:
        assert '"dagster_version"' in answer(f"http://127.0.0.1:{port}/server_info")
        (dagster,) = psutil.Process(process.pid).children()
        started = [dagster, *dagster.children(recursive=True)]
        second = churn(environment, project, "ui", "--port", str(free_port()), COLUMNS="400")
        assert second.returncode == 2
        holder = f"process {dagster.pid} runs `churn ui` on {project / 'data' / 'var'} already"
        assert second.stderr.startswith(f"error: {holder}, expected at most one in a home; "), second.stderr
        assert second.stdout == ""
        process.terminate()
        assert process.wait(10) == 0
        assert len(started) > 3
        _, left = psutil.wait_procs(started, timeout=1)
        assert [child for child in left if child.status() != psutil.STATUS_ZOMBIE] == []


def test_init_writes_a_project_that_runs(environment, tmp_path):
    done = churn(environment, tmp_path, "init", "mine")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "mine"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == set(starter_files())
    assert {"Makefile", ".gitignore", *COPIED} <= files
    assert "@" not in (folder / "Makefile").read_text().partition("churn-assets==")[2][:12]
    made = subprocess.run(
        ["make", "run"],
        cwd=folder,
        env=environ(environment, CHURN_SOURCE="generated://store?rows=2500&seed=7"),
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert (folder / "data" / "var" / "champion.json").is_file()


def test_init_writes_over_nothing(environment, tmp_path):
    (tmp_path / "Makefile").write_text("mine")
    done = churn(environment, tmp_path, "init", ".")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Makefile" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running(environment: Path, folder: Path, *arguments: str):
    command = [str(environment / "bin" / "churn"), *arguments]
    with (folder.parent / f"{arguments[0]}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environ(environment), stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            for child in [*children, process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            process.wait(20)


def answer(url: str, seconds: float = 90) -> str:
    """The body of the first 200 that this URL gives."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.read().decode()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)

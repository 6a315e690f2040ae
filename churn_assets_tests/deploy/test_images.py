"""The images of deploy/Dockerfile: built, and run from their read-only file systems as their own account.

The pipeline's image trains the champion of a new home, the service's answers with it, the dashboard's shows it.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from churn_assets_tests.cli.test_shell import pins
from churn_assets_tests.deploy.containers import ACCOUNT, Builder, Container, Image, builder
from churn_assets_tests.strategies import ROOT

SOURCE = "generated://store?rows=2500&seed=7"
TRAINING = ("dagster", "mlflow", "torch", "sklearn", "scipy", "evidently", "pandas", "optuna", "nvidia")
_INSTALLED = """
import json
from importlib.metadata import distributions
print(json.dumps({found.metadata["Name"]: found.version for found in distributions()}))
"""
_FINDABLE = """
import importlib.util, sys
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answer_of(url: str, container: Container, limit_s: float = 90.0, **options) -> httpx.Response:
    """The first answer of a server that starts."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        assert container.process.poll() is None, container.log[-4000:]
        try:
            return httpx.get(url, trust_env=False, timeout=10, **options)
        except httpx.TransportError:
            time.sleep(0.3)
    pytest.fail(f"{url} does not answer after {limit_s:g} s\n{container.log[-4000:]}")


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> Iterator[Builder]:
    with builder(tmp_path_factory.mktemp("images")) as made:
        yield made


@pytest.fixture(scope="module")
def service(build) -> Image:
    return build.build("service")


@pytest.fixture(scope="module")
def dashboard(build) -> Image:
    return build.build("dashboard")


@pytest.fixture(scope="module")
def pipeline(build) -> Image:
    return build.build("pipeline")


@pytest.fixture
def image(request) -> Image:
    return request.getfixturevalue(request.param)


def new_home(folder: Path) -> Path:
    folder.mkdir(mode=0o750)
    shutil.chown(folder, ACCOUNT, ACCOUNT)
    return folder


@pytest.fixture(scope="module")
def home(pipeline, tmp_path_factory) -> Path:
    """A home that the pipeline's image has set up as deploy/compose.yaml does, twice."""
    folder, keys = (new_home(tmp_path_factory.mktemp("deploy") / name) for name in ("home", "keys"))
    mounts = {keys: "/var/lib/churn-keys"}
    script = (ROOT / "deploy" / "setup").read_text()
    pipeline.output(folder, "sh", "-c", script, limit_s=500, mounts=mounts, CHURN_SOURCE=SOURCE)
    made = {path: path.read_bytes() for path in (folder / "champion.json", keys / "view.key")}
    pipeline.output(folder, "sh", "-c", script, limit_s=60, mounts=mounts, CHURN_SOURCE=SOURCE)
    assert {path: path.read_bytes() for path in made} == made  # a second setup changes nothing
    assert (keys / "view.key").stat().st_mode & 0o777 == 0o640
    return folder


@pytest.fixture(scope="module")
def key(service, home) -> str:
    """A key of that home, made in the service's image."""
    done = service.output(home, "churn", "keys", "create", "test", "--scope", "predict", "--scope", "view")
    return next(line for line in done.splitlines() if line.startswith("churn_"))


IMAGES = pytest.mark.parametrize("image", ["service", "dashboard", "pipeline"], indirect=True)


def test_the_service_has_no_training_library(service, tmp_path):
    assert service.output(new_home(tmp_path / "home"), "python", "-c", _FINDABLE, *TRAINING).split() == []
    size = sum(path.lstat().st_size for path in (service.root / "opt" / "churn").rglob("*"))
    assert size < 450e6


@IMAGES
def test_what_is_installed_is_what_is_pinned(image, tmp_path):
    installed = json.loads(image.output(new_home(tmp_path / "home"), "python", "-c", _INSTALLED))
    versions = {name.lower().replace("_", "-").replace(".", "-"): version for name, version in installed.items()}
    own = versions.pop("churn-assets")
    assert own
    pinned = pins()
    different = {
        name: (version, pinned.get(name))
        for name, version in versions.items()
        if version.partition("+")[0] != pinned.get(name)
    }
    assert different == {}


@IMAGES
def test_the_account_may_write_only_its_home_and_tmp(image, tmp_path):
    assert image.config["User"] == f"{ACCOUNT}:{ACCOUNT}"
    elsewhere = " -o ".join(f"-path {place}" for place in ("/proc", "/dev", "/tmp", "/var/lib/churn"))
    search = f"find / -xdev ( {elsewhere} ) -prune -o -writable ! -type l -print"
    home = new_home(tmp_path / "home")
    found = image.run(home, *search.split()).stdout.splitlines()
    assert [line for line in found if "Permission denied" not in line] == []
    assert image.output(home, "sh", "-c", "id -u; touch /var/lib/churn/a; cd /tmp; touch a").split() == [str(ACCOUNT)]
    for path in image.root.joinpath("opt", "churn").rglob("*"):  # without the read-only mount it may not either
        status = path.lstat()
        assert status.st_uid == 0, path
        assert path.is_symlink() or not status.st_mode & 0o022, path


def test_the_same_sources_make_the_same_image(build, service):
    again = build.build("service", "--no-cache", name="churn-service-again")
    assert again.layers == service.layers
    named = {"Hostname": ""}  # buildah writes the name of the container that it was built in
    assert again.config | named == service.config | named


def test_the_service_is_not_reachable_without_a_key(service, tmp_path):
    done = service.run(new_home(tmp_path / "home"), *service.config["Cmd"], CHURN_PORT=str(free_port()))
    assert done.returncode == 2
    assert "churn keys create" in done.stdout


def test_the_pipeline_lists_its_assets(pipeline, home):
    listed = pipeline.output(home, "dagster", "asset", "list", "-m", "churn_assets.definitions").split()
    assert {"registered_model", "churn_bento", "risk_list"} <= set(listed)


def test_the_service_answers_with_the_champion_of_the_pipeline(service, home, key, tmp_path):
    port = free_port()
    environment = {"CHURN_PORT": str(port), "CHURN_GRPC_PORT": "0"}
    assert not service.healthy(home, **environment)
    with service.running(home, tmp_path / "log", **environment) as container:
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
        answer_of(f"{url}/readyz", container)
        assert service.healthy(home, **environment)
        example = answer_of(f"{url}/docs.json", container, headers=headers).json()
        row = example["components"]["schemas"]["Customer"]["example"]
        response = httpx.post(f"{url}/predict", json=row, headers=headers, trust_env=False)
        assert response.status_code == 200, (response.text, container.log)
        assert 0 <= response.json()["churn_probability"] <= 1
        assert httpx.post(f"{url}/predict", json=row, trust_env=False).status_code == 401
        champion = json.loads((home / "champion.json").read_text())
        assert response.json()["model_version"] == champion["version"]
    segments = [path for path in (home / "predlog").rglob("*") if path.is_file()]
    assert any(response.json()["prediction_id"] in path.read_text(errors="replace") for path in segments)
    assert {path.stat().st_uid for path in segments} == {ACCOUNT}


def test_the_dashboard_shows_the_champion(dashboard, home, key, tmp_path):
    port = free_port()
    environment = {"CHURN_DASHBOARD_PORT": str(port)}
    with dashboard.running(home, tmp_path / "log", **environment) as container:
        url = f"http://127.0.0.1:{port}"
        assert answer_of(f"{url}/", container, follow_redirects=True).url.path == "/sign-in"
        assert dashboard.healthy(home, **environment)
        champion = json.loads((home / "champion.json").read_text())["version"]
        with httpx.Client(base_url=url, trust_env=False, headers={"Authorization": f"Bearer {key}"}) as client:
            page = client.get("/models")
        assert page.status_code == 200, (page.text[:1000], container.log)
        assert champion in page.text


def test_the_pipeline_runs_dagster(pipeline, home, tmp_path):
    port = free_port()
    log = tmp_path / "log"
    command = [*pipeline.config["Cmd"], "--port", str(port)]
    with pipeline.running(home, log, command) as container:
        answer_of(f"http://127.0.0.1:{port}/server_info", container, limit_s=120)
        assert pipeline.healthy(home, CHURN_UI_PORT=str(port))
        query = '{ "query": "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }" }'
        response = httpx.post(
            f"http://127.0.0.1:{port}/graphql",
            content=query, headers={"Content-Type": "application/json"}, trust_env=False, timeout=60,
        )  # fmt: skip
        assert response.json()["data"]["repositoriesOrError"]["nodes"], container.log[-3000:]
    assert all(json.loads(line)["event"] for line in container.log.splitlines())

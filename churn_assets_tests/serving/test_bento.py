"""The Bento: built around a bundle, and served from its own folder with its own copy of the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from churn_assets.errors import BentoNotBuilt
from churn_assets.prediction_log.warehouse.read import verify
from churn_assets.scoring.bundle import write_ladder
from churn_assets.serving.bento import build_bento
from churn_assets.settings import Settings
from churn_assets_tests.serving.client import ASKED, make_bundle, served, wait_for


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    bundle = make_bundle(home)
    write_ladder(bundle, bundle.name, {"rungs": [{"words": "all columns"}]})
    settings = Settings.from_environ({"CHURN_HOME": str(home)})
    return build_bento(settings, bundle, bundle.name), settings


def test_a_bento_answers_with_its_bundle_and_its_ladder(built, tmp_path):
    bento, settings = built
    environ = {"BENTOML_HOME": str(settings.bento_home)}
    with served(tmp_path, tmp_path / "home", service=bento.tag, environ=environ) as (url, process):
        wait_for(f"{url}/readyz", process, tmp_path / "log")
        answer = httpx.post(f"{url}/predict", json=ASKED).json()
        supervisor = psutil.Process(process.pid)
        (worker,) = [c for c in supervisor.children() if "_bentoml_impl.worker" in " ".join(c.cmdline())]
        mapped = [Path(region.path).parts for region in worker.memory_maps()]
        model = httpx.get(f"{url}/model").json()
    # What it imports is what makes a worker slow to start; the seconds are in benchmarks/RESULTS.md.
    libraries = {path[path.index("site-packages") + 1] for path in mapped if "site-packages" in path}
    assert "numpy" in libraries
    assert not libraries & {"duckdb", "mlflow", "pandas", "pyarrow", "scipy", "sklearn", "torch"}
    assert answer["model_version"] == model["version"] == bento.bundle_version
    assert model["ladder"]["rungs"] == [{"words": "all columns"}]
    assert verify(tmp_path / "home" / "predlog", [answer["prediction_id"]]).kept
    assert not (bento.path / "src" / "data").exists()


def test_a_bento_without_a_home_does_not_start(built):
    bento, settings = built
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHURN_")}
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", bento.tag],
        env={**environ, "BENTOML_HOME": str(settings.bento_home), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: CHURN_HOME is not set, expected an absolute path outside of the Bento")


def test_a_build_that_fails_reports_bentomls_message(tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    settings = Settings.from_environ({"CHURN_HOME": str(tmp_path / "home")})
    with pytest.raises(BentoNotBuilt, match=r"bentoml build ended with \d+: .*; is its version as pinned\?") as caught:
        build_bento(settings, bundle, "not a version")
    assert "\n" not in str(caught.value)

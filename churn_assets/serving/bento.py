"""Building a Bento around a bundle. The one place that knows BentoML's build; the service goes by name."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from churn_assets.errors import BentoNotBuilt
from churn_assets.mlflow_registry.registry import requirements
from churn_assets.scoring.bundle import ladder_path
from churn_assets.serving.server.process import SERVICE
from churn_assets.settings import Settings

LADDER = ladder_path(Path("bundle")).name
# Packages of a Bento, beside BentoML and the scorer's.
_SERVER = ("grpcio", "httptools", "jinja2", "msgspec", "protobuf", "starlette", "uvicorn", "uvloop")


@dataclass(frozen=True)
class Built:
    """A Bento in the store: its tag, folder, and the version of the bundle inside."""

    tag: str
    path: Path
    bundle_version: str


def build_bento(settings: Settings, bundle: Path, version: str) -> Built:
    """Pack the service's part of this package with `bundle` into the Bento `churn:<version>`.

    BentoML runs in a process of its own: it reads BENTOML_HOME once a process, and two homes must not
    share a store. An existing Bento of the same content is replaced. Raises BentoNotBuilt.
    """
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        # The whole package, as bentofile.yaml has it: a list of the parts that a service imports would grow stale.
        package = Path(__file__).resolve().parents[1]
        shutil.copytree(package, context / "churn_assets", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(bundle, context / "bundle")
        if ladder_path(bundle).is_file():
            shutil.copy2(ladder_path(bundle), context / LADDER)
        model = [line for line in requirements() if not line.startswith("churn-assets")]
        packages = model + [f"{name}=={metadata.version(name)}" for name in _SERVER]
        options = {
            "service": SERVICE,
            "labels": {"owner": "churn", "bundle": version},
            "include": ["churn_assets/**", "bundle/**", LADDER],
            "python": {"packages": packages, "lock_packages": False},
        }
        (context / "bentofile.yaml").write_text(json.dumps(options))  # JSON is YAML
        settings.bento_home.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(settings.bento_home / "bentos" / "churn" / version, ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-m", "bentoml", "build", "--version", version, "--output", "tag"],
            cwd=context,  # it refuses to read a bentofile anywhere else
            env={**os.environ, **settings.library_environ()},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise BentoNotBuilt(f"bentoml build ended with {done.returncode}: {last}; is its version as pinned?")
    path = settings.bento_home / "bentos" / "churn" / version
    manifest = json.loads((path / "src" / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    return Built(f"churn:{version}", path, str(manifest["version"]))

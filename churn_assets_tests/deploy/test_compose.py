"""deploy/Dockerfile and deploy/compose.yaml: what their checkers find, and what they promise.

No container engine runs here, so that `docker compose up` is not run; the images are, in test_images.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from churn_assets_tests.deploy.tools import DEPLOY, need, output
from churn_assets_tests.strategies import ROOT

DOCKERFILE, COMPOSE = DEPLOY / "Dockerfile", DEPLOY / "compose.yaml"
PORTS = {"service": {3000, 3003}, "dashboard": {3001}, "pipeline": {3002}, "grafana": {3004}, "prometheus": {9090}}
OURS = ("setup", "service", "pipeline", "dashboard", "metrics", "mlflow")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def test_hadolint_finds_nothing():
    output(need("hadolint"), DOCKERFILE)


def test_hadolint_finds_a_fault(tmp_path):
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.read_text().replace("WORKDIR /srv/churn", "RUN cd /srv/churn"))
    assert subprocess.run([need("hadolint"), wrong], capture_output=True).returncode != 0


def test_compose_meets_its_schema():
    output(need("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE)


@pytest.mark.parametrize("word", ["depends_on:", "healthcheck:", "mem_limit:", "read_only:", "target:"])
def test_a_misspelt_key_does_not_meet_the_schema(word, tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace(word, f"my_{word}"))
    command = [need("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", wrong]
    assert subprocess.run(command, capture_output=True).returncode == 1


def test_dclint_finds_nothing():
    output(need("dclint"), "-c", DEPLOY / ".dclintrc.yaml", "--max-warnings", "0", COMPOSE)


@pytest.mark.parametrize("script", ["setup", "install-group", "tools/install"])
def test_scripts_can_be_read_by_their_shell(script):
    text = (DEPLOY / script).read_text()
    subprocess.run(["bash" if "bash" in text.splitlines()[0] else "sh", "-n", DEPLOY / script], check=True)


def test_ports_are_published_on_this_machine_alone(compose):
    published = {
        name: [entry.rsplit(":", 1)[0] for entry in service.get("ports", ())]
        for name, service in compose["services"].items()
    }
    assert {
        name: set(map(int, (entry.split(":")[1] for entry in entries)))
        for name, entries in published.items()
        if entries
    } == PORTS
    assert all(entry.startswith("127.0.0.1:") for entries in published.values() for entry in entries)


def test_each_container_has_limits_a_health_check_and_volumes_that_exist(compose):
    with_check = set(re.findall(r"^FROM runtime AS (\w+)", DOCKERFILE.read_text(), re.M))
    for name, service in compose["services"].items():
        assert {"cpus", "mem_limit", "restart", "image"} <= set(service), name
        target = service["image"].removeprefix("churn-").partition(":")[0]
        assert "healthcheck" in service or target in with_check, name
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind":
                assert (DEPLOY / volume["source"]).exists(), (name, volume)
                assert volume["read_only"] is True, (name, volume)
            else:
                assert volume["source"] in compose["volumes"], (name, volume)
        for needed in service.get("depends_on", ()):
            assert needed in compose["services"]
        for secret in service.get("secrets", ()):
            assert secret in compose["secrets"]


def test_our_containers_have_no_rights(compose):
    for name in OURS:
        service = compose["services"][name]
        assert service["user"] == "10001:10001", name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_every_build_names_a_target_of_the_dockerfile(compose):
    stages = set(re.findall(r"^FROM .* AS ([\w-]+)", DOCKERFILE.read_text(), re.M))
    targets = {service["build"]["target"] for service in compose["services"].values() if "build" in service}
    assert targets == {"service", "pipeline", "dashboard"}
    assert targets <= stages


def test_every_setting_is_one_of_the_documentation(compose):
    documented = (ROOT / "docs" / "settings.md").read_text() + (ROOT / "docs" / "deployment.md").read_text()
    used = {
        name
        for service in compose["services"].values()
        for name in service.get("environment") or ()
        if name.startswith("CHURN_")
    } | set(re.findall(r"\$\{(CHURN_\w+)", COMPOSE.read_text()))
    assert {name for name in used if f"`{name}`" not in documented} == set()


def test_secrets_are_files_that_are_not_in_the_repository(compose):
    for secret in compose["secrets"].values():
        path = DEPLOY / secret["file"]
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT)
        assert ignored.returncode == 0, path


def test_prometheus_takes_its_configuration(tmp_path):
    folder = shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    key = tmp_path / "view.key"
    key.write_text("churn_key\n")
    file = folder / "prometheus.yml"
    file.write_text(file.read_text().replace("/var/lib/churn-keys/view.key", str(key)))
    output(need("promtool"), "check", "config", file)


def test_alertmanager_takes_its_configuration():
    output(need("amtool"), "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")


def test_the_context_of_the_images_is_small():
    """What is not listed does not get into an image: no data, no home, no key."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.M)
    assert {Path(name) for line in copied for name in line.split()} == {Path(name) for name in kept}

"""The manifests of deploy/: rendered by Helm and by kustomize, checked strictly, and whether the checks can fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from churn_assets_tests.deploy.mutations import Mutation, mutations
from churn_assets_tests.deploy.tools import DEPLOY, NODE_MODULES, need, need_module, need_package, output
from churn_assets_tests.strategies import ROOT

Resource = dict[str, Any]
CHECKS = DEPLOY / "tools" / "manifests"
CHART = DEPLOY / "helm" / "churn"
OPTIONS = ("postgresql", "broker", "prometheus", "grafana", "relay", "consumer", "exporter", "kserve")
CASES: dict[str, Resource] = {
    "values": {},
    "laptop": yaml.safe_load((CHART / "values-laptop.yaml").read_text()),
    "production": yaml.safe_load((CHART / "values-production.yaml").read_text()),
    "everything": {name: {"enabled": True} for name in OPTIONS},
}
OF_OPERATORS = ("monitoring.coreos.com/", "gateway.networking.k8s.io/", "argoproj.io/")

# Fields whose names are data, and values that may have either type. Everything else must be refused.
FREE_NAMES = re.compile(
    r"/(labels|annotations|matchLabels|data)/[^/]+$"
    r"|/spec/selector/[^/]+$"
    r"|/resources/(requests|limits)/[^/]+$"
)
QUANTITY = re.compile(r"/(requests|limits)/[^/]+$|/sizeLimit$")
NAME_OR_NUMBER = re.compile(r"/(port|targetPort|maxSurge|maxUnavailable)$|/pause/duration$|/rules/\d+/expr$")

_HELM = """
import json, sys, helm_python
chart, values = sys.argv[1], json.loads(sys.argv[2])
lint = helm_python.lint(chart, values, strict=True, kube_version="v1.37.0")
with helm_python.Chart.load(chart) as loaded:
    texts = loaded.render(values, name="churn", namespace="churn")
print(json.dumps({"lint": lint, "texts": texts}))
"""


_REFUSALS = """
import json, sys, helm_python
with helm_python.Chart.load(sys.argv[1]) as chart:
    for line in sys.stdin:
        try:
            chart.validate_schema(json.loads(line))
            print('""')
        except helm_python.HelmError as error:
            print(json.dumps(str(error)))
"""


def helm(values: Resource) -> dict[str, Any]:
    python = need_module("helm_python")
    result: dict[str, Any] = json.loads(output(python, "-c", _HELM, CHART, json.dumps(values)))
    return result


def documents(texts: Iterable[str]) -> list[Resource]:
    return [resource for text in texts for resource in yaml.safe_load_all(text) if resource]


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Resource]]:
    """The resources of each case, as Helm renders them."""
    return {
        name: documents(text for path, text in helm(values)["texts"].items() if path.endswith(".yaml"))
        for name, values in CASES.items()
    }


def problems(resources: list[Resource]) -> list[str]:
    """What is wrong with each resource, "" for nothing: by the schemas of Kubernetes, KServe and the operators."""
    python, _ = need_module("kubernetes_validate"), need_package("@kubernetes-models/prometheus-operator")
    commands: list[tuple[list[str], list[int]]] = [
        ([python, str(CHECKS / "core_schemas.py")], [n for n, r in enumerate(resources) if not _is_route(r)]),
        ([need("node"), str(CHECKS / "operators.mjs")], [n for n, r in enumerate(resources) if _is_operators(r)]),
    ]
    found = [""] * len(resources)
    for command, numbers in commands:
        for number, text in zip(numbers, ask(command, [resources[n] for n in numbers]), strict=True):
            found[number] = found[number] or text
    return found


def ask(command: list[str], items: list[Any]) -> list[Any]:
    done = subprocess.run(
        command,
        input="".join(f"{json.dumps(item)}\n" for item in items),
        env={"NODE_MODULES": str(NODE_MODULES), "PYTHONWARNINGS": "ignore", "HOME": "/tmp"},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def _is_operators(resource: Resource) -> bool:
    return str(resource.get("apiVersion")).startswith(OF_OPERATORS)


def _is_route(resource: Resource) -> bool:
    """Whether only an operator knows the kind; the pod of a Rollout is one of Kubernetes."""
    return str(resource.get("apiVersion")).startswith(OF_OPERATORS[:2])


# -- what is rendered --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_helm_finds_nothing_to_complain_about(case: str) -> None:
    lint = helm(CASES[case])["lint"]
    assert lint["errors"] == []
    assert [message for message in lint["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("case", CASES)
def test_every_resource_has_the_fields_that_its_kind_has(case: str, rendered: dict[str, list[Resource]]) -> None:
    resources = rendered[case]
    assert len(resources) >= 15
    assert [(_name(r), text) for r, text in zip(resources, problems(resources), strict=True) if text] == []


def test_kubernetes_validate_itself_says_the_same(tmp_path: Path, rendered: dict[str, list[Resource]]) -> None:
    file = tmp_path / "all.yaml"
    everything = [resource for resources in rendered.values() for resource in resources]
    core = [r for r in everything if not _is_operators(r) and r["kind"] != "InferenceService"]
    file.write_text(yaml.safe_dump_all(core))
    text = output(need("kubernetes-validate"), "--strict", file)
    assert text.count("INFO") == len(core)
    assert "WARN" not in text


def test_kustomize_and_helm_give_the_same(rendered: dict[str, list[Resource]]) -> None:
    for case, folder in (("values", "base"), ("laptop", "overlays/laptop"), ("production", "overlays/production")):
        built = documents([output(need("kubectl"), "kustomize", DEPLOY / "kustomize" / folder)])
        by_name = {_name(r): r for r in built if r["kind"] != "Namespace"}
        for resource in by_name.values():
            assert resource["metadata"].pop("namespace") == "churn"
        assert by_name == {_name(r): r for r in rendered[case]}


def test_the_files_of_kustomize_are_those_that_the_chart_gives(tmp_path: Path) -> None:
    output(need_module("helm_python"), DEPLOY / "kustomize" / "render", tmp_path)
    kept = {p.relative_to(DEPLOY / "kustomize"): p.read_text() for p in (DEPLOY / "kustomize").rglob("*.yaml")}
    assert kept == {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.yaml")}


def test_the_chart_carries_the_rules_and_dashboards_of_deploy() -> None:
    carried = [p.read_bytes() for p in sorted((CHART / "files").rglob("*.*"))]
    sources = sorted(DEPLOY.glob("prometheus/rules/*.y*ml")) + sorted(DEPLOY.glob("grafana/*.json"))
    assert sorted(carried) == sorted(path.read_bytes() for path in sources if "test" not in path.name)


def _name(resource: Resource) -> tuple[str, str, str]:
    return resource["apiVersion"], resource["kind"], resource["metadata"]["name"]


# -- whether the checks can fail ---------------------------------------------------------------------


def test_every_field_with_another_name_or_type_is_refused(rendered: dict[str, list[Resource]]) -> None:
    by_shape: dict[tuple[str, frozenset[str]], Resource] = {}
    for resources in rendered.values():
        for resource in resources:
            by_shape.setdefault((resource["kind"], frozenset(_paths(resource))), resource)
    made = [mutation for resource in by_shape.values() for mutation in mutations(resource)]
    assert len(made) > 5000
    passed = [m for m, text in zip(made, problems([m.resource for m in made]), strict=True) if not text]
    assert [str(mutation) for mutation in passed if not _may_pass(mutation)] == []
    print(f"{len(made):,} mutations, {len(passed):,} of free names and of values with two types")


def _paths(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield f"{path}/{name}"
            yield from _paths(below, f"{path}/{name}")
    elif isinstance(value, list):
        for below in value:
            yield from _paths(below, f"{path}/#")


def _may_pass(mutation: Mutation) -> bool:
    if mutation.how == "another name":
        return FREE_NAMES.search(mutation.path) is not None
    if mutation.how == "int for str":
        return QUANTITY.search(mutation.path) is not None or NAME_OR_NUMBER.search(mutation.path) is not None
    return mutation.how == "str for int" and NAME_OR_NUMBER.search(mutation.path) is not None


def test_what_a_free_name_names_is_there(rendered: dict[str, list[Resource]]) -> None:
    """What no schema can see: selectors that select, volumes, claims, ports, secrets and accounts that exist."""
    for case, resources in rendered.items():
        assert missing(resources) == [], case


@pytest.mark.parametrize("part", ["labels", "selector", "mount", "port", "claim", "account", "backend", "unit"])
def test_a_reference_to_nothing_is_seen(part: str, rendered: dict[str, list[Resource]]) -> None:
    resources = json.loads(json.dumps(rendered["values"]))
    by_name = {(r["kind"], r["metadata"]["name"]): r for r in resources}
    pod = by_name["Deployment", "churn-service"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    match part:
        case "labels":
            pod["metadata"]["labels"]["app.kubernetes.io/componentX"] = pod["metadata"]["labels"].pop(
                "app.kubernetes.io/component"
            )
        case "selector":
            by_name["Service", "churn-service"]["spec"]["selector"]["app.kubernetes.io/component"] = "servic"
        case "mount":
            container["volumeMounts"][0]["name"] = "hom"
        case "port":
            container["readinessProbe"]["httpGet"]["port"] = "htt"
        case "claim":
            by_name["PersistentVolumeClaim", "churn-home"]["metadata"]["name"] = "churn-hom"
        case "account":
            pod["spec"]["serviceAccountName"] = "churn-ap"
        case "backend":
            by_name["HTTPRoute", "churn-service"]["spec"]["rules"][0]["backendRefs"][0]["port"] = 3009
        case "unit":
            container["resources"]["requests"]["memory"] = "768MiB"
    assert missing(resources) != []


def missing(resources: list[Resource]) -> list[str]:
    """References that lead to nothing, and quantities that are none."""
    pods = [(_name(r), template) for r in resources for template in _templates(r)]
    names = {(r["kind"], r["metadata"]["name"]) for r in resources}
    services = {r["metadata"]["name"]: r["spec"] for r in resources if r["kind"] == "Service"}
    found = []
    for resource in resources:
        spec = resource.get("spec", {})
        selector = spec.get("selector") or {}
        labels = selector.get("matchLabels", {} if resource["kind"] != "Service" else selector)
        targets = (
            services_labels(resources)
            if resource["kind"] == "ServiceMonitor"
            else [template["metadata"]["labels"] for _, template in pods if "labels" in template.get("metadata", {})]
        )
        if labels and not any(labels.items() <= own.items() for own in targets):
            found.append(f"{_name(resource)} selects nothing: {labels}")
        found += [f"{_name(resource)}: no service {b}" for b in _backends(resource) if not _is_there(b, services)]
    for name, template in pods:
        found += [f"{name}: {text}" for text in _missing_in_pod(template["spec"], names)]
    return found


def services_labels(resources: list[Resource]) -> list[dict[str, str]]:
    return [r["metadata"]["labels"] for r in resources if r["kind"] == "Service"]


def _templates(resource: Resource) -> list[Resource]:
    spec = resource.get("spec", {})
    if resource["kind"] == "InferenceService":
        canary = [each["predictor"] for each in spec.get("canary", [])]
        return [{"spec": predictor} for predictor in (spec["predictor"], *canary)]
    return [spec["template"]] if "template" in spec else []


def _backends(resource: Resource) -> Iterator[tuple[str, object]]:
    for rule in resource.get("spec", {}).get("rules", []):
        for path in rule.get("http", {}).get("paths", []):
            service = path["backend"]["service"]
            yield service["name"], service["port"].get("name") or service["port"].get("number")
        for backend in rule.get("backendRefs", []):
            yield backend["name"], backend["port"]


def _is_there(backend: tuple[str, object], services: dict[str, Resource]) -> bool:
    name, port = backend
    return any(port in (each["name"], each["port"]) for each in services.get(name, {}).get("ports", []))


def _missing_in_pod(spec: Resource, names: set[tuple[str, str]]) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])} | {"data": {}}  # of a StatefulSet
    if ("ServiceAccount", spec["serviceAccountName"]) not in names:
        yield f"no account {spec['serviceAccountName']}"
    for volume in volumes.values():
        claim, configured = volume.get("persistentVolumeClaim"), volume.get("configMap")
        if claim and ("PersistentVolumeClaim", claim["claimName"]) not in names:
            yield f"no claim {claim['claimName']}"
        if configured and ("ConfigMap", configured["name"]) not in names:
            yield f"no ConfigMap {configured['name']}"
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        yield from (f"no volume {m['name']}" for m in container.get("volumeMounts", []) if m["name"] not in volumes)
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            for how in ("httpGet", "tcpSocket"):
                port = container.get(probe, {}).get(how, {}).get("port")
                if port is not None and port not in ports:
                    yield f"no port {port}"
        for amounts in container["resources"].values():
            yield from (f"{q} is no quantity" for q in amounts.values() if not _is_quantity(str(q)))


def _is_quantity(text: str) -> bool:
    return re.fullmatch(r"[0-9]+(\.[0-9]+)?([munkMGTPE]|[KMGTPE]i)?", text) is not None


def test_helm_refuses_a_value_that_the_chart_does_not_have() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    free = re.compile("/(environment|annotations|grpcAnnotations|labels|requests|limits)/")
    wrong = [m for m in mutations(values) if not free.search(m.path)]
    assert len(wrong) > 200
    command = [need_module("helm_python"), "-c", _REFUSALS, str(CHART)]
    [right, *verdicts] = ask(command, [values, *(mutation.resource for mutation in wrong)])
    assert right == ""
    assert [f"{m.path}: {m.how}" for m, text in zip(wrong, verdicts, strict=True) if not text] == []


# -- rights ------------------------------------------------------------------------------------------


def test_every_container_has_no_more_rights_than_the_restricted_standard(rendered: dict[str, list[Resource]]) -> None:
    for resources in rendered.values():
        for resource in resources:
            for spec in (template["spec"] for template in _templates(resource)):
                ours = any("churn-" in container["image"] for container in spec["containers"])
                assert spec["securityContext"]["runAsNonRoot"] is True
                assert spec["securityContext"]["runAsUser"] == 10001 or not ours
                assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
                assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
                for container in [*spec.get("initContainers", []), *spec["containers"]]:
                    assert container["securityContext"] == {
                        "allowPrivilegeEscalation": False,
                        "privileged": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    }, container["name"]
                    assert container["resources"]["limits"]["memory"]
                    assert not container["image"].endswith(":latest")


def test_the_token_of_the_cluster_is_given_only_to_what_starts_runs(rendered: dict[str, list[Resource]]) -> None:
    holders = {
        resource["metadata"]["name"]
        for resources in rendered.values()
        for resource in resources
        for template in _templates(resource)
        if template["spec"]["automountServiceAccountToken"]
    }
    assert holders == {"churn-pipeline", "churn-pipeline-daemon"}


def test_the_service_can_write_nothing_but_its_segments_and_the_counts(rendered: dict[str, list[Resource]]) -> None:
    for case in CASES:
        for resource in rendered[case]:
            if resource["metadata"]["name"] not in ("churn-service", "churn") or not _templates(resource):
                continue
            for template in _templates(resource):
                [container] = template["spec"]["containers"]
                mounts = {m["mountPath"]: m for m in container["volumeMounts"] if m["name"] == "home"}
                assert mounts.pop("/var/lib/churn")["readOnly"] is True
                assert {m.get("subPath") or m.get("subPathExpr") for m in mounts.values()} == {
                    "releases", "predlog/$(CHURN_INSTANCE)",
                }  # fmt: skip
                secret = [e for e in container["env"] if "secretKeyRef" in e.get("valueFrom", {})]
                assert secret == [], "it has no way into the database"


def test_no_secret_is_written_in_a_manifest(rendered: dict[str, list[Resource]]) -> None:
    for resources in rendered.values():
        assert not any(resource["kind"] == "Secret" for resource in resources)
        text = json.dumps(resources)
        assert not re.search(r"postgresql://|password\": \"|churn_[0-9a-f]{12}_", text)


# -- commands, probes and Dagster --------------------------------------------------------------------


def test_every_command_is_one_that_there_is(rendered: dict[str, list[Resource]]) -> None:
    used = {
        tuple(container["command"])
        for case, resources in rendered.items() if case != "everything"  # has commands of versions to come
        for resource in resources for template in _templates(resource)
        for container in template["spec"]["containers"] if container.get("command", [""])[0] == "churn"
    }  # fmt: skip
    words = ("serve", "ui", "dashboard", "metrics")
    assert used == {*(("churn", word) for word in words), ("churn", "release", "watch")}
    for command in used:
        output(sys.executable, "-W", "ignore", "-m", "churn_assets.cli", *command[1:], "--help")


def test_the_limits_of_runs_are_those_of_the_laptop(rendered: dict[str, list[Resource]]) -> None:
    [text] = [r["data"]["dagster.yaml"] for r in rendered["values"] if r["metadata"]["name"] == "churn-dagster"]
    ours = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    for name in ("telemetry", "concurrency", "sensors", "schedules", "auto_materialize", "freshness", "nux"):
        assert yaml.safe_load(text)[name] == ours[name], name


def test_dagster_takes_its_configuration_and_makes_jobs_like_the_other_pods(
    rendered: dict[str, list[Resource]],
) -> None:
    python = need_module("dagster_k8s")
    [text] = [r["data"]["dagster.yaml"] for r in rendered["production"] if r["metadata"]["name"] == "churn-dagster"]
    config = yaml.safe_load(text)
    free = re.compile("/(labels|requests|limits)/")
    renamed = [m for m in mutations(config) if m.how == "another name" and not free.search(m.path)]
    asked = [text, *(yaml.safe_dump(mutation.resource) for mutation in renamed)]
    [(problem, job), *wrong] = ask([python, str(CHECKS / "dagster_configuration.py")], asked)
    assert problem == ""
    accepted = [m.path for m, (verdict, _) in zip(renamed, wrong, strict=True) if not verdict]
    assert accepted == []

    template = job["spec"]["template"]
    spec, daemon = template["spec"], _template_of(rendered["production"], "churn-pipeline-daemon")
    assert spec["securityContext"] == daemon["spec"]["securityContext"]
    [container] = spec["containers"]
    assert container["securityContext"] == daemon["spec"]["containers"][0]["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    by_name = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    assert (by_name["home"], by_name["tmp"]) == ("/var/lib/churn", "/tmp")
    assert {"CHURN_DATABASE_URL", "CHURN_INSTANCE", "DAGSTER_HOME"} <= {each["name"] for each in container["env"]}
    labels = template["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "pipeline-run", "by which the network policies know it"
    assert labels["app.kubernetes.io/instance"] == "churn"


def _template_of(resources: list[Resource], name: str) -> Resource:
    [template] = [t for r in resources if r["metadata"]["name"] == name for t in _templates(r)]
    return template

"""Reads texts of dagster.yaml, one JSON string a line; writes for each what is wrong ("" for nothing) and the job that
the launcher would make for a run, as JSON.

Run by the interpreter of .tools, which has dagster-k8s and dagster-postgres: by Dagster's own schema of an instance,
those of the classes that it names, and Kubernetes' of the job.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import core_schemas
import yaml
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
from kubernetes.client import ApiClient

_OF_JOB = (
    "job_image", "dagster_home", "image_pull_policy", "image_pull_secrets", "service_account_name",
    "instance_config_map", "env_secrets", "env_config_maps", "env_vars",
)  # fmt: skip


def check(text: str) -> tuple[str, Any]:
    """What is wrong with an instance's configuration, and the job of a run."""
    config: dict[str, Any] = yaml.safe_load(text)
    checked = validate_config(dagster_instance_config_schema(), config)
    if not checked.success:
        return checked.errors[0].message, None
    for part in ("local_artifact_storage", "compute_logs", "run_launcher"):
        named = getattr(importlib.import_module(config[part]["module"]), config[part]["class"])
        checked = validate_config(named.config_type(), config[part]["config"])
        if not checked.success:
            return checked.errors[0].message, None
    own = config["run_launcher"]["config"]
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(**{name: own[name] for name in _OF_JOB if name in own}),
        ["dagster", "api", "execute_run"],
        "a-run",
        UserDefinedDagsterK8sConfig.from_dict(own["run_k8s_config"]),
        component="run_worker",
    )
    made = ApiClient().sanitize_for_serialization(job)
    return core_schemas.problem(made), made


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            verdict = check(json.loads(line))
        except Exception as error:  # what a wrong field makes Dagster raise is a refusal as well
            verdict = f"{type(error).__name__}: {error}", None
        sys.stdout.write(json.dumps(verdict) + "\n")

"""The Dagster instance of one home, also when nobody set DAGSTER_HOME.

`dagster asset materialize -m churn_assets.definitions` without DAGSTER_HOME makes a temporary instance
in the working directory and throws its run history away. It does read `dagster.yaml` there, which names
this class; so the history lands below CHURN_HOME after all, where `make ui` finds it.
"""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClassData

from churn_assets.settings import Settings


class HomeInstance(dg.DagsterInstance):
    """A DagsterInstance that keeps its storage below CHURN_HOME unless DAGSTER_HOME says otherwise."""

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """No settings of its own in `dagster.yaml`."""
        return {}

    @property
    def telemetry_enabled(self) -> bool:
        """Only with CHURN_TELEMETRY=1: one switch for every library."""
        return Settings.from_environ(os.environ).telemetry

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, ConfigurableClassData | None]:
        """Where runs, events, schedules and logs go."""
        home = base_dir
        if not os.environ.get("DAGSTER_HOME"):
            own = Settings.from_environ(os.environ).dagster_home
            own.mkdir(parents=True, exist_ok=True)
            home = str(own)
        return InstanceRef.config_defaults(home)

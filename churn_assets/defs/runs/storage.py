"""Dagster's runs, events and schedules in the database of CHURN_DATABASE_URL, in a schema of their own."""

import os
from typing import Any

from dagster._config.config_schema import UserConfigSchema
from dagster._serdes import ConfigurableClassData
from dagster_postgres.storage import DagsterPostgresStorage

from churn_assets.errors import SettingsError
from churn_assets.settings import DAGSTER_SCHEMA, DATABASE_URL, Settings, tool_database_url
from churn_assets.storage.postgresql import has_tables, making, plain_database_errors
from churn_assets.storage.store import Database


class HomeStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage without a URL in its configuration: Dagster hands that to processes as an argument, which
    every account of the machine can read. It is the environment's, in each process."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Nothing."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "HomeStorage":
        """The storage of this process's environment; schema and tables are made if needed, by one process at a time.
        Raises SettingsError without a database, DatabaseUnavailable."""
        database_url = Settings.from_environ(os.environ).database_url
        if not database_url:
            raise SettingsError(f"{DATABASE_URL} is not set, expected the database that has Dagster's runs; set it")
        database, url = Database(database_url), tool_database_url(database_url, DAGSTER_SCHEMA)
        with plain_database_errors(database):
            if has_tables(database, DAGSTER_SCHEMA):
                return cls(url, inst_data=inst_data)
            with making(database, DAGSTER_SCHEMA):
                return cls(url, inst_data=inst_data)

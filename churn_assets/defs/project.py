"""What every asset is given: the settings and the contract of this home."""

import os
from functools import cached_property
from pathlib import Path

import dagster as dg

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.settings import QUIET_ENVIRONMENT, Settings


class Project(dg.ConfigurableResource[object]):
    """Paths and switches of one home, as Dagster shows them; `settings` and `contract` as code wants them."""

    root: str
    home: str
    contract_path: str
    source: str | None = None
    telemetry: bool = False
    mlflow_uri: str
    log_archive_hours: int = Settings.log_archive_hours
    log_retention_days: int = Settings.log_retention_days

    @classmethod
    def of(cls, settings: Settings) -> "Project":
        """The resource for these settings."""
        return cls(
            root=str(settings.root),
            home=str(settings.home),
            contract_path=str(settings.contract_path),
            source=settings.source,
            telemetry=settings.telemetry,
            mlflow_uri=settings.mlflow_uri,
            log_archive_hours=settings.log_archive_hours,
            log_retention_days=settings.log_retention_days,
        )

    @cached_property
    def settings(self) -> Settings:
        """The settings this resource was made from."""
        return Settings(
            root=Path(self.root),
            home=Path(self.home),
            contract_path=Path(self.contract_path),
            source=self.source,
            telemetry=self.telemetry,
            mlflow_uri=self.mlflow_uri,
            log_archive_hours=self.log_archive_hours,
            log_retention_days=self.log_retention_days,
        )

    @cached_property
    def contract(self) -> Contract:
        """The contract, read from its file as it is now."""
        return load_contract(Path(self.contract_path))

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Keep libraries from phoning home, before any of them is imported by an asset body."""
        if not self.telemetry:
            for name, value in QUIET_ENVIRONMENT.items():
                os.environ.setdefault(name, value)

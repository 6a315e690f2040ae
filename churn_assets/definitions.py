"""The composition root: settings in, Dagster definitions out. `defs` is what Dagster loads."""

import os

import dagster as dg

from churn_assets.contract.load import load_contract
from churn_assets.defs.alerts import HomeAlerts
from churn_assets.defs.column_schema import with_column_schema
from churn_assets.defs.data import assets as data
from churn_assets.defs.io_manager import HomeIOManager
from churn_assets.defs.jobs import JOBS, schedules
from churn_assets.defs.monitoring import assets as monitoring
from churn_assets.defs.policy import executor, with_dashboard_link
from churn_assets.defs.prediction_log import assets as prediction_log
from churn_assets.defs.promotion import assets as promotion
from churn_assets.defs.release import assets as release
from churn_assets.defs.release.champion import publish_job
from churn_assets.defs.reporting import assets as reporting
from churn_assets.defs.resources import MlflowRun, Project
from churn_assets.defs.scoring import assets as scoring
from churn_assets.defs.sensors import sensors
from churn_assets.defs.training import assets as training
from churn_assets.defs.training import evaluation
from churn_assets.errors import without_user_info
from churn_assets.settings import Settings
from churn_assets.synthetic import register_generated_source

MODULES = [data, training, evaluation, reporting, promotion, scoring, prediction_log, monitoring, release]


def build(settings: Settings) -> dg.Definitions:
    """The definitions of one home. Reads the contract; creates nothing."""
    contract = load_contract(settings.contract_path)
    add_schema, add_link = with_column_schema(contract), with_dashboard_link(settings.dashboard_url)
    assets = [asset for asset in dg.load_assets_from_modules(MODULES) if isinstance(asset, dg.AssetsDefinition)]
    return dg.Definitions(
        assets=[asset.map_asset_specs(lambda spec: add_link(add_schema(spec))) for asset in assets],
        asset_checks=dg.load_asset_checks_from_modules(MODULES),
        jobs=[*JOBS, publish_job],
        schedules=schedules(settings),
        sensors=sensors(settings),
        resources={
            "project": Project.of(settings),
            "alerts": HomeAlerts(settings.home),
            "tracking": MlflowRun(
                mlflow_tracking_uri=without_user_info(settings.mlflow_uri),
                experiment_name=f"churn/{contract.name}",
                artifacts=str(settings.mlflow_dir / "artifacts"),
            ),
            "io_manager": HomeIOManager(folder=str(settings.assets_dir), contract=contract.fingerprint),
        },
        executor=executor(settings),
    )


register_generated_source()
defs = build(Settings.from_environ(os.environ))

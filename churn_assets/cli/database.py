"""`churn database ...`: the PostgreSQL database of CHURN_DATABASE_URL."""

from __future__ import annotations

from typing import Annotated

import typer

from churn_assets.cli.terminal.console import HomeOption, print_json, say, settings_of
from churn_assets.errors import SettingsError
from churn_assets.settings import DATABASE_URL

database_app = typer.Typer(help="The PostgreSQL database of a home.", no_args_is_help=True)


@database_app.callback()
def database() -> None:
    """The PostgreSQL database of a home."""


@database_app.command("copy", epilog="Example: [bold]churn database copy[/bold]")
def database_copy(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False, home: HomeOption = None
) -> None:
    """Copy ledger, alerts and MLflow's records from the files of a home to the database of CHURN_DATABASE_URL.

    Again it changes nothing, or takes what was written to the files since; what the database got otherwise is never
    replaced. Stop everything but the service first, and start it with CHURN_DATABASE_URL afterwards.
    """
    from churn_assets.alerting.alerts import AlertStore
    from churn_assets.alerting.destinations import AlertSettings
    from churn_assets.mlflow_registry.moving import copy_records
    from churn_assets.promotion.ledger import Ledger
    from churn_assets.storage.moving import copy_store
    from churn_assets.storage.store import Database

    settings = settings_of(home)
    if not settings.database_url:
        raise SettingsError(f"{DATABASE_URL} is not set, expected the database to copy to; set it")
    place = Database(settings.database_url)
    stores = (
        (Ledger(settings.ledger_path), Ledger(place)),
        (AlertStore(AlertSettings(settings.home)), AlertStore(AlertSettings(settings.home), place)),
    )
    copies = [copy_store(source, target) for source, target in stores]
    copies.append(copy_records(settings))
    if as_json:
        print_json([vars(copy) for copy in copies])
        return
    for copy in copies:
        rows = ", ".join(f"{count:,} {table}" for table, count in copy.rows.items() if count)
        say(f"{copy.store}: {copy.outcome}" + (f": {rows} (SHA-256 {copy.sha256[:16]})" if rows else ""))

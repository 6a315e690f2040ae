"""The `churn` command. Each command calls the same functions as the assets do."""

from __future__ import annotations

from typing import Annotated

import typer

from churn_assets.cli import home, models, promotion
from churn_assets.cli.alerts import alerts_app
from churn_assets.cli.database import database_app
from churn_assets.cli.events import events_app
from churn_assets.cli.keys import keys_app
from churn_assets.cli.log import contacts_app, feedback_app, log_app
from churn_assets.cli.release import release_app
from churn_assets.cli.run import command as run
from churn_assets.cli.run.interrupt import raise_on_interrupt
from churn_assets.cli.tables import contract, data, generate
from churn_assets.cli.terminal.console import plain_errors
from churn_assets.synthetic import register_generated_source

register_generated_source()

app = typer.Typer(
    help="Which customers are about to leave, how sure that is, and whom to call.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for module in (run, contract, data, generate, home, models, promotion):
    app.add_typer(module.app)
app.add_typer(contract.contract_app, name="contract")
app.add_typer(promotion.holdout_app, name="holdout")
app.add_typer(promotion.window_app, name="window")
app.add_typer(data.data_app, name="data")
app.add_typer(log_app, name="log")
app.add_typer(contacts_app, name="contacts")
app.add_typer(feedback_app, name="feedback")
app.add_typer(alerts_app, name="alerts")
app.add_typer(events_app, name="events")
app.add_typer(keys_app, name="keys")
app.add_typer(database_app, name="database")
app.add_typer(release_app, name="release")


def run_app() -> None:
    """Run the command line; a deliberate error is one line and exit code 2."""
    with plain_errors():
        app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"churn-assets {version('churn-assets')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    raise_on_interrupt()

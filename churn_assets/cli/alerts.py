"""`churn alerts`: open and closed alerts of a home, and a test of the destinations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from churn_assets.cli.terminal.console import FAILURE, HomeOption, err, out, print_json, say, settings_of
from churn_assets.settings import Settings

if TYPE_CHECKING:
    from churn_assets.alerting.alerts import Entry

alerts_app = typer.Typer(
    help="What is wrong in this home, and whether the destinations received it.",
    invoke_without_command=True,
    epilog="Example: [bold]churn alerts --json | jq '.[].title'[/bold]",
)


@alerts_app.callback()
def alerts(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Closed ones as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """List the open alerts of this home, newest first."""
    settings = settings_of(home)
    if context.invoked_subcommand is not None:
        return
    from churn_assets.alerting.alerts import all_alerts, open_alerts
    from churn_assets.alerting.destinations import AlertSettings
    from churn_assets.cli.terminal.render import show_alerts

    alert_settings = AlertSettings.from_environ(os.environ, settings.home)
    entries = all_alerts(alert_settings) if every else open_alerts(alert_settings)
    if as_json:
        print_json([entry.to_json() for entry in entries])
        return
    show_alerts(entries)
    say(alert_settings.summary)


@alerts_app.command("test", epilog="Example: [bold]churn alerts test[/bold]")
def alerts_test(home: HomeOption = None) -> None:
    """Send a test message to every destination; exit with 1 if one does not receive it."""
    settings = settings_of(home)
    from churn_assets.alerting.alerts import send_test
    from churn_assets.alerting.destinations import AlertSettings

    alert_settings = AlertSettings.from_environ(os.environ, settings.home)
    if not alert_settings.destinations:
        say(alert_settings.summary)
        return
    failed = False
    for name, failure in send_test(alert_settings).items():
        failed |= failure is not None
        say(f"{name}: {failure or 'taken'}", err if failure else out)
    if failed:
        raise typer.Exit(FAILURE)


def read_open_alerts(settings: Settings) -> list[Entry] | None:
    """The open alerts, for a command that shows more than them; None (and a message) if they cannot be read."""
    from churn_assets.alerting.alerts import open_alerts
    from churn_assets.alerting.destinations import AlertSettings
    from churn_assets.errors import AlertsUnreadable

    try:
        return open_alerts(AlertSettings(settings.home, database_url=settings.database_url))
    except AlertsUnreadable as error:
        say(str(error), err)
        return None

"""`churn feedback ...`: tell the platform what became of customers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from churn_assets.cli.console import HomeOption, out, settings_of

feedback_app = typer.Typer(help="Tell what became of customers.", no_args_is_help=True)


@feedback_app.callback()
def feedback() -> None:
    """Tell what became of customers."""


@feedback_app.command("import", epilog="Example: [bold]churn feedback import outcomes.csv[/bold]")
def feedback_import(
    file: Annotated[
        Path,
        typer.Argument(help="csv or parquet: prediction_id or customer_id, churned, observed_at, maybe contacted."),
    ],
    home: HomeOption = None,
) -> None:
    """Append a file of outcomes to the log: all rows or none, and none twice."""
    import datetime as dt

    from churn_assets.prediction_log.feedback import import_file

    done = import_file(settings_of(home), file, dt.datetime.now(dt.UTC))
    said = f"{done.added:,} reports are in the log"
    said += f"; {done.known:,} were there before" if done.known else ""
    said += f"; {done.repeated:,} rows of the file repeat others" if done.repeated else ""
    out.print(f"{said}. `churn log ingest` or the running sensor takes them from there.", soft_wrap=True)

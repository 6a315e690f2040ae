"""`churn run`: from the customer table to the chosen model and the call list."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from churn_assets.cli.console import (
    FAILURE,
    INTERRUPTED,
    USER_ERROR,
    ContractOption,
    HomeOption,
    err,
    print_error,
    say,
    settings_of,
)
from churn_assets.cli.run.progress import run_progress

app = typer.Typer()


@app.command(epilog="Example: [bold]churn run --source data/raw/customers.xlsx[/bold]")
def run(
    source: Annotated[
        str | None,
        typer.Option(help="Customer table: xlsx, csv, json, parquet, duckdb://file?table=name. Default: CHURN_SOURCE."),
    ] = None,
    contract: ContractOption = None,
    home: HomeOption = None,
    select: Annotated[
        list[str] | None, typer.Option("--select", help="Only this asset; may be given several times.")
    ] = None,
    tune: Annotated[
        int, typer.Option(min=0, help="Tune every candidate until its study holds this many trials; resumable.")
    ] = 0,
) -> None:
    """Materialise the training graph: from the customer table to the chosen model and the call list."""
    settings = settings_of(home, contract, source)
    from churn_assets.cli.render import show_run
    from churn_assets.definitions import build
    from churn_assets.defs.run import lock_home, prepare_home, run_graph, tuning_config

    defs, begun = build(settings), time.time()
    prepare_home(settings)
    with lock_home(settings.home), _own_stderr() as stderr, run_progress(stderr) as progress:
        outcome = run_graph(defs, progress, select, tuning_config(tune, select))
    if outcome.success:
        show_run(settings)
        return
    for message in outcome.errors:
        print_error(message)
    for message in outcome.failures:
        print_error(message, "failed")
    hint = f"The champion and the call list are as they were. Look closer: `churn ui`, run {outcome.run_id}."
    say("stopped. " * outcome.interrupted + hint, err)
    reports = [settings.reports_dir / "model_report.html", *settings.reports_dir.glob("*/model_report.html")]
    made = [path for path in reports if path.is_file() and path.stat().st_mtime >= begun]
    for report in made[:1]:
        say(f"The report of this run was made before it stopped: {report}")
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(USER_ERROR if outcome.errors and not outcome.failures else FAILURE)


@contextmanager
def _own_stderr() -> Iterator[Console]:
    """A console on standard error as it is now.

    While a step runs, Dagster redirects the descriptor to the step's log file and copies from there by another
    process, which is stopped with the step: the last lines would not always arrive.
    """
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as file:
        yield Console(file=file, highlight=False)

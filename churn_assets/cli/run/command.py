"""`churn run`: from the customer table to the chosen model and the call list."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from churn_assets.cli.run.interrupt import exit_on_interrupt, run_in_child
from churn_assets.cli.run.progress import run_progress
from churn_assets.cli.terminal.console import (
    FAILURE,
    INTERRUPTED,
    USER_ERROR,
    ContractOption,
    HomeOption,
    err,
    plain_errors,
    print_error,
    say,
    settings_of,
)
from churn_assets.errors import SettingsError
from churn_assets.settings import Settings

if TYPE_CHECKING:
    from churn_assets.defs.run import PreparedRun

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
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from finished steps of the last run, if its inputs are the same.")
    ] = False,
) -> None:
    """Materialise the training graph: from the customer table to the chosen model and the call list."""
    exit_on_interrupt()  # until there is something to clean up
    settings = settings_of(home, contract, source)
    if resume and select:
        raise SettingsError("--resume and --select are given together, expected one; leave one out")
    from churn_assets.definitions import build
    from churn_assets.defs.run import lock_home, prepare_command, prepare_home
    from churn_assets.defs.runs.cancel import canceling

    defs = build(settings)
    prepare_home(settings)
    with lock_home(settings.home):
        prepared = prepare_command(defs, settings, select, tune, resume)
        if prepared.message:
            say(prepared.message, err)
        stopping = partial(canceling, prepared.run_id, settings.mlflow_uri)
        ended = run_in_child(partial(_work, prepared, settings), stopping)
    if ended.stopped_by is None:
        raise typer.Exit(ended.code if ended.code >= 0 else FAILURE)
    if err.is_terminal:
        err.show_cursor()
        err.print()
    _say_how_to_go_on(bool(select))
    raise typer.Exit(128 + ended.stopped_by)


def _work(prepared: PreparedRun, settings: Settings) -> int:
    """Execute the run and show its result; the exit code."""
    from churn_assets.cli.terminal.render import show_run
    from churn_assets.defs.run import execute
    from churn_assets.promotion.pointer import POINTER
    from churn_assets.promotion.status import read_asset

    with plain_errors(), _own_stderr() as stderr, run_progress(stderr) as progress:
        outcome = execute(prepared, progress)
    if outcome.success:
        show_run(settings)
        return 0
    if outcome.interrupted:
        return INTERRUPTED
    for message in outcome.errors:
        print_error(message)
    for message in outcome.failures:
        print_error(message, "failed")
    has_champion = (settings.home / POINTER).exists()
    state = "The champion and the call list are as they were" if has_champion else "There is no champion yet"
    say(f"{state}. Look closer: `churn ui`, run {outcome.run_id}.", err)
    made = (
        read_asset(settings, "model_report", dict) if "model_report" in outcome.finished | prepared.finished else None
    )
    if made is not None:
        say(f"The report of this run was made before it stopped: {made['files']['model_report.html']}")
    return USER_ERROR if outcome.errors and not outcome.failures else FAILURE


def _say_how_to_go_on(selected: bool) -> None:
    """After a signal: the command that does the rest."""
    arguments = [text for text in sys.argv[1:] if text != "--resume"] or ["run"]
    again = shlex.join(["churn", *arguments, *(() if selected else ("--resume",))])
    with contextlib.suppress(OSError):  # the terminal may be gone
        say(f"stopped; finished steps are kept. Go on: {again}", err)


@contextmanager
def _own_stderr() -> Iterator[Console]:
    """A console on standard error as it is now.

    While a step runs, Dagster redirects the descriptor to the step's log file and copies from there by another
    process, which is stopped with the step: the last lines would not always arrive.
    """
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as file:
        yield Console(file=file, highlight=False)

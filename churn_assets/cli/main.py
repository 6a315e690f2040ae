"""The `churn` command. Each command calls the same plain functions as the assets do."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from churn_assets.cli.alerts import alerts_app, open_or_told
from churn_assets.cli.console import FAILURE, MISTAKE, STOPPED, ContractOption, HomeOption, err, out, plain, settings_of
from churn_assets.cli.contract import contract_app
from churn_assets.cli.feedback import feedback_app
from churn_assets.cli.generate import EXAMPLE as GENERATE_EXAMPLE
from churn_assets.cli.generate import generate
from churn_assets.cli.init import EXAMPLE as INIT_EXAMPLE
from churn_assets.cli.init import init
from churn_assets.cli.log import log_app
from churn_assets.cli.promotion import add_release_commands
from churn_assets.errors import ChurnError
from churn_assets.settings import project_file
from churn_assets.synthetic import register_generated_source

register_generated_source()

app = typer.Typer(
    help="Who is about to leave, how sure that is, and whom to call.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(contract_app, name="contract")
app.add_typer(log_app, name="log")
app.add_typer(feedback_app, name="feedback")
app.add_typer(alerts_app, name="alerts")
app.command(epilog=GENERATE_EXAMPLE)(generate)
app.command(epilog=INIT_EXAMPLE)(init)
add_release_commands(app)


def main() -> None:
    """Run the command line; a deliberate error is one line and exit code 2."""
    try:
        app()
    except ChurnError as error:
        _tell_mistake(str(error))
        sys.exit(MISTAKE)


def _tell_mistake(words: str) -> None:
    err.print(f"[red]error:[/red] {plain(words)}", soft_wrap=True)


@app.command(epilog="Example: [bold]churn run --source data/raw/customers.xlsx[/bold]")
def run(
    source: Annotated[
        str | None,
        typer.Option(help="Customer table: xlsx, csv, parquet or duckdb://file?table=name. Default: CHURN_SOURCE."),
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
    from churn_assets.cli.progress import Progress
    from churn_assets.cli.render import summarise
    from churn_assets.definitions import build
    from churn_assets.defs.run import alone_in, prepare_home, run_graph, tuning

    defs, begun = build(settings), time.time()
    prepare_home(settings)
    with alone_in(settings.home), _past_dagster() as console, Progress(console) as progress:
        outcome = run_graph(defs, progress.tell, select, tuning(tune, select))
    if outcome.success:
        summarise(settings, out)
        return
    for line in outcome.mistakes:
        _tell_mistake(line)
    for line in outcome.failures:
        err.print(f"[red]failed:[/red] {plain(line)}", soft_wrap=True)
    said = f"The champion and the call list are as they were. Look closer: `churn ui`, run {outcome.run_id}."
    err.print("stopped. " * outcome.interrupted + said, soft_wrap=True)
    report = settings.reports_dir / "model_report.html"
    if report.is_file() and report.stat().st_mtime >= begun:
        out.print(plain(f"The report of this run was made before it stopped: {report}"), soft_wrap=True)
    if outcome.interrupted:
        raise typer.Exit(STOPPED)
    raise typer.Exit(MISTAKE if outcome.mistakes and not outcome.failures else FAILURE)


@app.command(epilog="Example: [bold]churn score customers.csv -o scores.parquet --as-of 2026-11-01[/bold]")
def score(
    file: Annotated[str, typer.Argument(help="Customers: xlsx, csv, parquet or duckdb://file?table=name. No label.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: .parquet or .csv.")] = Path(
        "scores.parquet"
    ),
    as_of: Annotated[
        str | None, typer.Option(help="The day the table was true, such as 2026-11-01. Default: as the contract says.")
    ] = None,
    reasons: Annotated[bool, typer.Option("--reasons", help="Say in the call list why each is on it.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Put each prediction into the prediction log as well.")] = False,
    home: HomeOption = None,
) -> None:
    """Score a file with the champion: the call list of its customers, in bounded memory."""
    settings = settings_of(home)
    from churn_assets.cli.progress import score_with_progress

    if not score_with_progress(settings, file, output, as_of, reasons, out, err, log):
        _tell_mistake(f"no row of {file} could be scored; the rejected rows above say why")
        raise typer.Exit(MISTAKE)


@app.command(epilog="Example: [bold]churn audit --source customers.csv --contract contracts/mine.toml[/bold]")
def audit(
    source: Annotated[
        str | None, typer.Option(help="Customer table with its label. Default: CHURN_SOURCE, else as `churn run`.")
    ] = None,
    contract: ContractOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """How honest a model's number on this table can be, and which columns must be vouched for.

    Ends with 1 if a column over the contract's limits is not attested: registration would refuse.
    """
    settings = settings_of(None, contract, source)
    from churn_assets.cli.progress import audit_with_progress
    from churn_assets.cli.render import show_audit

    found = audit_with_progress(settings, err)
    if as_json:
        import json

        typer.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        show_audit(found, out)
    if found.unattested:
        raise typer.Exit(FAILURE)


@app.command(epilog="Example: [bold]churn status --json | jq .metrics.test_pr_auc[/bold]")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False, home: HomeOption = None
) -> None:
    """What this home holds: the champion, its figures, open alerts, where things lie."""
    settings = settings_of(home)
    from churn_assets.cli.render import show_alerts, show_status
    from churn_assets.promotion.service import PromotionService
    from churn_assets.promotion.status import read_status

    PromotionService.of(settings).recover()
    found, alerts = read_status(settings), open_or_told(settings)
    if as_json:
        import json

        told = None if alerts is None else [alert.to_json() for alert in alerts]
        typer.echo(json.dumps({**found.to_json(), "alerts": told}, indent=2))
    else:
        show_status(found, out)
        if alerts is not None:
            show_alerts(alerts, out)


@app.command(epilog="Example: [bold]churn budget 5000[/bold]")
def budget(
    amount: Annotated[float, typer.Argument(help="What may be spent on offers, in the contract's currency.")],
    beyond_capacity: Annotated[bool, typer.Option(help="Leave the contract's capacity out.")] = False,
    home: HomeOption = None,
) -> None:
    """What a budget buys: how many of the call list to contact, and what that is expected to bring."""
    settings = settings_of(home)
    from churn_assets.cli.render import show_budget

    show_budget(settings, amount, not beyond_capacity, out)


@app.command(epilog="Example: [bold]churn ui --port 3001[/bold]")
def ui(
    port: Annotated[int, typer.Option(help="Port of the web page.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    contract: ContractOption = None,
    home: HomeOption = None,
) -> None:
    """Dagster's UI on the runs, assets, schedules and sensors of this home."""
    settings = settings_of(home, contract)
    from churn_assets.defs.run import prepare_home

    prepare_home(settings)
    os.environ.setdefault("CHURN_EXECUTOR", "forkserver")
    out.print(f"Dagster's UI on {settings.home}: http://{host}:{port} (ready in about 20 s, stop with ctrl-c)")
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(project_file(settings.root, "workspace.yaml"))]
    os.execv(sys.executable, [*command, "-h", host, "-p", str(port)])


@app.command(epilog="Example: [bold]churn serve --port 3001 --workers 2[/bold]")
def serve(
    port: Annotated[int | None, typer.Option(help="Port. Default: CHURN_PORT, else 3000.")] = None,
    host: Annotated[str | None, typer.Option(help="Address. Default: CHURN_HOST, else every one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. Default: CHURN_WORKERS, else 1.")] = None,
    home: HomeOption = None,
) -> None:
    """Answer requests with the champion of this home, in BentoML."""
    settings = settings_of(home)
    for name, value in (("CHURN_PORT", port), ("CHURN_HOST", host), ("CHURN_WORKERS", workers)):
        if value is not None:
            os.environ[name] = str(value)
    from churn_assets.settings import ServingSettings

    found = ServingSettings.from_environ(os.environ)
    settings.bento_home.mkdir(parents=True, exist_ok=True)
    os.environ.update({**settings.library_environ(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")})
    out.print(f"http://localhost:{found.port} answers in some five seconds (stop with ctrl-c)")
    service = "churn_assets.serving.service:ChurnService"
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", service])


@contextmanager
def _past_dagster() -> Iterator[Console]:
    """A console on standard error as it is now.

    While a step runs Dagster turns the descriptor itself to the step's log file and copies from there by
    another process, which is stopped with the step: what was written last would not always arrive.
    """
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as file:
        yield Console(file=file, highlight=False)


if __name__ == "__main__":
    main()

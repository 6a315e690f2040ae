"""`churn audit | score | budget`: audit a table, and use the champion."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.spinner import Spinner

from churn_assets.cli import console
from churn_assets.cli.console import ContractOption, HomeOption, err, print_error, say, settings_of

app = typer.Typer()


@app.command(epilog="Example: [bold]churn audit --source customers.csv --contract contracts/mine.toml[/bold]")
def audit(
    source: Annotated[
        str | None, typer.Option(help="Customer table with its label. Default: CHURN_SOURCE, else as `churn run`.")
    ] = None,
    contract: ContractOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """How far a model's figure on this table can be trusted, and which columns must be attested.

    Ends with 1 if a column over the contract's limits is not attested: registration would refuse the model.
    """
    settings = settings_of(None, contract, source)
    from churn_assets.cli.render import show_audit
    from churn_assets.contract.edit import remedy
    from churn_assets.contract.load import load_contract
    from churn_assets.data.readers.read import resolve_source
    from churn_assets.leakage.audit import audit_source

    loaded = load_contract(settings.contract_path)
    table = resolve_source(settings, loaded)
    with Live(Spinner("dots", f"auditing {table.description}"), console=err, transient=True):
        result = audit_source(loaded, table.source, table.description)
    if as_json:
        import msgspec

        console.print_json(msgspec.to_builtins(result))
    else:
        show_audit(result)
    for name in dict.fromkeys(finding.column for finding in result.unattested):
        say(f"registration refuses a model with '{name}' until somebody attests it: {remedy(name, loaded)}", err)
    if result.unattested:
        raise typer.Exit(console.FAILURE)


@app.command(epilog="Example: [bold]churn score customers.csv -o scores.parquet --as-of 2026-11-01[/bold]")
def score(
    file: Annotated[str, typer.Argument(help="Customers: a table of any kind that `run` reads. No label.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: .parquet or .csv.")] = Path(
        "scores.parquet"
    ),
    as_of: Annotated[
        str | None, typer.Option(help="The day the table describes, such as 2026-11-01. Default: as the contract says.")
    ] = None,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Add to the call list why each customer is on it.")
    ] = False,
    log: Annotated[bool, typer.Option("--log", help="Write each prediction to the prediction log as well.")] = False,
    home: HomeOption = None,
) -> None:
    """Score a file with the champion: the call list of its customers, in bounded memory."""
    settings = settings_of(home)
    from churn_assets.prediction_log.segment import Segment
    from churn_assets.promotion.pointer import read_refusal, require_champion
    from churn_assets.scoring.batch import BatchLog, score_file
    from churn_assets.scoring.bundle import load_bundle

    champion = require_champion(settings.home)
    if refusal := read_refusal(settings.home):
        say(f"The champion scores; the newest model was not registered: {refusal}", err)
    scorer = load_bundle(champion.path(settings.home))
    logged = BatchLog(scorer, Segment(settings.predlog_dir)) if log else None
    with console.counter("rows") as count, closing(logged) if logged else nullcontext():
        summary = score_file(scorer, file, output, as_of=as_of, reasons=reasons, progress=count, each=logged)
    say(str(summary))
    if logged is not None:
        say(f"logged: {logged.rows:,} predictions in {settings.predlog_dir}")
    if not summary.rows_scored:
        print_error(f"no row of {file} could be scored; the rejected rows above say why")
        raise typer.Exit(console.USER_ERROR)


@app.command(epilog="Example: [bold]churn budget 5000[/bold]")
def budget(
    amount: Annotated[float, typer.Argument(help="What may be spent on offers, in the contract's currency.")],
    beyond_capacity: Annotated[bool, typer.Option(help="Leave the contract's capacity out.")] = False,
    home: HomeOption = None,
) -> None:
    """What a budget buys: how many of the call list to contact, and what that is expected to bring."""
    settings = settings_of(home)
    from churn_assets.cli.render import show_budget

    show_budget(settings, amount, not beyond_capacity)

"""`churn audit | score | monitor | budget`: audit a table, and use the champion."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.spinner import Spinner

from churn_assets.cli.terminal import console
from churn_assets.cli.terminal.console import ContractOption, HomeOption, err, print_error, say, settings_of
from churn_assets.errors import SettingsError

if TYPE_CHECKING:
    from churn_assets.contract.model import Contract
    from churn_assets.leakage.audit import Audit
    from churn_assets.settings import Settings

app = typer.Typer()


@app.command(epilog="Example: [bold]churn audit --source customers.csv --contract contracts/mine.toml[/bold]")
def audit(
    source: Annotated[
        str | None,
        typer.Option(help="Customer table with its label. Default: CHURN_SOURCE, else the last one of the home."),
    ] = None,
    contract: ContractOption = None,
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """How far a model's figure on this table can be trusted, and which columns must be attested.

    Ends with 1 if a column over the contract's limits is not attested: the model would do without it.
    """
    settings = settings_of(home, contract, source)
    from churn_assets.cli.terminal.render import show_audit
    from churn_assets.contract.edit import remedy
    from churn_assets.contract.load import load_contract

    loaded = load_contract(settings.contract_path)
    with Live(Spinner("dots", "auditing"), console=err, transient=True):
        result = _audit(settings, loaded)
    if as_json:
        import msgspec

        console.print_json(msgspec.to_builtins(result))
    else:
        show_audit(result)
    rule = "leaves" if loaded.audit.accused == "exclude" else "registers no model with"
    out = " out" * (rule == "leaves")
    for name in dict.fromkeys(finding.column for finding in result.unattested):
        say(f"`churn run` {rule} '{name}'{out} until somebody attests it: {remedy(name, loaded)}", err)
    if result.unattested:
        raise typer.Exit(console.FAILURE)


def _audit(settings: Settings, contract: Contract) -> Audit:
    """The audit of the table that the settings name, else of the one that the home validated last."""
    from churn_assets.data.readers.read import resolve_source
    from churn_assets.leakage.audit import audit_source, audit_table

    stored = [settings.assets_dir / f"{name}.parquet" for name in ("validated_customers", "splits")]
    if settings.source is None and all(path.is_file() for path in stored):
        import pyarrow.parquet as pq

        customers, splits = map(pq.read_table, stored)
        if customers.schema.metadata[b"churn_contract"].decode() == contract.fingerprint:
            return audit_table(contract, customers, splits)
    table = resolve_source(settings, contract)
    if table.generated and settings.source is None:
        raise SettingsError(
            f"{settings.home} has no customer table of contract '{contract.name}' yet, and neither has data/raw/; "
            "expected one to audit; name it: churn audit --source FILE"
        )
    return audit_source(contract, table.source, table.description)


@app.command(epilog="Example: [bold]churn score customers.csv --calls calls.xlsx --as-of 2026-11-01[/bold]")
def score(
    file: Annotated[str, typer.Argument(help="Customers: a table of any kind that `run` reads; it needs no label.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Every customer with a score: .parquet or .csv. A name that ends in 'calls' is --calls. "
            "Default: scores.parquet, or none with --calls.",
        ),
    ] = None,
    calls: Annotated[
        Path | None,
        typer.Option(help="The call list for people, with notes and reasons: .xlsx, or .csv with a .notes.txt."),
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="The day the table describes, such as 2026-11-01. Default: as the contract says.")
    ] = None,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Add to the call list why each customer is on it.")
    ] = False,
    log: Annotated[bool, typer.Option("--log", help="Write each prediction to the prediction log as well.")] = False,
    contract: Annotated[
        Path | None,
        typer.Option(
            help="Whose \\[value] is used. Default: CHURN_CONTRACT if it is the model's, else the model's own."
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Score a file with the champion, and list whom to call, in bounded memory.

    Customers whom the file marks as churned are scored, and are on no list.
    """
    settings = settings_of(home, contract)
    from churn_assets.prediction_log.segment import Segment
    from churn_assets.promotion.pointer import read_refusal, require_champion
    from churn_assets.scoring.batch import SEGMENT_BYTES, BatchLog, score_file
    from churn_assets.scoring.bundle import contract_in_use, describe_value_in_use, load_bundle

    if output is not None and calls is None and output.stem.lower().endswith(("calls", "call_list")):
        output, calls = None, output  # a file of this name is what it is called
    elif output is None and calls is None:
        output = Path("scores.parquet")
    champion = require_champion(settings.home)
    bundle = champion.path(settings.home)
    if refusal := read_refusal(settings.home):
        say(f"The champion scores; the newest model was not registered: {refusal}", err)
    used = contract_in_use(bundle, settings.contract_path, is_named=contract is not None)
    scorer = load_bundle(bundle, used)
    if scorer.no_signal:
        say("The champion is no better than random: nobody is on the call list.", err)
    logged = (
        BatchLog(scorer, Segment(settings.segments_dir, SEGMENT_BYTES, instance=settings.instance)) if log else None
    )
    with console.counter("rows") as count, closing(logged) if logged else nullcontext():
        summary = score_file(
            scorer, file, output, as_of=as_of, reasons=reasons, progress=count, each=logged, sheet=calls
        )
    say(str(summary))
    if summary.money.contacts and (value := describe_value_in_use(bundle, used)):
        say(value)
    if logged is not None:
        say(f"logged: {logged.rows:,} predictions in {settings.predlog_dir}")
    if not summary.rows_scored:
        print_error(f"no row of {file} could be scored; the rejected rows above say why")
        raise typer.Exit(console.USER_ERROR)


@app.command(epilog="Example: [bold]churn monitor customers.csv && churn score customers.csv[/bold]")
def monitor(
    file: Annotated[str, typer.Argument(help="Customers: a table of any kind that `score` reads; it needs no label.")],
    as_of: Annotated[
        str | None, typer.Option(help="The day the table describes, such as 2026-11-01. Default: as the contract says.")
    ] = None,
    contract: ContractOption = None,
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Judge a file against the champion's training data: is it whole, and do its customers differ?

    Ends with 0 if nothing stands out, 1 if the data is broken, 3 if the customers differ, and 4 if there are too few
    customers or no reference. Nothing is written.
    """
    settings = settings_of(home, contract)
    from churn_assets.cli.terminal.monitored import show_table_report
    from churn_assets.contract.load import load_contract
    from churn_assets.monitoring.profile import read_monitored_model
    from churn_assets.monitoring.table_report import EXIT_CODES, report_table
    from churn_assets.promotion.pointer import require_champion
    from churn_assets.scoring.bundle import load_bundle

    bundle = require_champion(settings.home).path(settings.home)
    model = read_monitored_model(settings, load_contract(settings.contract_path))
    assert model is not None  # there is a champion
    with console.counter("rows") as count:
        report = report_table(load_bundle(bundle, model.contract), model, file, as_of, progress=count)
    if as_json:
        import msgspec

        console.print_json(msgspec.to_builtins(report))
    else:
        show_table_report(report)
    if code := EXIT_CODES[report.verdict]:
        raise typer.Exit(code)


@app.command(epilog="Example: [bold]churn budget 5000[/bold]")
def budget(
    amount: Annotated[float, typer.Argument(help="What may be spent on offers, in the contract's currency.")],
    beyond_capacity: Annotated[bool, typer.Option(help="Leave the contract's capacity out.")] = False,
    home: HomeOption = None,
) -> None:
    """What a budget buys: how many of the call list to contact, and what that is expected to bring."""
    settings = settings_of(home)
    from churn_assets.cli.terminal.render import show_budget
    from churn_assets.promotion.status import require_own_list

    require_own_list(settings)
    show_budget(settings, amount, not beyond_capacity)

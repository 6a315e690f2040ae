"""`churn log ...`: read, check and ingest the prediction log; `churn feedback ...`: add outcomes to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from churn_assets.cli.terminal.console import FAILURE, ContractOption, HomeOption, err, escape, out, say, settings_of
from churn_assets.errors import printable

_MOST_ROWS = 1000  # of a table in the terminal

log_app = typer.Typer(help="Read the prediction log, also while it is written.", no_args_is_help=True)


contacts_app = typer.Typer(help="Record who was contacted, and who was left alone.", no_args_is_help=True)
feedback_app = typer.Typer(help="Report what customers did.", no_args_is_help=True)


@log_app.command("tail", epilog="Example: [bold]churn log tail -n 5 | jq .score[/bold]")
def log_tail(
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many.")] = 10, home: HomeOption = None
) -> None:
    """Print the newest rows, one JSON object a line."""
    from churn_assets.prediction_log.warehouse.read import tail

    settings = settings_of(home)
    for line in tail(settings.predlog_dir, rows, settings.archive_dir):
        typer.echo(printable(line.json.decode(errors="replace")))


@log_app.command("count", epilog="Example: [bold]churn log count[/bold]")
def log_count(home: HomeOption = None) -> None:
    """Count segments, bytes and rows by kind."""
    from churn_assets.prediction_log.warehouse.read import count

    settings = settings_of(home)
    folder, counts = settings.predlog_dir, count(settings.predlog_dir, settings.archive_dir)
    kinds = ", ".join(f"{rows:,} {kind}" for kind, rows in sorted(counts.kinds.items())) or "no rows"
    damage = f"; {counts.torn} torn tails, {counts.broken} broken lines" if counts.torn or counts.broken else ""
    say(f"{folder}: {counts.segments:,} segments, {counts.size:,} bytes, {kinds}{damage}")


@log_app.command("verify", epilog="Example: [bold]churn log verify --ids acknowledged.txt[/bold]")
def log_verify(
    ids: Annotated[Path, typer.Option("--ids", help="A file of prediction or feedback ids, one a line.")],
    home: HomeOption = None,
) -> None:
    """Exit with 0 only if each id is in the log exactly once; print those that are not."""
    from churn_assets.prediction_log.warehouse.read import read_ids, verify

    settings = settings_of(home)
    verdict = verify(settings.predlog_dir, read_ids(ids), settings.archive_dir)
    for problem, names in (("missing", verdict.missing), ("more than once", verdict.repeated)):
        for name in names:
            typer.echo(f"{problem}: {printable(name)}")
    (out if verdict.kept else err).print(str(verdict), soft_wrap=True)
    if not verdict.kept:
        raise typer.Exit(FAILURE)


@log_app.command("ingest", epilog="Example: [bold]churn log ingest[/bold]")
def log_ingest(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Delete the warehouse and rebuild it from segments and archives.")
    ] = False,
    contract: ContractOption = None,
    home: HomeOption = None,
) -> None:
    """Ingest the log into the warehouse, as the job `ingest_log` does, and publish a copy for `churn log query`."""
    settings = settings_of(home, contract)
    from churn_assets.contract.load import load_contract
    from churn_assets.monitoring.windows import record_open_window
    from churn_assets.prediction_log.warehouse.ingest import ingest

    loaded = load_contract(settings.contract_path)
    done = ingest(settings, loaded, rebuild=rebuild)
    if not settings.warehouse_dir.exists():
        say(f"{settings.predlog_dir}: no log yet; `churn serve` answers and logs")
        return
    for message in done.migrations:
        say(message)
    summary = (
        f"{done.segments:,} segments: {done.predictions:,} predictions, {done.feedback:,} feedback, "
        f"{done.quarantined:,} lines in quarantine, {done.torn:,} torn tails"
    )
    summary += f"; {done.archived:,} archives made" if done.archived else ""
    summary += f"; {done.missing:,} segments are neither in the log nor archived" if done.missing else ""
    say(summary)
    record_open_window(settings, loaded)


@log_app.command("query", epilog='Example: [bold]churn log query "select count(*) from predictions"[/bold]')
def log_query(
    sql: Annotated[str, typer.Argument(help="A query in DuckDB's SQL.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a header.")] = False,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="Allow files, extensions and settings in SQL.")] = False,
    home: HomeOption = None,
) -> None:
    """Query the published copy of the warehouse: predictions, feedback, rejections, quarantine, segments."""
    from churn_assets.prediction_log.warehouse.read import ask

    batches = ask(settings_of(home), sql, unsafe)
    if as_json:
        import json

        for names, rows in batches:
            for row in rows:
                typer.echo(json.dumps(dict(zip(names, row, strict=True)), default=str))
    elif as_csv:
        import csv
        import sys

        from churn_assets.storage.csv_cells import neutral_text

        writer = csv.writer(sys.stdout, lineterminator="\n")
        for number, (names, rows) in enumerate(batches):
            writer.writerows([names] if number == 0 else [])
            writer.writerows(map(neutral_text, row) for row in rows)
    else:
        _print_table(*next(batches))


def _print_table(names: list[str], rows: list[tuple[object, ...]]) -> None:
    from rich.table import Table

    table = Table(*map(escape, names))
    for row in rows[:_MOST_ROWS]:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    out.print(table)
    if len(rows) > _MOST_ROWS:
        out.print(f"the first {_MOST_ROWS:,} rows; --csv and --json print all of them")


@feedback_app.callback()
def feedback() -> None:
    """Report what customers did."""


@feedback_app.command("import", epilog="Example: [bold]churn feedback import outcomes.csv[/bold]")
def feedback_import(
    file: Annotated[
        Path,
        typer.Argument(
            help="csv, xlsx, json or parquet: prediction_id or customer_id, churned, observed_at, contacted (optional)."
        ),
    ],
    source: Annotated[str, typer.Option(help="Whose outcomes these are, to withdraw them by.")] = "import",
    home: HomeOption = None,
) -> None:
    """Append a file of outcomes to the log: all rows or none, and none twice."""
    import datetime as dt

    from churn_assets.data.outcomes import import_file

    done = import_file(settings_of(home), file, dt.datetime.now(dt.UTC), source)
    summary = f"{done.added:,} reports are in the log"
    summary += f"; {done.known:,} were there before" if done.known else ""
    summary += f"; {done.repeated:,} rows of the file repeat others" if done.repeated else ""
    if done.conflicting:
        summary += f"; {done.conflicting:,} customers of the file are churned in one row and kept in another"
    if done.unmatched:
        summary += f"; {done.unmatched:,} of them fit no prediction of the log (the first: '{done.example}')"
    say(f"{summary}. `churn log ingest` or the running sensor takes them from there.")


@contacts_app.callback()
def contacts() -> None:
    """Record who was contacted, and who was left alone."""


@contacts_app.command("import", epilog="Example: [bold]churn contacts import calls_of_may.csv[/bold]")
def contacts_import(
    file: Annotated[
        Path,
        typer.Argument(
            help="csv, xlsx, json or parquet: customer_id, event (contacted, offered, saved or control), contacted_at, "
            "who."
        ),
    ],
    home: HomeOption = None,
) -> None:
    """Append a file of contacts to the log: all rows or none, and none twice. Outcomes of these customers are set apart
    wherever a model is judged or trained."""
    import datetime as dt

    from churn_assets.data.outcomes import import_contact_file

    done = import_contact_file(settings_of(home), file, dt.datetime.now(dt.UTC))
    summary = f"{done.added:,} contacts are in the log"
    summary += f"; {done.known:,} were there before" if done.known else ""
    summary += f"; {done.repeated:,} rows of the file repeat others" if done.repeated else ""
    say(f"{summary}. `churn log ingest` or the running sensor takes them from there.")


Source = Annotated[str, typer.Argument(help="Id of an API key, `anonymous`, or the name given to an import.")]
By = Annotated[str, typer.Option("--by", help="Who decides.")]
Why = Annotated[str, typer.Option("--why", help="Why; it is kept in the log.")]
Since = Annotated[str | None, typer.Option(help="Only what was received from this day on, as 2026-01-20.")]
Until = Annotated[str | None, typer.Option(help="Only what was received before this day. Default: until now.")]


@feedback_app.command(
    "withdraw", epilog="Example: [bold]churn feedback withdraw 4f2a9c81d3e6 --by Ana --why leaked[/bold]"
)
def feedback_withdraw(
    source: Source, by: By, why: Why, since: Since = None, until: Until = None, home: HomeOption = None
) -> None:
    """Count what a source has reported no longer, in monitoring, the gate and training. The rows stay in the log."""
    _decide(source, False, since, until, by, why, home)


@feedback_app.command("accept", epilog="Example: [bold]churn feedback accept anonymous --by Ana --why checked[/bold]")
def feedback_accept(
    source: Source,
    by: By,
    why: Why,
    since: Since = None,
    until: Annotated[str | None, typer.Option(help="As for withdraw. Default: for good, without a check.")] = None,
    home: HomeOption = None,
) -> None:
    """Count what a source reported (again), and from now on without a check of its plausibility."""
    _decide(source, True, since, until, by, why, home)


def _decide(
    source: str, accepted: bool, since: str | None, until: str | None, by: str, why: str, home: Path | None
) -> None:
    import datetime as dt

    from churn_assets.access.audit import record_call
    from churn_assets.prediction_log.sources import FOR_EVER, decide, parse_period, record

    settings, now = settings_of(home), dt.datetime.now(dt.UTC)
    period = parse_period(since, until, FOR_EVER if accepted else now)
    decision = decide(source, accepted, period, by, why, now)
    facts = {"source": source, "by": by, "why": why, "since": decision.since_at, "until": decision.until_at}
    action = f"feedback {'accept' if accepted else 'withdraw'}"
    reports = record(settings, decision, lambda: record_call(settings.home, action, now, **facts))
    effect = "count" if accepted else "no longer count"
    say(f"{reports:,} reports of {source} {effect} from the next ingest on: `churn log ingest` or the running sensor.")

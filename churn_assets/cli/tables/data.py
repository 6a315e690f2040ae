"""`churn data ...`: versions of the tables that models were trained on; `churn reproduce`: train one again."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from churn_assets.cli.terminal.console import FAILURE, ContractOption, HomeOption, err, print_json, say, settings_of

app = typer.Typer()
data_app = typer.Typer(help="Versions of the tables that models were trained on.", no_args_is_help=True)

_TABLES = "A version, its first digits, or `raw`, `validated` or `splits` for the newest of that table."
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@data_app.command("log", epilog="Example: [bold]churn data log --table raw[/bold]")
def data_log(
    table: Annotated[str | None, typer.Option(help="Only this table: raw, validated or splits.")] = None,
    as_json: Json = False,
    home: HomeOption = None,
) -> None:
    """List every kept version, the newest first: when, rows, bytes that it added, source, and models that use it."""
    settings = settings_of(home)
    from churn_assets.data.versions.store import TableStore
    from churn_assets.promotion.champion import models_in_use
    from churn_assets.reproduction.record import read_records
    from churn_assets.reproduction.retention import users_of

    store = TableStore(settings.tables_dir)
    users, uses = users_of(read_records(settings.bundles_dir)), models_in_use(settings)
    entries: list[dict[str, Any]] = [
        {
            "version": manifest.version,
            "table": manifest.table,
            "kept_at": manifest.kept_at,
            "used_at": manifest.used_at,
            "rows": manifest.rows,
            "stored_bytes": manifest.stored_bytes,
            "source": manifest.source,
            "made_from": manifest.made_from,
            "models": {model: uses.get(model, "") for model in users.get(manifest.version, [])},
        }
        for manifest in reversed(store.versions().values())
        if table in (None, manifest.table)
    ]
    if as_json:
        print_json({"stored_bytes": store.stored_bytes(), "versions": entries})
        return
    if not entries:
        say(f"{settings.tables_dir}: no table is kept yet; `churn run` keeps them, unless CHURN_DATA_VERSIONS is 0")
        return
    for entry in entries:
        models = ", ".join(f"{model} ({use})" if use else model for model, use in entry["models"].items())
        say(
            f"{entry['version']}  {entry['table']:9}  {entry['used_at'][:16].replace('T', ' ')}  "
            f"{entry['rows']:>9,} rows  {entry['stored_bytes']:>11,} bytes added  {entry['source']}"
            + f"; model {models}"
            * bool(models)
        )
    say(f"{store.stored_bytes():,} bytes in {settings.tables_dir}")


@data_app.command("diff", epilog="Example: [bold]churn data diff 4f2a9c81 raw[/bold]")
def data_diff(
    before: Annotated[str, typer.Argument(help=_TABLES)],
    after: Annotated[str, typer.Argument(help="The same, to compare it with.")],
    key: Annotated[str | None, typer.Option(help="Column of the ids. Default: that of the contract then.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most ids and cells that are listed.")] = 20,
    as_json: Json = False,
    home: HomeOption = None,
) -> None:
    """Compare two versions: rows added, removed and changed, by id and column. Counts are complete, lists are cut."""
    settings = settings_of(home)
    from churn_assets.data.versions.diff import describe_diff, diff_tables
    from churn_assets.data.versions.store import TableStore

    store = TableStore(settings.tables_dir)
    first, second = store.find(before), store.find(after)
    diff = diff_tables(store.read(first), store.read(second), key or second.key, limit)
    if as_json:
        print_json({"before": first.version, "after": second.version, **asdict(diff)})
        return
    for line in describe_diff(diff):
        say(line)


@data_app.command("checkout", epilog="Example: [bold]churn data checkout raw --output customers.parquet --dvc[/bold]")
def data_checkout(
    version: Annotated[str, typer.Argument(help=_TABLES)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File: .parquet or .csv. Default: <table>-<version>.parquet.")
    ] = None,
    dvc: Annotated[
        bool, typer.Option("--dvc", help="Write <output>.dvc as well, by which DVC knows the file.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Write a kept table as a file again, exactly as it was."""
    settings = settings_of(home)
    from churn_assets.data.versions.checkout import write_dvc_file, write_table_file
    from churn_assets.data.versions.store import TableStore

    store = TableStore(settings.tables_dir)
    manifest = store.find(version)
    path = output or Path(f"{manifest.table}-{manifest.version}.parquet")
    written = write_table_file(store.read(manifest), path)
    say(f"{path}: version {manifest.version} of the table '{manifest.table}', {manifest.rows:,} rows")
    if not written.exact:
        say("A CSV has texts alone, and empty ones are missing ones; for cells and types as they were: .parquet", err)
    if dvc:
        say(f"{write_dvc_file(path)}: for DVC; `dvc commit` takes the file into its cache")


@data_app.command("prune", epilog="Example: [bold]churn data prune --dry-run[/bold]")
def data_prune(
    keep: Annotated[
        int | None, typer.Option(min=0, help="Newest versions of each table that stay. Default: CHURN_DATA_VERSIONS.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    home: HomeOption = None,
) -> None:
    """Remove old versions, never one that a model in use was trained on; each training does the same."""
    settings = settings_of(home)
    from churn_assets.reproduction.retention import apply_removal, plan_removal

    removal = plan_removal(settings, keep) if dry_run else apply_removal(settings, keep)
    for manifest in removal.versions:
        say(f"{manifest.version}  {manifest.table}, {manifest.rows:,} rows, last kept {manifest.used_at[:16]}")
    would = "would be " * dry_run
    say(f"{len(removal.versions):,} versions {would}removed, {'about ' * dry_run}{removal.freed_bytes:,} bytes freed")


@data_app.command("erase", epilog="Example: [bold]churn data erase 7UP6MS --by Ana --why 'asked for it'[/bold]")
def data_erase(
    customer: Annotated[str, typer.Argument(help="Id of a customer, as the table has it.")],
    by: Annotated[str, typer.Option("--by", help="Who decides.")],
    why: Annotated[str, typer.Option("--why", help="Why; it is kept in the audit log.")],
    home: HomeOption = None,
) -> None:
    """Remove every version that has a row of a customer, and the customer's rows with them, also where a model in use
    was trained on it.

    Such models answer as before, and cannot be trained again.
    """
    settings = settings_of(home)
    from churn_assets.access.audit import record_call
    from churn_assets.data.versions.store import TableStore
    from churn_assets.reproduction.retention import plan_erasure

    versions = plan_erasure(settings, customer)
    if not versions:
        say(f"no kept table has customer '{customer}'")
        return
    names = [manifest.version for manifest in versions]
    record_call(settings.home, "data erase", datetime.now(UTC), versions=names, by=by, why=why)
    freed = TableStore(settings.tables_dir).remove(names, every_row=True)
    say(f"{len(names):,} versions removed, {freed:,} bytes freed: {', '.join(names)}")
    say(
        "Other places have customers, too: the source, the assets and reports of the home, a bundle's reference "
        "sample, the frozen holdout, the prediction log"
    )


@app.command(epilog="Example: [bold]churn reproduce 3f9d2c7b5a1e4d60[/bold]")
def reproduce(
    version: Annotated[str, typer.Argument(help="Version of a model, or its first digits.")],
    as_json: Json = False,
    contract: ContractOption = None,
    home: HomeOption = None,
) -> None:
    """Train a model again from the tables that were kept, and compare the bundles.

    Ends with 0 if the bundle is the same, else with 1, and says what is otherwise: code, libraries, processor, data.
    Nothing of the home is changed.
    """
    settings = settings_of(home, contract)
    from tempfile import TemporaryDirectory

    from rich.live import Live
    from rich.spinner import Spinner

    from churn_assets.reproduction.record import read_record
    from churn_assets.reproduction.retrain import reproduce as train_again

    record = read_record(settings.bundles_dir, version)
    with TemporaryDirectory(prefix="churn-reproduce-") as folder, Live(console=err, transient=True) as live:
        result = train_again(settings, record, Path(folder), lambda step: live.update(Spinner("dots", step)))
    if as_json:
        print_json({**asdict(result), "same": result.same})
    else:
        kept = f"of {record.trained_at[:16].replace('T', ' ')} UTC, validated table {record.tables.validated}"
        outcome = "the same bundle" if result.same else f"another bundle, {result.version}"
        say(f"{record.version} ({kept}): {outcome}")
        if result.files:
            say(f"files that differ: {', '.join(result.files)}")
        for clause in result.differences:
            say(f"differs: {clause}")
        if not (result.same or result.differences):
            say("code, libraries, processor and tables are those of the training: it does not repeat itself here")
    if not result.same:
        raise typer.Exit(FAILURE)

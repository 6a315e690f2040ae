"""`churn contract check | show | init`, and `churn attest | exclude`, which change one column of a contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from churn_assets.cli.terminal.console import ContractOption, contract_file, counter, out, say, settings_of

app = typer.Typer()
contract_app = typer.Typer(
    help="Check, show or draft a contract: the file that describes a customer table.", no_args_is_help=True
)


@contract_app.command(epilog="Example: [bold]churn contract check contracts/telecom.toml[/bold]")
def check(path: Annotated[Path | None, typer.Argument(help="Contract file. Default: CHURN_CONTRACT.")] = None) -> None:
    """Check whether a contract can be used; if not, print where it is wrong and what is allowed."""
    from churn_assets.contract.load import load_contract

    contract = load_contract(contract_file(path) if path else settings_of().contract_path)
    made = sum(feature.model for feature in contract.features)
    out.print(
        f"{contract.where} is fine: '{contract.name}', {len(contract.columns)} columns, "
        f"{len(contract.feature_columns) + made} features, {len(contract.rules)} rules, "
        f"fingerprint {contract.fingerprint[:12]}",
        soft_wrap=True,
    )
    if contract.left_out:
        say(f"left out of the model, because they read excluded columns: {', '.join(contract.left_out)}")


@contract_app.command(epilog="Example: [bold]churn contract show contracts/store.toml[/bold]")
def show(path: Annotated[Path | None, typer.Argument(help="Contract file. Default: CHURN_CONTRACT.")] = None) -> None:
    """Show a contract as tables: columns, features, rules, what a customer is worth."""
    from churn_assets.cli.terminal.render import show_contract
    from churn_assets.contract.load import load_contract

    show_contract(load_contract(contract_file(path) if path else settings_of().contract_path))


@contract_app.command(
    epilog="Example: [bold]churn contract init customers.csv --label Churn --churned Yes -o contracts/mine.toml[/bold]"
)
def init(
    file: Annotated[str, typer.Argument(help="Any table: xlsx, csv, json, parquet or duckdb://file?table=name.")],
    label: Annotated[str, typer.Option(help="The column that says who churned.")],
    churned: Annotated[str, typer.Option(help="Its value for a customer who churned.")],
    key: Annotated[str | None, typer.Option("--id", help="The column of the customer id. Default: detected.")] = None,
    cohort: Annotated[
        str | None, typer.Option(help="When a customer joined: a date, or a tenure. Default: detected.")
    ] = None,
    sheet: Annotated[str | None, typer.Option(help="Sheet of a workbook. Default: the one with the label.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of a text, such as cp1251. Default: detected.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to.")] = Path("contracts/mine.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing contract.")] = False,
) -> None:
    """Draft a contract from any table: enough to train and score, with questions where the table is unclear."""
    from churn_assets.cli.terminal.render import show_draft
    from churn_assets.drafting.draft import DraftOptions, draft_contract, refuse_existing, write_draft
    from churn_assets.drafting.time import slug

    refuse_existing(output, force)  # before a long table is read
    wish = DraftOptions(label, churned, key, cohort, sheet, encoding, slug(output.stem))
    with counter("rows read") as count:
        draft = draft_contract(file, wish, progress=count)
    write_draft(draft, output, force)
    show_draft(draft, file, output)


@app.command(epilog="Example: [bold]churn attest esent --by 'Ann Lee' --why 'counted on the day of scoring'[/bold]")
def attest(
    column: Annotated[str, typer.Argument(help="A column of the contract.")],
    by: Annotated[str, typer.Option(help="Who attests it.")],
    why: Annotated[str, typer.Option(help="Why it is known before churn.")],
    contract: ContractOption = None,
) -> None:
    """Write into the contract who attests that a column is known before churn: a model with it may be registered."""
    from datetime import date

    from churn_assets.contract.edit import attest

    before, after = attest(settings_of(contract=contract).contract_path, column, by, why, date.today())
    if after is before:
        say(f"{after.where}: {by} attests column '{column}' for this reason already; nothing changed")
        return
    again = ", and it is no longer excluded" * before.column(column).excluded
    say(f"{after.where}: {by} attests column '{column}'{again}. Next: churn run")


@app.command(epilog="Example: [bold]churn exclude esent --contract contracts/mine.toml[/bold]")
def exclude(
    column: Annotated[str, typer.Argument(help="A column of the contract.")], contract: ContractOption = None
) -> None:
    """Keep a column, and the features that read it, out of the model; it stays in the contract and in the log."""
    from churn_assets.contract.edit import exclude

    before, after = exclude(settings_of(contract=contract).contract_path, column)
    if after is before:
        say(f"{after.where}: column '{column}' is excluded already; nothing changed")
        return
    features = [name for name in after.left_out if name not in before.left_out]
    also = f", and with it the features that read it: {', '.join(features)}" if features else ""
    say(f"{after.where}: column '{column}' is kept out of the model{also}. Next: churn run")

"""`churn generate`: customers from a causal process, with drift, faults, leaks and offers on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from churn_assets.cli.terminal.console import contract_file, counter, say, settings_of
from churn_assets.settings import project_file

_EXAMPLE = (
    "Example: [bold]churn generate --contract telecom --rows 100000 --seed 1 -o customers.parquet "
    "--drift 'monthly_charges*1.25@0.5'[/bold]"
)


app = typer.Typer()


@app.command(epilog=_EXAMPLE)
def generate(
    contract: Annotated[str, typer.Option(help="store, telecom (any name in contracts/), or a contract file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: .parquet, .csv or .xlsx.")],
    rows: Annotated[int, typer.Option(help="How many customers.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = 7,
    drift: Annotated[
        list[str] | None, typer.Option(help="COLUMN*1.25@0.5, COLUMN+10@5000, COLUMN=VALUE:0.3@50%.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="zero:COLUMN, unit:COLUMN*100, swap:COLUMN,COLUMN, missing:COLUMN:0.3, duplicate:0.05; @WHEN."
        ),
    ] = None,
    leak: Annotated[
        list[str] | None,
        typer.Option(help="label_echo:0.8 and others: a column that knows the outcome; its contract goes beside -o."),
    ] = None,
    offer: Annotated[float | None, typer.Option(help="Share of customers who get an offer; needs --truth.")] = None,
    effect: Annotated[float, typer.Option(help="Share of those who would leave that the offer keeps.")] = 0.3,
    targeting: Annotated[float, typer.Option(help="0: offers at random; 1: all who would leave get one.")] = 0.0,
    truth: Annotated[Path | None, typer.Option(help="Where both outcomes of each customer go.")] = None,
    label_delay: Annotated[int | None, typer.Option(help="Days until a label is known; needs --labels.")] = None,
    over_days: Annotated[int, typer.Option(help="Days over which the rows arrive.")] = 30,
    labels: Annotated[Path | None, typer.Option(help="Where the labels go, with the day each is known.")] = None,
) -> None:
    """Generate customers from a causal churn process: for trials, never for figures about real customers."""
    from churn_assets.contract.load import load_contract
    from churn_assets.synthetic.leaks import read_leaks
    from churn_assets.synthetic.scenario import read_scenario
    from churn_assets.synthetic.write import write_customers

    named = project_file(settings_of().root, f"contracts/{contract}.toml")
    path = named if named.is_file() and not Path(contract).is_file() else contract_file(Path(contract))
    loaded = load_contract(path)
    scenario = read_scenario(
        loaded, drift or (), fault or (), (offer, effect, targeting), label_delay_days=label_delay, over_days=over_days
    )
    planted = read_leaks(leak or ())
    with counter("rows generated") as count:
        written = write_customers(
            loaded, rows, seed, output, scenario, truth=truth, labels=labels, leaks=planted, progress=count
        )
    files = ", ".join(map(str, written.files))
    say(f"{written.rows:,} generated customers, not real ones, seed {seed}: {files}")

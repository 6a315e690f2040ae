"""`churn log ...`: look into the prediction log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from churn_assets.terminal import FAILURE, HomeOption, err, out, settings_of

log_app = typer.Typer(help="Look into the prediction log, also while it is written.", no_args_is_help=True)


@log_app.command("tail", epilog="Example: [bold]churn log tail -n 5 | jq .score[/bold]")
def log_tail(
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many.")] = 10, home: HomeOption = None
) -> None:
    """Print the newest rows, one JSON object a line."""
    import json

    from churn_assets.predlog.read import tail

    for row in tail(settings_of(home).predlog_dir, rows):
        typer.echo(json.dumps(row))


@log_app.command("count", epilog="Example: [bold]churn log count[/bold]")
def log_count(home: HomeOption = None) -> None:
    """Count segments, bytes and rows by kind."""
    from churn_assets.predlog.read import count

    folder = settings_of(home).predlog_dir
    found = count(folder)
    kinds = ", ".join(f"{rows:,} {kind}" for kind, rows in sorted(found.kinds.items())) or "no rows"
    damage = f"; {found.torn} torn tails, {found.broken} broken lines" if found.torn or found.broken else ""
    out.print(f"{folder}: {found.segments:,} segments, {found.size:,} bytes, {kinds}{damage}", soft_wrap=True)


@log_app.command("verify", epilog="Example: [bold]churn log verify --ids acknowledged.txt[/bold]")
def log_verify(
    ids: Annotated[Path, typer.Option("--ids", help="A file of prediction or feedback ids, one a line.")],
    home: HomeOption = None,
) -> None:
    """Exit with 0 only if each id is in the log exactly once; say which are not."""
    from churn_assets.predlog.read import read_ids, verify

    verdict = verify(settings_of(home).predlog_dir, read_ids(ids))
    for what, names in (("missing", verdict.missing), ("more than once", verdict.repeated)):
        for name in names:
            typer.echo(f"{what}: {name}")
    (out if verdict.kept else err).print(str(verdict), soft_wrap=True)
    if not verdict.kept:
        raise typer.Exit(FAILURE)

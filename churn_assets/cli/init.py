"""`churn init`: a project folder to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from churn_assets.cli.console import out, plain
from churn_assets.starter import write_project

EXAMPLE = "Example: [bold]churn init churn-project[/bold]"


def init(folder: Annotated[Path, typer.Argument(help="Where to; made if it is missing.")]) -> None:
    """Write a project to start from: contracts, the files of Dagster, a Makefile, a folder for customer tables."""
    files = write_project(folder)
    out.print(
        plain(
            f"{folder}: {len(files)} files. Next:\n"
            f"  cd {folder}\n"
            "  churn run      from a customer table in data/raw/, or generated customers, to the call list\n"
            "  churn serve    answer requests with the model, on port 3000\n"
            "  churn ui       the graph in Dagster"
        ),
        soft_wrap=True,
    )

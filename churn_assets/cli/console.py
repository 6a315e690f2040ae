"""What every command shares: the two streams, the options that several have, and settings from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from churn_assets.settings import Settings, project_file

MISTAKE, FAILURE, STOPPED = 2, 1, 130

out, err = Console(highlight=False), Console(stderr=True, highlight=False)

HomeOption = Annotated[Path | None, typer.Option("--home", help="Where all state is kept. Default: CHURN_HOME.")]
ContractOption = Annotated[Path | None, typer.Option("--contract", help="Contract file. Default: CHURN_CONTRACT.")]


def settings_of(home: Path | None = None, contract: Path | None = None, source: str | None = None) -> Settings:
    """Options win over the environment; they are put there, so that every process of this run agrees."""
    given = {"CHURN_HOME": home, "CHURN_CONTRACT": None if contract is None else contract_file(contract)}
    # A path on the command line is relative to where it was typed, not to the project.
    os.environ.update({name: str(path.absolute()) for name, path in given.items() if path is not None})
    if source is not None:
        os.environ["CHURN_SOURCE"] = source if "://" in source else str(Path(source).absolute())
    return Settings.from_environ(os.environ)


def contract_file(path: Path) -> Path:
    """A contract as it was typed: relative to the working directory, else one that the package carries."""
    packaged = project_file(Path.cwd(), str(path))
    return packaged if packaged.exists() and not path.exists() else path  # messages name the path as it was typed


def plain(text: str) -> str:
    """`text` with nothing in it read as markup."""
    return escape(text)

"""What commands share: the two streams, exit codes, common options, settings, and progress displays."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import markup
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from churn_assets.errors import ChurnError, printable
from churn_assets.settings import Settings, project_file

# Exit codes: a wrong input or setting, anything else that failed, ctrl-c.
USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130

# What a system says of a place that a user named, or of its disk; anything else is a bug of this package.
_REFUSALS = {
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EISDIR", "ENOTDIR", "ENAMETOOLONG", "ELOOP", "EFBIG")
    if hasattr(errno, name)
}

out, err = Console(highlight=False), Console(stderr=True, highlight=False)

HomeOption = Annotated[Path | None, typer.Option("--home", help="Where all state is kept. Default: CHURN_HOME.")]
ContractOption = Annotated[Path | None, typer.Option("--contract", help="Contract file. Default: CHURN_CONTRACT.")]


def settings_of(home: Path | None = None, contract: Path | None = None, source: str | None = None) -> Settings:
    """The settings of a command: its options replace variables of the environment, for child processes too."""
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


def escape(text: str) -> str:
    """Text of others for rich: neither markup nor control characters, line breaks as they are."""
    return markup.escape("\n".join(map(printable, text.split("\n"))))


def say(text: str, to: Console = out) -> None:
    """Print text as it is: no markup, and no line broken at the width of the terminal."""
    to.print(escape(text), soft_wrap=True)


def print_json(value: object) -> None:
    """Print a value as JSON, for scripts. ValueError for NaN, which JSON lacks."""
    import json

    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def print_error(message: str, kind: str = "error") -> None:
    """One line on standard error, marked as an error of the user or of another `kind`."""
    err.print(f"[red]{kind}:[/red] {escape(message)}", soft_wrap=True)


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the process with one line and exit code 2 for a deliberate error, or where the system refuses a file."""
    try:
        yield
    except ChurnError as error:
        print_error(str(error))
        sys.exit(USER_ERROR)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print_error(
            f"{place}{error.strerror}, expected a place that can be read and written and that has room; correct its "
            "permissions, free the disk, or name another place"
        )
        sys.exit(USER_ERROR)


@contextmanager
def counter(unit: str) -> Iterator[Callable[..., None]]:
    """A spinner with a number: `with counter("rows read") as count: count(1000)`, or `count(1000, 5000)` of a total."""
    with Live(Spinner("dots", unit), console=err, transient=True) as live:

        def show(count: int, total: int | None = None) -> None:
            of = f" of {total:,}" if total else ""
            live.update(Spinner("dots", f"{count:,}{of} {unit}"))

        yield show

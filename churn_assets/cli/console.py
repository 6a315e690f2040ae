"""What commands share: the two streams, exit codes, common options, settings, and progress displays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner

from churn_assets.settings import Settings, project_file

if TYPE_CHECKING:
    from types import TracebackType

    from churn_assets.defs.run import StepEvent

# Exit codes: a wrong input or setting, anything else that failed, ctrl-c.
USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130

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


def print_error(message: str) -> None:
    """One line on standard error, marked as an error of the user."""
    err.print(f"[red]error:[/red] {plain(message)}", soft_wrap=True)


def plain(text: str) -> str:
    """`text` without rich markup."""
    return escape(text)


class RunProgress:
    """One line for each asset when it is made, with a spinner for the one at work."""

    def __init__(self, console: Console) -> None:
        self._live = Live(Spinner("dots", "loading the graph"), console=console, transient=True)
        self._started: dict[str, float] = {}

    def __enter__(self) -> RunProgress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, event: StepEvent) -> None:
        """Show an event of a step."""
        if event.kind == "started":
            self._started[event.step] = time.monotonic()
            self._live.update(Spinner("dots", event.step))
        elif event.kind == "logged":
            self._live.console.print(f"  [dim]{escape(event.message)}[/dim]", soft_wrap=True)
        else:
            mark = "[green]made[/green]  " if event.kind == "done" else "[red]failed[/red]"
            seconds = time.monotonic() - self._started.get(event.step, time.monotonic())
            self._live.console.print(f"{mark} {event.step} [dim]{seconds:.1f} s[/dim]")


class Counter:
    """A spinner with a number: `with Counter("rows read") as count: count(1000)`, or `count(1000, 5000)` of a total."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._live = Live(Spinner("dots", unit), console=err, transient=True)

    def __enter__(self) -> Callable[..., None]:
        self._live.start()
        return self._show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _show(self, count: int, total: int | None = None) -> None:
        of = f" of {total:,}" if total else ""
        self._live.update(Spinner("dots", f"{count:,}{of} {self._unit}"))

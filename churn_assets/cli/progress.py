"""What a person sees in a terminal: progress, summaries, tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner

from churn_assets.promotion.pointer import require_champion
from churn_assets.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType

    from churn_assets.leakage.audit import Audit


class Progress:
    """One line an asset as it is made, with a spinner for the one at work."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.started: dict[str, float] = {}
        self.live = Live(Spinner("dots", "loading the graph"), console=console, transient=True)

    def __enter__(self) -> Progress:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def tell(self, step: str, what: str, words: str) -> None:
        """Take news of a step: started, done, failed, or said something."""
        if what == "started":
            self.started[step] = time.monotonic()
            self.live.update(Spinner("dots", step))
        elif what == "said":
            self.live.console.print(f"  [dim]{escape(words)}[/dim]", soft_wrap=True)
        else:
            mark = "[green]made[/green]  " if what == "done" else "[red]failed[/red]"
            seconds = time.monotonic() - self.started.get(step, time.monotonic())
            self.live.console.print(f"{mark} {step} [dim]{seconds:.1f} s[/dim]")


class Counting:
    """A spinner with a number that grows: `with Counting(err, "rows read") as tell: ... tell(1000)`."""

    def __init__(self, console: Console, words: str) -> None:
        self.words = words
        self.live = Live(Spinner("dots", words), console=console, transient=True)

    def __enter__(self) -> Callable[[int], None]:
        self.live.start()
        return lambda count: self.live.update(Spinner("dots", f"{count:,} {self.words}"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()


def score_with_progress(
    settings: Settings,
    file: str,
    output: Path,
    as_of: str | None,
    reasons: bool,
    out: Console,
    err: Console,
    log: bool = False,
) -> int:
    """Score `file` with the champion, say what became of its rows, and return how many were scored."""
    from churn_assets.prediction_log.segment import Segment
    from churn_assets.scoring.batch.outputs import BatchLog
    from churn_assets.scoring.batch.score_file import score_file
    from churn_assets.scoring.bundle import load_bundle

    champion = require_champion(settings.home)
    scorer = load_bundle(champion.path(settings.home))
    logged = BatchLog(scorer, Segment(settings.predlog_dir)) if log else None
    with Progress(err) as progress:

        def tell(done: int, total: int | None) -> None:
            of = f" of {total:,}" if total else ""
            progress.live.update(Spinner("dots", f"{done:,}{of} rows"))

        try:
            summary = score_file(scorer, file, output, as_of=as_of, reasons=reasons, progress=tell, each=logged)
        finally:
            if logged is not None:
                logged.close()
    out.print(escape(str(summary)), soft_wrap=True)
    if logged is not None:
        out.print(f"logged: {logged.rows:,} predictions in {settings.predlog_dir}", soft_wrap=True)
    return summary.rows_scored


def audit_with_progress(settings: Settings, err: Console) -> Audit:
    """Audit the table that these settings name, with a spinner."""
    from churn_assets.contract.load import load_contract
    from churn_assets.data.readers.read import resolve_source
    from churn_assets.leakage.audit import audit_source

    contract = load_contract(settings.contract_path)
    source = resolve_source(settings, contract)
    with Live(Spinner("dots", f"auditing {source.description}"), console=err, transient=True):
        return audit_source(contract, source.source, source.description)

"""The progress of `churn run`: a numbered line for each step that is made, with an estimate of the rest.

In a terminal the step at work is the last line; in a file there are finished steps alone, and no control characters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from churn_assets.cli.terminal.console import escape

if TYPE_CHECKING:
    from churn_assets.defs.run import StepEvent
    from churn_assets.defs.runs.plan import RunPlan


class RunProgress:
    """Counts the steps of a run, and turns its events into lines. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._plan: RunPlan | None = None
        self._started: dict[str, float] = {}
        self._taken: dict[str, float] = {}

    def event(self, event: StepEvent) -> str | None:
        """The line about an event, in rich's markup; None if there is none."""
        if event.plan is not None:
            self._plan = event.plan
            return self._beginning(event.plan)
        match event.kind:
            case "started":
                self._started[event.step] = self._clock()
                return None
            case "logged":
                return f"  [dim]{escape(event.message)}[/dim]"
        self._taken[event.step] = self._clock() - self._started.get(event.step, self._clock())
        mark = "[green]made[/green]  " if event.kind == "done" else "[red]failed[/red]"
        rest = self.rest() if event.kind == "done" else ""
        return f"{self.number()} {mark} {event.step} [dim]{self._taken[event.step]:.1f} s{rest}[/dim]"

    def at_work(self, step: str) -> str:
        """The line about the step at work."""
        return f"{self.number(1)} {step}{self.rest()}"

    def number(self, ahead: int = 0) -> str:
        """How many steps are finished, and `ahead` more, of how many: "3 of 18"."""
        if self._plan is None:
            return ""
        steps = len(self._plan.steps)
        return f"{len(self._plan.finished) + len(self._taken) + ahead:>{len(str(steps))}} of {steps}"

    def rest(self) -> str:
        """An estimate of what is left, as the end of a line; '' when it is not known or nothing is left."""
        seconds = self._plan.remaining_s(self._taken) if self._plan is not None else None
        return f", about {describe_seconds(seconds)} left" if seconds else ""

    def _beginning(self, plan: RunPlan) -> str:
        steps = f"{len(plan.steps)} step" + "s" * (len(plan.steps) != 1)
        if plan.finished:
            steps += f", {len(plan.finished)} of them finished before"
        return f"[dim]{steps}{self.rest()}[/dim]"


def describe_seconds(seconds: float) -> str:
    """A time as people say it: seconds below 90, then minutes."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


@contextmanager
def run_progress(console: Console) -> Iterator[Callable[[StepEvent], None]]:
    """Show a run on `console` while the block runs; yields what shows an event."""
    progress = RunProgress()
    with Live(Spinner("dots", "loading the graph"), console=console, transient=True) as live:

        def show(event: StepEvent) -> None:
            line = progress.event(event)
            if line is not None:
                live.console.print(line, soft_wrap=True)
            if event.kind == "started":
                live.update(Spinner("dots", progress.at_work(event.step)))

        yield show

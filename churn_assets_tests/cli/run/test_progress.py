"""The lines of a run's progress: numbers, the estimate of the rest, and nothing but text outside a terminal."""

from __future__ import annotations

import io
import warnings

import pytest
from rich.console import Console
from rich.text import Text

from churn_assets.defs.run import StepEvent
from churn_assets.defs.runs.plan import RunPlan

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of click, in what typer imports
    from churn_assets.cli.run.progress import RunProgress, describe_seconds, run_progress

STEPS = ("read", "train", "report")
SECONDS = {"read": 2.0, "train": 60.0, "report": 8.0}


def play(plan: RunPlan, steps: dict[str, float]) -> list[str]:
    """The lines of a run whose steps take these seconds."""
    now = [0.0]
    progress = RunProgress(clock=lambda: now[0])
    lines = [progress.event(StepEvent("", "planned", plan=plan))]
    for step, seconds in steps.items():
        progress.event(StepEvent(step, "started"))
        now[0] += seconds
        lines.append(progress.event(StepEvent(step, "done")))
    return [Text.from_markup(line).plain for line in lines]


def test_steps_are_numbered_and_the_rest_follows_the_times_of_earlier_runs():
    assert play(RunPlan(STEPS, SECONDS, measured=True), {"read": 2.0, "train": 60.0, "report": 8.0}) == [
        "3 steps, about 70 s left",
        "1 of 3 made   read 2.0 s, about 68 s left",
        "2 of 3 made   train 60.0 s, about 8 s left",
        "3 of 3 made   report 8.0 s",
    ]


def test_a_slower_machine_corrects_the_rest():
    lines = play(RunPlan(STEPS, SECONDS, measured=True), {"read": 6.0})
    assert lines[1] == "1 of 3 made   read 6.0 s, about 3 min left"


def test_a_first_run_has_no_estimate_before_a_second_of_work():
    short = {"read": 0.5, "train": 60.0, "report": 8.0}
    lines = play(RunPlan(STEPS, short), {"read": 0.4, "train": 30.0})
    assert lines == ["3 steps", "1 of 3 made   read 0.4 s", "2 of 3 made   train 30.0 s, about 4 s left"]


def test_a_resumed_run_goes_on_counting():
    plan = RunPlan(STEPS, SECONDS, measured=True, finished=frozenset({"read"}))
    assert play(plan, {"train": 60.0}) == [
        "3 steps, 1 of them finished before, about 68 s left",
        "2 of 3 made   train 60.0 s, about 8 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (9.6, "10 s"), (89.0, "89 s"), (91.0, "2 min"), (3600.0, "60 min")]
)
def test_times_are_rounded_as_people_say_them(seconds, text):
    assert describe_seconds(seconds) == text


def test_a_file_gets_no_control_characters():
    file = io.StringIO()
    with run_progress(Console(file=file)) as show:
        show(StepEvent("", "planned", plan=RunPlan(STEPS, SECONDS, measured=True)))
        show(StepEvent("read", "started"))
        show(StepEvent("read", "logged", "3 rows [bold]\x1b[31m"))
        show(StepEvent("read", "done"))
    text = file.getvalue()
    assert "1 of 3 made   read" in text
    assert "[bold]\\u001b[31m" in text
    assert [character for character in text if character != "\n" and not character.isprintable()] == []

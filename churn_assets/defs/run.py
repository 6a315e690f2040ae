"""Run the graph from Python, in this process, on the Dagster instance of a home."""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from churn_assets import errors
from churn_assets.settings import Settings

# What the caller is told: an asset's name, and "started", "done", "failed" or "said" with words.
Tell = Callable[[str, str, str], None]

_KINDS = {"STEP_START": "started", "STEP_SUCCESS": "done", "STEP_FAILURE": "failed"}


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `mistakes` are lines for a user; `failures` are steps that broke for another reason."""

    success: bool
    run_id: str
    mistakes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def prepare_home(settings: Settings) -> None:
    """Point Dagster and BentoML at this home, quietly, and give its instance the project's dagster.yaml."""
    os.environ.update(settings.library_environ())
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    settings.bento_home.mkdir(parents=True, exist_ok=True)
    ours, theirs = settings.root / "dagster.yaml", settings.dagster_home / "dagster.yaml"
    if ours.is_file() and not (theirs.is_file() and theirs.read_bytes() == ours.read_bytes()):
        shutil.copyfile(ours, theirs)


def run_graph(
    defs: dg.Definitions, tell: Tell, selection: Sequence[str] | None = None, config: dict[str, Any] | None = None
) -> Outcome:
    """Materialise all of `defs`, or the assets named in `selection`; `config` is Dagster run config.

    The run is in the history of the home that `prepare_home` pointed to. Nothing is raised for a step
    that fails: look at the outcome.
    """
    told = dg.Definitions.merge(defs, dg.Definitions(loggers={"steps": _step_logger(tell)}))
    job = told.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in selection] if selection else None,
            run_config={**(config or {}), "loggers": {"steps": {}}},
        )
    mistakes = _failed_checks(result)
    failures = []
    for event in result.filter_events(lambda e: e.is_step_failure):
        found = _mistake(event.step_failure_data.error)
        if found is not None:
            mistakes.append(found)
        elif not mistakes:  # a failed blocking check fails its step too; its own words say more
            failures.append(f"{event.step_key}: {_words(event.step_failure_data.error)}")
    return Outcome(result.success, result.run_id, mistakes, failures)


def _step_logger(tell: Tell) -> dg.LoggerDefinition:
    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            event = getattr(record, "dagster_event", None)
            if event is None:
                if record.levelno >= logging.INFO:
                    step = getattr(record, "dagster_meta", {}).get("step_key") or ""
                    tell(step, "said", str(getattr(record, "dagster_meta", {}).get("orig_message", record.msg)))
            elif event.event_type_value in _KINDS:
                tell(event.step_key or "", _KINDS[event.event_type_value], "")

    def logger(_: dg.InitLoggerContext) -> logging.Logger:
        found = logging.Logger("churn.steps", logging.DEBUG)
        found.addHandler(Teller())
        return found

    return dg.LoggerDefinition(logger_fn=logger)


def _mistake(error: Any) -> str | None:
    """The message of a deliberate error somewhere in a chain of causes, or None."""
    deliberate = {cls.__name__ for cls in _family(errors.ChurnError)}
    while error is not None:
        if error.cls_name in deliberate:
            return _words(error)
        error = error.cause
    return None


def _family(cls: type[Exception]) -> list[type[Exception]]:
    return [cls, *(found for child in cls.__subclasses__() for found in _family(child))]


def _words(error: Any) -> str:
    while error.cause is not None:
        error = error.cause
    return str(error.message).strip().split(": ", 1)[-1]


def _failed_checks(result: dg.ExecuteInProcessResult) -> list[str]:
    return [
        f"{found.asset_key.to_user_string()}, check {found.check_name}: {found.description or 'failed'}"
        for found in result.get_asset_check_evaluations()
        if not found.passed and found.severity is dg.AssetCheckSeverity.ERROR
    ]

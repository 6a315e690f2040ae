"""Run the graph from Python, in this process, on the Dagster instance of a home."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from churn_assets import errors
from churn_assets.defs.policy import MONITORING
from churn_assets.settings import Settings, project_file
from churn_assets.storage.lock import file_lock
from churn_assets.training.candidate import NAMES

# What the caller is told: an asset's name, and "started", "done", "failed" or "said" with words.
Tell = Callable[[str, str, str], None]

_KINDS = {"STEP_START": "started", "STEP_SUCCESS": "done", "STEP_FAILURE": "failed"}


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `mistakes` are lines for a user; `failures` are what broke for another reason.

    `interrupted`: someone stopped it. A run without success has at least one line, or was interrupted.
    """

    success: bool
    run_id: str
    mistakes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False


def prepare_home(settings: Settings) -> None:
    """Point Dagster and BentoML at this home, quietly, and give its instance the project's dagster.yaml.

    Raises SettingsError for a home that cannot be written.
    """
    os.environ.update(settings.library_environ())
    ours, theirs = project_file(settings.root, "dagster.yaml"), settings.dagster_home / "dagster.yaml"
    try:
        settings.dagster_home.mkdir(parents=True, exist_ok=True)
        settings.bento_home.mkdir(parents=True, exist_ok=True)
        if ours.is_file() and not (theirs.is_file() and theirs.read_bytes() == ours.read_bytes()):
            shutil.copyfile(ours, theirs)
    except OSError as error:
        raise errors.SettingsError(
            f"CHURN_HOME is {settings.home}, which cannot be written ({error.strerror}); name a folder that can"
        ) from error


@contextmanager
def alone_in(home: Path) -> Iterator[None]:
    """Hold the home against a second run: each would read the tables that the other is writing.

    The system gives the lock back when the process ends, however it ends. Raises HomeBusy.
    """
    busy = errors.HomeBusy(
        f"another `churn run` is at work in {home}; wait until it has ended, or name another home: --home"
    )
    with file_lock(home / ".run.lock", busy=lambda _: busy):
        yield


def run_graph(
    defs: dg.Definitions, tell: Tell, selection: Sequence[str] | None = None, config: dict[str, Any] | None = None
) -> Outcome:
    """Materialise all of `defs` but its group "monitoring", or what `selection` names; `config` is run config.

    The run is in the history of the home that `prepare_home` pointed to. Nothing is raised for a step
    that fails: look at the outcome. Raises SettingsError for a selection that names no asset.
    """
    _known(defs, selection or ())
    told = dg.Definitions.merge(defs, dg.Definitions(loggers={"steps": _step_logger(tell)}))
    job = told.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in selection] if selection else _training(defs),
            run_config={**(config or {}), "loggers": {"steps": {}}},
        )
    return _outcome(result)


def _training(defs: dg.Definitions) -> list[dg.AssetKey]:
    specs = defs.resolve_all_asset_specs()
    return [spec.key for spec in specs if spec.group_name != MONITORING]


def _known(defs: dg.Definitions, selection: Sequence[str]) -> None:
    there = sorted(key.to_user_string() for key in defs.resolve_all_asset_keys())
    for name in selection:
        if name not in there:
            raise errors.SettingsError(f"there is no asset '{name}'; there are: {', '.join(there)}")


def _outcome(result: dg.ExecuteInProcessResult) -> Outcome:
    checks, mistakes = _failed_checks(result), []
    failures: list[str] = []
    interrupted = False
    for event in result.filter_events(lambda e: e.is_step_failure):
        found = _mistake(event.step_failure_data.error)
        if found is not None:
            mistakes.append(found)
        elif _is_interruption(event.step_failure_data.error):
            interrupted = True
        elif not checks:  # a failed blocking check fails its step too; its own words say more
            failures.append(f"{event.step_key}: {_words(event.step_failure_data.error)}")
    if not failures:
        mistakes = mistakes or checks  # what was raised says the same as its check, once is enough
    if not (result.success or mistakes or failures or interrupted):  # no step failed: a resource did, before any
        for event in result.filter_events(lambda e: e.is_failure):
            error = getattr(event.event_specific_data, "error", None)
            failures.append(_words(error) if error is not None else event.message or "the run failed")
    return Outcome(result.success, result.run_id, mistakes, failures, interrupted)


def tuning(trials: int, selection: Sequence[str] | None = None) -> dict[str, Any]:
    """Run config that tunes every candidate that is made, for `run_graph`; empty for no trials."""
    made = [f"{name}_candidate" for name in NAMES if not selection or f"{name}_candidate" in selection]
    return {"ops": {asset: {"config": {"trials": trials}} for asset in made}} if trials and made else {}


def _step_logger(tell: Tell) -> dg.LoggerDefinition:
    started: set[str] = set()

    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            event = getattr(record, "dagster_event", None)
            if event is None:
                step = getattr(record, "dagster_meta", {}).get("step_key") or ""
                # Of a step that never began, Dagster says at length why; the mistake before it says more.
                if record.levelno >= logging.INFO and (not step or step in started):
                    tell(step, "said", str(getattr(record, "dagster_meta", {}).get("orig_message", record.msg)))
            elif event.event_type_value in _KINDS:
                started.add(event.step_key or "")
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


def _is_interruption(error: Any) -> bool:
    return error.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt")


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

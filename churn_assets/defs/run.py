"""Run the graph from Python, in this process, on the Dagster instance of a home."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from churn_assets import errors
from churn_assets.defs.policy import MONITORING
from churn_assets.defs.runs.plan import RunPlan, plan_run
from churn_assets.settings import Settings, project_file
from churn_assets.storage.lock import file_lock
from churn_assets.training.candidate import NAMES

StepEventKind = Literal["planned", "started", "done", "failed", "logged"]
_EVENT_KINDS: dict[str, StepEventKind] = {"STEP_START": "started", "STEP_SUCCESS": "done", "STEP_FAILURE": "failed"}


@dataclass(frozen=True)
class StepEvent:
    """News of a run, for a progress display: first its `plan`, then of one step at a time.

    `message` is the text of what was logged, "" otherwise.
    """

    step: str
    kind: StepEventKind
    message: str = ""
    plan: RunPlan | None = None


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: a run without success has at least one error or failure, or was interrupted.

    `errors` are messages of deliberate errors (ChurnError, a failed check), for the user to act on; `failures` are
    messages of everything else that broke.
    """

    success: bool
    run_id: str
    errors: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False


def prepare_home(settings: Settings) -> None:
    """Point Dagster and BentoML at this home, without telemetry, and give its instance the project's dagster.yaml.

    Raises SettingsError for a home that cannot be written.
    """
    os.environ.update(settings.library_environ())
    source, copy = project_file(settings.root, "dagster.yaml"), settings.dagster_home / "dagster.yaml"
    try:
        settings.dagster_home.mkdir(parents=True, exist_ok=True)
        settings.bento_home.mkdir(parents=True, exist_ok=True)
        if source.is_file() and not (copy.is_file() and copy.read_bytes() == source.read_bytes()):
            shutil.copyfile(source, copy)
    except OSError as error:
        raise errors.SettingsError(
            f"CHURN_HOME is {settings.home}, which cannot be written ({error.strerror}); name a folder that can"
        ) from error


@contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """Keep a second run out of the home: each would read the tables that the other writes.

    The operating system releases the lock when the process ends, however it ends. Raises HomeBusy.
    """
    busy = errors.HomeBusy(
        f"another `churn run` is at work in {home}; wait until it has ended, or name another home: --home"
    )
    with file_lock(home / ".run.lock", busy=lambda _: busy):
        yield


def run_graph(
    defs: dg.Definitions,
    on_event: Callable[[StepEvent], None],
    selection: Sequence[str] | None = None,
    config: dict[str, Any] | None = None,
) -> RunOutcome:
    """Materialise all of `defs` but its group "monitoring", or the assets of `selection`; `config` is run config.

    The run is stored in the home that `prepare_home` pointed to. A step that fails raises nothing: it is in the
    outcome. Raises SettingsError for a selection that names no asset.
    """
    assets = _select(defs, selection)
    logged = dg.Definitions.merge(defs, dg.Definitions(loggers={"steps": _step_logger(on_event)}))
    job = logged.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.get() as instance:
        on_event(StepEvent("", "planned", plan=plan_run(job, assets, instance)))
        result = job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            asset_selection=assets,
            run_config={**(config or {}), "loggers": {"steps": {}}},
        )
    return _outcome(result)


def tuning_config(trials: int, selection: Sequence[str] | None = None) -> dict[str, Any]:
    """Run config for `run_graph` that tunes every candidate of the selection; empty for no trials."""
    candidates = [f"{name}_candidate" for name in NAMES if not selection or f"{name}_candidate" in selection]
    return {"ops": {asset: {"config": {"trials": trials}} for asset in candidates}} if trials and candidates else {}


def _select(defs: dg.Definitions, selection: Sequence[str] | None) -> list[dg.AssetKey]:
    if not selection:
        return [spec.key for spec in defs.resolve_all_asset_specs() if spec.group_name != MONITORING]
    names = sorted(key.to_user_string() for key in defs.resolve_all_asset_keys())
    for name in selection:
        if name not in names:
            raise errors.SettingsError(f"there is no asset '{name}'; expected one of: {', '.join(names)}")
    return [dg.AssetKey(name) for name in selection]


def _outcome(result: dg.ExecuteInProcessResult) -> RunOutcome:
    failed_checks = [
        f"{check.asset_key.to_user_string()}, check {check.check_name}: {check.description or 'failed'}"
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR
    ]
    messages: list[str] = []
    failures: list[str] = []
    interrupted = False
    for event in result.filter_events(lambda e: e.is_step_failure):
        error = event.step_failure_data.error
        message = _deliberate_message(error)
        if message is not None:
            messages.append(message)
        elif error is not None and error.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt"):
            interrupted = True
        elif not failed_checks:  # a failed blocking check fails its step too; the check's message says more
            failures.append(f"{event.step_key}: {_root_message(error)}")
    if not failures:
        messages = messages or failed_checks  # an error and its check have the same message: one is enough
    if not (result.success or messages or failures or interrupted):  # a resource failed before any step
        for event in result.filter_events(lambda e: e.is_failure):
            error = getattr(event.event_specific_data, "error", None)
            failures.append(_root_message(error) if error is not None else event.message or "the run failed")
    return RunOutcome(result.success, result.run_id, messages, failures, interrupted)


def _step_logger(on_event: Callable[[StepEvent], None]) -> dg.LoggerDefinition:
    started: set[str] = set()

    class StepHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            event = getattr(record, "dagster_event", None)
            if event is None:
                meta = getattr(record, "dagster_meta", {})
                step = meta.get("step_key") or ""
                # Dagster logs at length why a step never started; the error before it says more.
                if record.levelno >= logging.INFO and (not step or step in started):
                    on_event(StepEvent(step, "logged", str(meta.get("orig_message", record.msg))))
            elif event.event_type_value in _EVENT_KINDS:
                started.add(event.step_key or "")
                on_event(StepEvent(event.step_key or "", _EVENT_KINDS[event.event_type_value]))

    def make_logger(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("churn.steps", logging.DEBUG)
        logger.addHandler(StepHandler())
        return logger

    return dg.LoggerDefinition(logger_fn=make_logger)


def _deliberate_message(error: Any) -> str | None:
    """The message of a ChurnError somewhere in a chain of causes, or None."""
    deliberate = {cls.__name__ for cls in _subclasses(errors.ChurnError)}
    while error is not None:
        if error.cls_name in deliberate:
            return _root_message(error)
        error = error.cause
    return None


def _subclasses(cls: type[Exception]) -> list[type[Exception]]:
    return [cls, *(subclass for child in cls.__subclasses__() for subclass in _subclasses(child))]


def _root_message(error: Any) -> str:
    while error.cause is not None:
        error = error.cause
    return str(error.message).strip().split(": ", 1)[-1]

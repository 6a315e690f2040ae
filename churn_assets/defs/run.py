"""Run the graph from Python, in this process, on the Dagster instance of a home."""

import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from churn_assets import errors
from churn_assets.contract.load import load_contract
from churn_assets.defs.policy import MONITORING
from churn_assets.defs.runs.cancel import cancel_lost_runs
from churn_assets.defs.runs.plan import RunPlan, plan_run
from churn_assets.defs.runs.process import own_tags
from churn_assets.defs.runs.resume import COMMAND, RESUMES, RUN, RunInputs, resume_run
from churn_assets.settings import Settings, project_file
from churn_assets.storage.files import remove_leftovers
from churn_assets.storage.links import link_home
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
    finished: frozenset[str] = frozenset()  # steps


def prepare_home(settings: Settings) -> None:
    """Point Dagster and BentoML at this home, without telemetry, and give its instance the project's dagster.yaml.

    Raises SettingsError for a home that cannot be written.
    """
    os.environ.update(settings.library_environ())
    link_home(settings)
    source, copy = project_file(settings.root, "dagster.yaml"), settings.dagster_home / "dagster.yaml"
    try:
        settings.home.mkdir(parents=True, exist_ok=True)  # where a link to it may lead
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

    The operating system releases the lock when the process ends, however it ends. Temporary files of killed processes
    are removed. Raises HomeBusy.
    """
    busy = errors.HomeBusy(
        f"another `churn run` is at work in {home}; wait until it has ended, or name another home: --home"
    )
    with file_lock(home / ".run.lock", busy=lambda _: busy):
        remove_leftovers(home)
        yield


@dataclass(frozen=True)
class PreparedRun:
    """A run that has not begun: its job, the assets to make, and what is known of it."""

    run_id: str
    job: dg.JobDefinition
    assets: list[dg.AssetKey]
    tags: dict[str, str]
    config: dict[str, Any]
    finished: frozenset[str] = frozenset()
    message: str = ""  # for people, when it was asked to resume


def prepare_run(
    defs: dg.Definitions,
    selection: Sequence[str] | None = None,
    config: dict[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> PreparedRun:
    """A run of all of `defs` but its group "monitoring", or of the assets of `selection`; `config` is run config.

    Raises SettingsError for a selection that names no asset.
    """
    job = defs.resolve_implicit_global_asset_job_def()
    return PreparedRun(str(uuid.uuid4()), job, _select(defs, selection), dict(tags or {}), dict(config or {}))


def prepare_command(
    defs: dg.Definitions, settings: Settings, selection: Sequence[str] | None, tune: int, resume: bool
) -> PreparedRun:
    """The run of `churn run`. The caller holds the home's lock: runs that were killed are marked, and freed.

    Raises SettingsError for a selection that names no asset, SourceError for a source that is missing.
    """
    contract = load_contract(settings.contract_path)
    inputs = None if selection else RunInputs.of(settings, contract, tune)
    tags = {COMMAND: RUN} | (inputs.tags() if inputs else {})
    run = prepare_run(defs, selection, tuning_config(tune, selection), tags)
    with dg.DagsterInstance.get() as instance:
        cancel_lost_runs(instance, settings.mlflow_uri)
        if not resume or inputs is None:
            return run
        resumption = resume_run(defs, run.assets, inputs, instance, settings.assets_dir)
    if resumption.run_id is None:
        return replace(run, message=resumption.message)
    return replace(
        run,
        assets=list(resumption.remaining),
        tags={**run.tags, RESUMES: resumption.run_id},
        config=tuning_config(tune, [key.to_user_string() for key in resumption.remaining]),
        finished=resumption.finished,
        message=resumption.message,
    )


def run_graph(
    defs: dg.Definitions,
    on_event: Callable[[StepEvent], None],
    selection: Sequence[str] | None = None,
    config: dict[str, Any] | None = None,
) -> RunOutcome:
    """Prepare a run and execute it."""
    return execute(prepare_run(defs, selection, config), on_event)


def execute(run: PreparedRun, on_event: Callable[[StepEvent], None]) -> RunOutcome:
    """Materialise the assets of a run in this process, on the instance of the home that `prepare_home` pointed to.

    A step that fails raises nothing: it is in the outcome.
    """
    job = run.job.with_logger_defs({**run.job.loggers, "steps": _step_logger(on_event)})
    with dg.DagsterInstance.get() as instance:
        on_event(StepEvent("", "planned", plan=plan_run(job, run.assets, instance, run.finished)))
        result = job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            asset_selection=run.assets,
            run_config={**run.config, "loggers": {"steps": {}}},
            run_id=run.run_id,
            tags={**run.tags, **own_tags()},
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
    finished = frozenset(str(event.step_key) for event in result.filter_events(lambda e: e.is_step_success))
    return RunOutcome(result.success, result.run_id, messages, failures, interrupted, finished)


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

"""Which run a home had last, what it was made from, and which of its steps another run need not repeat."""

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg

from churn_assets.contract.model import Contract
from churn_assets.data.readers.read import resolve_source
from churn_assets.data.readers.source import locate
from churn_assets.defs.io_manager import exists
from churn_assets.settings import Settings
from churn_assets.training.environment import library_versions, package_digest

COMMAND, RESUMES = "churn/command", "churn/resumes"  # tags of a run: what started it, which run it goes on with
RUN = "churn run"
_CHANGED = {
    "source": "the customer table is another one",
    "contract": "the contract has changed",
    "code": "this package or a library has changed",
    "options": "options or tuning studies have changed",
}


@dataclass(frozen=True)
class RunInputs:
    """What the result of a run depends on, as digests; they are tags of the run."""

    source: str
    contract: str
    code: str
    options: str

    @classmethod
    def of(cls, settings: Settings, contract: Contract, tune: int) -> "RunInputs":
        """The inputs of a run that begins now: contents, not times. Raises SourceError for a source that is missing."""
        source = resolve_source(settings, contract)
        path = locate(source.source, contract).path
        studies = sorted(p for p in settings.studies_dir.glob("*.json") if p.is_file())
        return cls(
            source=_digest([source.source if path is None else source.description], [path] if path else []),
            contract=_digest([contract.text], []),
            code=_code(),
            options=_digest([f"tune {tune}"], studies),
        )

    def tags(self) -> dict[str, str]:
        """As tags of a Dagster run."""
        return {f"churn/{name}": value for name, value in asdict(self).items()}

    def differences(self, tags: Mapping[str, str]) -> list[str]:
        """What is not as it was for the run with these tags, a clause each."""
        return [_CHANGED[name] for name, value in asdict(self).items() if tags.get(f"churn/{name}") != value]


@dataclass(frozen=True)
class Resumption:
    """The run that another one goes on with, and its finished steps; or why it starts from the beginning."""

    run_id: str | None = None
    finished: frozenset[str] = frozenset()
    remaining: tuple[dg.AssetKey, ...] = ()
    why_not: str = ""

    @property
    def message(self) -> str:
        """One line for people."""
        if self.run_id is None:
            return f"starts from the beginning: {self.why_not}"
        return f"goes on with run {self.run_id[:8]}: {len(self.finished)} steps are finished"


def resume_run(
    defs: dg.Definitions, assets: Sequence[dg.AssetKey], inputs: RunInputs, instance: dg.DagsterInstance, folder: Path
) -> Resumption:
    """What is left to do of the last `churn run` of a home, whose assets are in `folder`."""
    records = instance.get_run_records(dg.RunsFilter(tags={COMMAND: RUN}), limit=1)
    if not records:
        return Resumption(why_not="there is no earlier run in this home")
    last = records[0].dagster_run
    if last.status == dg.DagsterRunStatus.SUCCESS:
        return Resumption(why_not="the last run is complete")
    if changed := inputs.differences(last.tags):
        return Resumption(why_not=f"{' and '.join(changed)} since run {last.run_id[:8]}")
    chain = _chain(last, instance)
    finished = _finished_steps(chain, instance)
    steps = _steps_by_asset(defs)
    unfinished = [
        key
        for key in assets
        if not (steps[key] <= finished and _is_of(key, chain, instance) and exists(folder, key.to_user_string()))
    ]
    below = dg.AssetSelection.assets(*unfinished).downstream().resolve(defs.resolve_asset_graph())
    remaining = tuple(key for key in assets if key in below)
    kept = frozenset[str]().union(*(steps[key] for key in assets if key not in below))
    if not kept:
        return Resumption(why_not=f"run {last.run_id[:8]} finished no step")
    return Resumption(last.run_id, kept, remaining)


def _chain(run: dg.DagsterRun, instance: dg.DagsterInstance) -> list[str]:
    """The ids of a run and of those that it went on with."""
    chain = [run.run_id]
    while (earlier := run.tags.get(RESUMES)) and earlier not in chain:
        chain.append(earlier)
        if (former := instance.get_run_by_id(earlier)) is None:
            break
        run = former
    return chain


def _finished_steps(run_ids: Iterable[str], instance: dg.DagsterInstance) -> set[str]:
    return {
        event.step_key
        for run_id in run_ids
        for event in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
        if event.step_key
    }


def _steps_by_asset(defs: dg.Definitions) -> dict[dg.AssetKey, set[str]]:
    """The steps that make each asset and check it."""
    steps: dict[dg.AssetKey, set[str]] = {}
    graph = defs.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        steps[key] = {defs.resolve_assets_def(key).node_def.name}
    for check in defs.asset_checks or ():
        for check_key in check.check_keys:
            steps[check_key.asset_key].add(check.node_def.name)
    return steps


def _is_of(key: dg.AssetKey, run_ids: Sequence[str], instance: dg.DagsterInstance) -> bool:
    """Whether one of these runs made what an asset is now."""
    event = instance.get_latest_materialization_event(key)
    return event is not None and event.run_id in run_ids


def _code() -> str:
    """This package's files, Python, and the libraries that train."""
    versions = [f"{name} {version}" for name, version in library_versions().items()]
    return _digest([sys.version, *versions, package_digest()], [])


def _digest(texts: Iterable[str], files: Iterable[Path]) -> str:
    digest = hashlib.sha256("\0".join(texts).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]

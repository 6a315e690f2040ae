"""A model trained again from what was kept, and compared with what it was.

Nothing of the home is written: the second bundle is made in a folder of its own, which the caller removes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Contract
from churn_assets.data.customers import table_rows
from churn_assets.data.preparation import prepare_table
from churn_assets.data.versions.cells import table_digest
from churn_assets.data.versions.store import TableStore
from churn_assets.errors import BundleError, ChurnError, ContractError, TableNotKept, one_line
from churn_assets.leakage.screening import screen
from churn_assets.reproduction.record import Tables, TrainingRecord
from churn_assets.scoring.bundle import read_card
from churn_assets.settings import Settings
from churn_assets.storage.sealed import PROVENANCE, verify
from churn_assets.training.candidate import NAMES, train_candidate
from churn_assets.training.environment import Environment
from churn_assets.training.export import mean_gain, provenance, write_choice
from churn_assets.training.feature_table import feature_table, trained_contract
from churn_assets.training.select import choose_model


@dataclass(frozen=True)
class Reproduction:
    """What training again gave. `version` is that of the second bundle; `files` are those of the bundle that differ.

    `environment` and `data` are clauses: what is otherwise than at the training. They may be there although the bundle
    is the same.
    """

    expected: str
    version: str
    files: tuple[str, ...]
    environment: tuple[str, ...]
    data: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the bundle came out again, byte by byte."""
        return self.version == self.expected

    @property
    def differences(self) -> tuple[str, ...]:
        """Every clause that may explain another bundle."""
        return (*self.environment, *self.data)


def reproduce(
    settings: Settings, record: TrainingRecord, root: Path, report: Callable[[str], None] = lambda _: None
) -> Reproduction:
    """Train the model of `record` again under `root`, an empty folder; `report` is called with each step's name.

    Raises TableNotKept if a table of it was removed, KeptTableCorrupt if one is damaged, TrainingError if nothing can
    be trained by the code of now.
    """
    contract = record.parsed_contract()
    report("reading the kept tables")
    raw, validated, splits = _read_tables(settings, record.tables)
    data = [] if raw is None else _data_differences(contract, raw, validated)
    if absent := sorted(record.parameters.keys() - set(NAMES)):
        data.append(f"candidate {', '.join(absent)} does not exist any more")
    report("judging the columns")
    features = feature_table(contract, validated, splits, screen(contract, validated, splits).left_out)
    trained = trained_contract(contract, features)
    candidates = []
    for name in (name for name in NAMES if name in record.parameters):  # the order names a blend
        report(f"training {name}")
        seed = record.seeds.get(name, 42)
        candidates.append(train_candidate(name, contract, features, splits, record.parameters[name], seed))
    report("choosing")
    choice = choose_model(trained, candidates, features, splits, gain=mean_gain(trained, validated))
    origin = provenance(validated, None, "", None)
    bundle = write_choice(trained, choice, candidates, validated, root, origin)
    here = Environment.here()
    environment = record.environment.differences(here)
    if record.environment.code != here.code and record.git_commit != "unknown":
        environment.append(f"the training was made at commit {record.git_commit}")
    original = settings.bundles_dir / record.version
    data += [] if bundle.name == record.version else _bundle_differences(original, bundle)
    data += [] if bundle.name == record.version else _contract_difference(settings, contract)
    return Reproduction(
        record.version, bundle.name, _different_files(original, bundle), tuple(environment), tuple(data)
    )


def _read_tables(settings: Settings, tables: Tables) -> tuple[pa.Table | None, pa.Table, pa.Table]:
    store = TableStore(settings.tables_dir)
    versions = store.versions()
    for name in ("validated", "splits"):
        if (version := getattr(tables, name)) not in versions:
            raise TableNotKept(
                f"version {version} of the table '{name}' was removed from {settings.tables_dir}, expected it to be "
                "kept; a model in use keeps its tables, others only the newest: CHURN_DATA_VERSIONS"
            )
    raw = store.read(versions[tables.raw]) if tables.raw in versions else None
    return raw, store.read(versions[tables.validated]), store.read(versions[tables.splits])


def _data_differences(contract: Contract, raw: pa.Table, validated: pa.Table) -> list[str]:
    """Whether the raw table is validated as it was then; rows of labelled predictions do not come from it."""
    try:
        now = prepare_table(contract, raw).customers
    except ChurnError as error:
        return [f"the raw table is refused now: {one_line(error, 160)}"]
    before, after = (table_rows(table).replace_schema_metadata(None) for table in (validated, now))
    if table_digest(before) == table_digest(after):
        return []
    return [f"the raw table is validated otherwise now: {after.num_rows:,} customers, it was {before.num_rows:,}"]


def _bundle_differences(original: Path, bundle: Path) -> list[str]:
    """The choice and the figures of both bundles, where they differ."""
    try:
        before, after = read_card(original), read_card(bundle)
    except BundleError:
        return ["its bundle is not in this home any more: only the version can be compared"]
    clauses = [f"the model chosen was {before.chosen}, is {after.chosen}"] if before.chosen != after.chosen else []
    for name in sorted(before.candidates.keys() | after.candidates.keys()):
        params = [card.candidates[name].params if name in card.candidates else {} for card in (before, after)]
        if params[0] != params[1]:
            changed = sorted(
                key for key in params[0].keys() | params[1].keys() if params[0].get(key) != params[1].get(key)
            )
            clauses.append(f"parameters of {name} differ: {', '.join(changed)}")
    if (before.rows, before.as_of, before.source) != (after.rows, after.as_of, after.source):
        clauses.append(f"the table had {before.rows} rows of {before.source}, has {after.rows} of {after.source}")
    figure = "test_pr_auc"
    if before.metrics.get(figure) != after.metrics.get(figure):
        clauses.append(f"{figure} was {before.metrics.get(figure)}, is {after.metrics.get(figure)}")
    if before.fingerprint != after.fingerprint:
        clauses.append(f"the contract's fingerprint was {before.fingerprint[:12]}, is {after.fingerprint[:12]}")
    return clauses


def _contract_difference(settings: Settings, contract: Contract) -> list[str]:
    try:
        in_use = load_contract(settings.contract_path)
    except ContractError:
        return []
    if in_use.text == contract.text:
        return []
    return [f"the contract in use, {settings.contract_path}, is another one (the recorded one was used)"]


def _different_files(original: Path, bundle: Path) -> tuple[str, ...]:
    """Names of files of the version that are not the same in both; none if the original cannot be read."""
    try:
        before, after = (verify(path)["files"] for path in (original, bundle))
    except BundleError:
        return ()
    names = sorted((before.keys() | after.keys()) - {PROVENANCE})
    return tuple(name for name in names if before.get(name, {}).get("sha256") != after.get(name, {}).get("sha256"))

"""Which versions of kept tables go: all but the newest, and never one that a model in use was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from churn_assets.data.versions.manifest import Manifest
from churn_assets.data.versions.store import TableStore
from churn_assets.promotion.champion import models_in_use
from churn_assets.reproduction.record import TrainingRecord, read_records
from churn_assets.settings import Settings


@dataclass(frozen=True)
class Removal:
    """The versions that go, and the bytes that this frees: about as many before it is done."""

    versions: tuple[Manifest, ...]
    freed_bytes: int


def users_of(records: Mapping[str, TrainingRecord]) -> dict[str, list[str]]:
    """For each version of a table the models that were trained on it."""
    users: dict[str, list[str]] = {}
    for model, record in records.items():
        for version in filter(None, (record.tables.raw, record.tables.validated, record.tables.splits)):
            users.setdefault(version, []).append(model)
    return users


def plan_removal(settings: Settings, newest: int | None = None) -> Removal:
    """What `newest` versions of each table (None: those of the settings) leave to remove. Raises what
    `promotion.champion.models_in_use` raises: a model may be in use that cannot be read."""
    store = TableStore(settings.tables_dir)
    versions = store.versions()
    needed = _needed(settings, versions, settings.data_versions if newest is None else newest)
    gone = tuple(manifest for version, manifest in versions.items() if version not in needed)
    return Removal(gone, store.removal_bytes([manifest.version for manifest in gone]) if gone else 0)


def apply_removal(settings: Settings, newest: int | None = None) -> Removal:
    """Remove what `plan_removal` says."""
    planned = plan_removal(settings, newest)
    if not planned.versions:
        return planned
    store = TableStore(settings.tables_dir)
    return Removal(planned.versions, store.remove([manifest.version for manifest in planned.versions]))


def plan_erasure(settings: Settings, customer: str) -> list[Manifest]:
    """Every version that has a row of the customer with this id, the oldest first."""
    store = TableStore(settings.tables_dir)
    with_customer = []
    for manifest in store.versions().values():
        table = store.read(manifest)
        if (
            manifest.key in table.column_names
            and pc.any(pc.equal(table[manifest.key].cast("string"), customer)).as_py()
        ):
            with_customer.append(manifest)
    return with_customer


def _needed(settings: Settings, versions: Mapping[str, Manifest], newest: int) -> set[str]:
    """The newest versions of each table, those of models in use, and those that they were made from."""
    needed: set[str] = set()
    for table in {manifest.table for manifest in versions.values()}:
        own = [version for version, manifest in versions.items() if manifest.table == table]
        needed |= set(own[len(own) - newest :] if newest else ())
    records, uses = read_records(settings.bundles_dir), models_in_use(settings)
    needed |= {version for version, models in users_of(records).items() if uses.keys() & set(models)}
    origins = needed
    while origins:  # splits are made from a validated table, and that from a raw one
        made_from = {versions[version].made_from for version in origins if version in versions}
        origins = {version for version in made_from if version is not None} - needed
        needed |= origins
    return needed

"""Which versions of tables stay."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pyarrow as pa
import pytest

from churn_assets.data.versions.store import TableStore
from churn_assets.errors import PointerCorrupt, PolicyCorrupt, TableNotKept
from churn_assets.promotion.champion import models_in_use
from churn_assets.promotion.ledger import Ledger
from churn_assets.promotion.pointer import POINTER
from churn_assets.release.policy import Policy, PolicyArm, write_policy
from churn_assets.reproduction.record import (
    Tables,
    TrainingRecord,
    read_record,
    read_records,
    record_path,
    write_record,
)
from churn_assets.reproduction.retention import apply_removal, plan_erasure, plan_removal, users_of
from churn_assets.training.environment import Environment
from churn_assets_tests.promotion.homes import AT, champion, home_with, moves

HERE = Environment("code", "3.11", {"numpy": "1"}, "x86_64", ["avx2"], {})


@pytest.fixture
def home(tmp_path):
    """Six models, each trained on tables of its own, the raw ones kept first: (settings, models, record by model)."""
    return trained(*home_with(tmp_path, 6))


def trained(settings, models):
    store, records = TableStore(settings.tables_dir), {}
    for number, model in enumerate(models):
        now = AT + dt.timedelta(days=number)
        rows = pa.table({"id": [f"c{n}" for n in range(number, number + 40)], "x": list(range(40))})
        raw = store.keep("raw", rows, key="id", now=now).version
        validated = store.keep("validated", rows.slice(1), key="id", made_from=raw, now=now).version
        splits = store.keep("splits", rows.select(["id"]), key="id", made_from=validated, now=now).version
        records[model] = TrainingRecord(
            model, now.isoformat(), Tables(raw, validated, splits), "", {}, {}, HERE, "unknown", ""
        )
        write_record(settings.bundles_dir / model, records[model])
    return settings, models, records


def kept_models(settings, records) -> set[str]:
    """The models all of whose tables are kept, and can be read."""
    store = TableStore(settings.tables_dir)
    versions = {version: store.read(manifest).num_rows for version, manifest in store.versions().items()}
    return {
        model
        for model, record in records.items()
        if {record.tables.raw, record.tables.validated, record.tables.splits} <= versions.keys()
    }


def test_tables_of_models_in_use_stay_whatever_their_age(home):
    settings, models, records = home
    step = moves(settings)
    for model in models[:3]:
        step.move(champion(model), "first", "ana", "better")
    Ledger.of(settings).add_challenger(models[3], f"bundles/{models[3]}", "aa", None, None, AT)
    assert models_in_use(settings) == {models[2]: "champion", models[1]: "champion before", models[3]: "challenger"}
    assert apply_removal(settings, 0).freed_bytes > 0
    assert kept_models(settings, records) == set(models[1:4])
    arms = tuple(
        PolicyArm(name, models[n], f"bundles/{models[n]}", "aa", 0.5)
        for name, n in (("champion", 2), ("challenger", 4))
    )
    write_policy(settings.home, Policy("1", "ab", arms, "salt", "ana", "why", AT))
    assert models_in_use(settings)[models[4]] == "ab challenger"


def test_models_of_a_ledger_in_a_database_are_in_use(tmp_path, database_url):
    settings, models = home_with(tmp_path, 4)
    settings, models, records = trained(dataclasses.replace(settings, database_url=database_url), models)
    step = moves(settings)
    for model in models[:2]:
        step.move(champion(model), "first", "ana", "better")
    Ledger.of(settings).add_challenger(models[2], f"bundles/{models[2]}", "aa", None, None, AT)
    apply_removal(settings, 0)
    assert kept_models(settings, records) == set(models[:3])


def test_the_newest_of_each_table_stay_and_what_would_go_is_said_first(home):
    settings, models, records = home
    before = TableStore(settings.tables_dir).stored_bytes()
    planned = plan_removal(settings, 2)
    assert TableStore(settings.tables_dir).stored_bytes() == before
    assert {manifest.table for manifest in planned.versions} == {"raw", "validated", "splits"}
    assert len(planned.versions) == 12
    removal = apply_removal(settings, 2)
    assert removal.versions == planned.versions
    assert TableStore(settings.tables_dir).stored_bytes() == before - removal.freed_bytes
    assert kept_models(settings, records) == set(models[-2:])
    assert apply_removal(settings, 2).versions == ()


def test_a_table_that_a_kept_one_was_made_from_stays(tmp_path):
    settings, _ = home_with(tmp_path, 0)
    store = TableStore(settings.tables_dir)
    raw = store.keep("raw", pa.table({"id": ["a", "b"]}), now=AT).version
    for number in (1, 2):
        store.keep("raw", pa.table({"id": [str(number)]}), now=AT + dt.timedelta(days=number))
    store.keep("validated", pa.table({"id": ["a"]}), made_from=raw, now=AT)
    apply_removal(settings, 1)
    assert raw in store.versions()
    assert len(store.versions()) == 3


@pytest.mark.parametrize(("file", "error"), [(POINTER, PointerCorrupt), ("policy.json", PolicyCorrupt)])
def test_nothing_goes_while_it_cannot_be_read_what_is_in_use(file, error, home):
    settings, models, records = home
    (settings.home / file).write_text("{")
    with pytest.raises(error):
        apply_removal(settings, 0)
    assert kept_models(settings, records) == set(models)


def test_a_customer_is_found_in_every_version_and_no_row_of_theirs_is_left(home):
    settings, _, records = home
    store = TableStore(settings.tables_dir)
    versions = plan_erasure(settings, "c1")
    names = {version for record in list(records.values())[:2] for version in (record.tables.raw, record.tables.splits)}
    assert names <= {manifest.version for manifest in versions}
    store.remove([manifest.version for manifest in versions], every_row=True)
    assert plan_erasure(settings, "c1") == []
    import pyarrow.parquet as pq

    for pack in store.packs_dir.glob("*.parquet"):
        assert "c1" not in pq.read_table(pack)["0"].to_pylist()
    assert plan_erasure(settings, "c44")


def test_records_are_found_by_the_first_digits_and_list_who_uses_a_table(home):
    settings, models, records = home
    assert read_records(settings.bundles_dir) == records
    assert read_record(settings.bundles_dir, models[0][:8]) == records[models[0]]
    assert users_of(records)[records[models[0]].tables.raw] == [models[0]]
    record_path(settings.bundles_dir / models[0]).unlink()
    for text, message in (
        (models[0], "has no record of its training .* it was trained by an earlier release"),
        ("zzzz", "has no record of its training .* `churn history`"),
        ("", "has no record"),
    ):
        with pytest.raises(TableNotKept, match=message):
            read_record(settings.bundles_dir, text)
    record_path(settings.bundles_dir / models[1]).write_text("{}")
    with pytest.raises(TableNotKept, match=r"\.training\.json: cannot be read"):
        read_record(settings.bundles_dir, models[1])


def test_an_environment_names_what_differs():
    other = Environment(
        "other", "3.12", {"numpy": "2", "torch": "1"}, "x86_64", ["avx", "avx2"], {"OMP_NUM_THREADS": "1"}
    )
    assert HERE.differences(HERE) == []
    assert HERE.differences(other) == [
        "numpy was 1, is 2",
        "torch was not installed, is 1",
        "Python was 3.11, is 3.12",
        "the code of this package was code, is other",
        "processor has avx as well",
        "OMP_NUM_THREADS was not set, is 1",
    ]
    assert other.differences(HERE)[4] == "processor lacks avx"
    assert Environment.here().differences(Environment.here()) == []
    assert {"numpy", "scikit-learn", "torch"} <= Environment.here().libraries.keys()

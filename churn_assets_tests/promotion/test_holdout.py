"""Frozen customers stay as they were, and it is noticed if they do not."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn_assets.data.customers import mark_table
from churn_assets.errors import HoldoutCorrupt
from churn_assets.promotion.holdout import freeze, holdout_for, holdout_path, read_holdout
from churn_assets_tests.scoring.tiny import CONTRACT, TEXT, customers

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
TOLD = {"churn_contract": CONTRACT.fingerprint, "churn_as_of": "2024-01-20", "churn_source": "a file"}


def some(rows: int, seed: int) -> pa.Table:
    plain = customers(rows, seed=seed)
    plain = plain.append_column("churned", pa.array([0, 1] * (rows // 2), pa.int8()))
    return mark_table(CONTRACT, plain.replace_schema_metadata(TOLD))


def test_a_home_without_a_champion_has_none(tmp_path):
    assert read_holdout(tmp_path / "holdout", CONTRACT) is None


def test_what_is_frozen_is_given_back_and_never_overwritten(tmp_path):
    first = freeze(tmp_path / "holdout", CONTRACT, some(20, 1), False, "one", NOW)
    later = freeze(tmp_path / "holdout", CONTRACT, some(30, 2), False, "two", NOW + dt.timedelta(days=9))
    found = read_holdout(tmp_path / "holdout", CONTRACT)
    assert first == later == found
    assert found.rows.equals(some(20, 1))
    assert (found.version, found.frozen_at, found.generated) == ("one", NOW, False)
    assert found.rows.schema.metadata[b"churn_as_of"] == b"2024-01-20"
    assert found.customers(CONTRACT) == set(some(20, 1)[CONTRACT.key.name].to_pylist())
    assert [path.name for path in (tmp_path / "holdout").iterdir()] == [f"{CONTRACT.fingerprint[:12]}.parquet"]


@pytest.mark.parametrize(("before", "after", "kept"), [(True, False, 30), (False, True, 20), (True, True, 20)])
def test_only_real_customers_take_the_place_of_generated_ones(tmp_path, before, after, kept):
    freeze(tmp_path, CONTRACT, some(20, 1), before, "one", NOW)
    freeze(tmp_path, CONTRACT, some(30, 2), after, "two", NOW)
    found = read_holdout(tmp_path, CONTRACT)
    assert found is not None
    assert found.rows.num_rows == kept


def test_made_up_customers_are_nobody_among_real_ones(tmp_path):
    freeze(tmp_path, CONTRACT, some(20, 1), True, "one", NOW)
    assert holdout_for(tmp_path, CONTRACT, generated=True) is not None
    assert holdout_for(tmp_path, CONTRACT, generated=False) is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def other_rows(path: Path) -> None:
    pq.write_table(some(20, 3).replace_schema_metadata(pq.read_schema(path).metadata), path)


def without_metadata(path: Path) -> None:
    pq.write_table(some(20, 1), path)


def of_another_contract(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"churn_contract": b"f" * 64}), path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "cannot be read as a holdout"),
        (other_rows, "holds other rows than were frozen"),
        (without_metadata, "it lacks b'churn_sha256'"),
        (of_another_contract, "holds rows of contract ffffffffffff"),
    ],
)
def test_damage_is_one_line_that_says_what_to_do(tmp_path, damage, words):
    freeze(tmp_path, CONTRACT, some(20, 1), False, "one", NOW)
    path = holdout_path(tmp_path, CONTRACT)
    path.chmod(0o644)
    damage(path)
    with pytest.raises(HoldoutCorrupt, match=words) as error:
        read_holdout(tmp_path, CONTRACT)
    assert str(path) in str(error.value)
    assert "restore the file from a copy, or remove it" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_edit_that_no_model_uses_keeps_the_holdout_and_other_inputs_have_their_own(tmp_path):
    folder = tmp_path / "holdout"
    frozen = freeze(folder, CONTRACT, some(20, 1), False, "one", NOW)
    dearer = dataclasses.replace(CONTRACT, value=dataclasses.replace(CONTRACT.value, offer_cost=11.0))
    longer = dataclasses.replace(CONTRACT, label=dataclasses.replace(CONTRACT.label, horizon_days=60))
    assert dearer.fingerprint != CONTRACT.fingerprint
    assert freeze(folder, dearer, some(30, 2), False, "two", NOW).sha256 == frozen.sha256
    assert read_holdout(folder, longer) is None
    assert freeze(folder, longer, some(30, 2), False, "two", NOW).sha256 != frozen.sha256
    assert len(list(folder.iterdir())) == 2


def test_a_holdout_of_an_earlier_release_has_the_lineage_of_the_bundle_it_was_frozen_with(tmp_path):
    bundle = tmp_path / "bundles" / "one"
    bundle.mkdir(parents=True)
    (bundle / "contract.toml").write_text(TEXT)
    freeze(tmp_path / "holdout", CONTRACT, some(20, 1), False, "one", NOW)
    path = holdout_path(tmp_path / "holdout", CONTRACT)
    table = pq.read_table(path)
    metadata = {key: value for key, value in table.schema.metadata.items() if key != b"churn_lineage"}
    path.chmod(0o644)
    pq.write_table(table.replace_schema_metadata(metadata), path)
    dearer = dataclasses.replace(CONTRACT, value=dataclasses.replace(CONTRACT.value, offer_cost=11.0))
    assert read_holdout(tmp_path / "holdout", dearer) is not None
    (bundle / "contract.toml").unlink()
    assert read_holdout(tmp_path / "holdout", dearer) is None
    assert read_holdout(tmp_path / "holdout", CONTRACT) is not None

"""The test rows of a home's first champion, frozen beside it."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from churn_assets.defs.io import read
from churn_assets.defs.project import Project
from churn_assets.errors import AssetStale


def freeze_test_rows(project: Project, chosen: dict[str, Any]) -> None:
    """Freeze the table's rows that `chosen` (the value of chosen_model) was tested on, unless some are frozen.

    Raises AssetStale if the tables have been made again since the model was chosen, HoldoutCorrupt.
    """
    from churn_assets.data.hashing import data_hash
    from churn_assets.promotion.holdout import freeze, holdout_for
    from churn_assets.training.split import test_rows

    settings, contract, generated = project.settings, project.contract, bool(chosen["generated"])
    if holdout_for(settings.holdout_dir, contract, generated) is not None:
        return
    tables = {name: read(settings.assets_dir, name, pa.Table) for name in ("validated_customers", "splits")}
    for name, key in (("validated_customers", "customers_sha256"), ("splits", "splits_sha256")):
        if chosen.get(key) != data_hash(tables[name]):
            raise AssetStale(f"chosen_model was made of other {name} than there are now; make it again: churn run")
    rows = test_rows(tables["validated_customers"], tables["splits"])
    freeze(settings.holdout_dir, contract, rows, generated, chosen["version"], datetime.now(UTC))


def holdout_in_words(project: Project) -> str:
    """Which customers are frozen under this contract."""
    from churn_assets.promotion.holdout import read_holdout

    found = read_holdout(project.settings.holdout_dir, project.contract)
    if found is None:
        return "none: this champion is older than the holdout; until a first champion freezes one, the gate has none"
    kind = "generated customers" if found.generated else "customers"
    return f"{found.rows.num_rows:,} {kind}, frozen {found.frozen_at.date()} with {found.version}, never trained on"

"""Customers frozen with the first champion of a contract: no model of this home is ever trained on them.

They are the test part of that champion's random split, as they were then. Every later challenger meets the
champion on these rows; they are clean because nothing that happened in production has touched them.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from churn_assets.contract.model import Contract
from churn_assets.data.hashing import content_hash
from churn_assets.errors import HoldoutCorrupt
from churn_assets.storage.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa

_SHA, _AT, _GENERATED, _VERSION = b"churn_sha256", b"churn_frozen_at", b"churn_generated", b"churn_frozen_with"


@dataclass(frozen=True)
class Holdout:
    """`rows`: typed rows with `churned`, `row_source` and `row_as_of` (the day each was true), and in the schema's
    metadata `churn_as_of`, `churn_source` and `churn_contract`. `sha256` is `content_hash(rows)`; `generated` says that
    the customers were made up; `version` is the bundle that they were the test rows of; `frozen_at` is UTC.
    """

    rows: pa.Table
    sha256: str
    generated: bool
    version: str
    frozen_at: dt.datetime

    def customers(self, contract: Contract) -> frozenset[str]:
        """Ids of the frozen customers."""
        return frozenset(str(name) for name in self.rows[contract.key.name].to_pylist())


def holdout_path(folder: Path, contract: Contract) -> Path:
    """Where the holdout of this contract lies; `folder` is `Settings.holdout_dir`."""
    return folder / f"{contract.fingerprint[:12]}.parquet"


def read_holdout(folder: Path, contract: Contract) -> Holdout | None:
    """The holdout of this contract, None before its first champion. Raises HoldoutCorrupt."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = holdout_path(folder, contract)
    if not path.is_file():
        return None
    try:
        rows = pq.read_table(path)
        said = rows.schema.metadata or {}
        found = Holdout(
            rows=rows,
            sha256=said[_SHA].decode(),
            generated=said[_GENERATED] == b"true",
            version=said[_VERSION].decode(),
            frozen_at=dt.datetime.fromisoformat(said[_AT].decode()),
        )
        mine = said[b"churn_contract"].decode()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        words = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:160]
        raise HoldoutCorrupt(f"{path}: cannot be read as a holdout ({words}); {_ADVICE}") from None
    if mine != contract.fingerprint or content_hash(rows) != found.sha256:
        what = f"rows of contract {mine[:12]}" if mine != contract.fingerprint else "other rows than were frozen"
        raise HoldoutCorrupt(f"{path}: holds {what}, expected those of its own metadata; {_ADVICE}")
    return found


def holdout_for(folder: Path, contract: Contract, generated: bool) -> Holdout | None:
    """The holdout that a training on these customers must spare. Raises HoldoutCorrupt.

    Made-up customers that were frozen are nobody among real ones: a name in common is chance.
    """
    found = read_holdout(folder, contract)
    return None if found is not None and found.generated and not generated else found


def freeze(
    folder: Path, contract: Contract, rows: pa.Table, generated: bool, version: str, now: dt.datetime
) -> Holdout:
    """Freeze `rows`, unless rows of this contract are frozen: those stay. Returns what is frozen then.

    Only real customers take the place of generated ones. The file is whole and on disk when this returns.
    """
    there = holdout_for(folder, contract, generated)
    if there is not None:
        return there
    sha = content_hash(rows)
    told = {
        **(rows.schema.metadata or {}),
        b"churn_contract": contract.fingerprint.encode(),
        _SHA: sha.encode(),
        _GENERATED: b"true" if generated else b"false",
        _VERSION: version.encode(),
        _AT: now.astimezone(dt.UTC).isoformat(timespec="seconds").encode(),
    }
    _write(holdout_path(folder, contract), rows.replace_schema_metadata(told))
    found = read_holdout(folder, contract)
    assert found is not None  # it was just written
    return found


_ADVICE = (
    "put the file back from a copy, or remove it: the gate then lacks its frozen customers, and says so, until a "
    "first model of a home freezes new ones"
)


def _write(path: Path, rows: pa.Table) -> None:
    import pyarrow.parquet as pq

    with replacing(path, mode=0o444) as temporary:  # the mode tells people that nobody changes it
        pq.write_table(rows, temporary, compression="zstd")

"""Customers frozen with the first champion of a contract, its test rows: no model of this home is trained on them.

A person may renew them: see `promotion.gate.renewal`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from churn_assets.contract.limits import SplitMethod
from churn_assets.contract.model import Contract
from churn_assets.data.hashing import content_hash
from churn_assets.errors import HoldoutCorrupt
from churn_assets.scoring.bundle import read_contract
from churn_assets.storage.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa

_SHA, _AT, _GENERATED, _VERSION = b"churn_sha256", b"churn_frozen_at", b"churn_generated", b"churn_frozen_with"
_METHOD = b"churn_split_method"
_LINEAGE = b"churn_lineage"
REPLACED = ".replaced"  # the end of a file that was renewed
_BY, _WHY = b"churn_renewed_by", b"churn_renewed_why"


@dataclass(frozen=True)
class Renewal:
    """Who renewed a holdout, and why."""

    by: str
    why: str


@dataclass(frozen=True)
class Holdout:
    """`rows`: typed rows with `churned`, `row_source` and `row_as_of` (the day each was true), and in the schema's
    metadata `churn_as_of`, `churn_source` and `churn_contract`. `sha256` is `content_hash(rows)`; `generated`: the
    customers were generated; `version` is the bundle that they were the test rows of; `frozen_at` is UTC. `split` is
    the method they were drawn by: customers of this home stay in the parts that it gives them. `renewal` says who
    renewed it and why, None for the customers that were frozen with the first champion.
    """

    rows: pa.Table
    sha256: str
    generated: bool
    version: str
    frozen_at: dt.datetime
    split: SplitMethod = "published"  # the only method before 'hash'
    renewal: Renewal | None = None

    def customers(self, contract: Contract) -> frozenset[str]:
        """Ids of the frozen customers."""
        return frozenset(str(name) for name in self.rows[contract.key.name].to_pylist())


def holdout_path(folder: Path, contract: Contract) -> Path:
    """Where the holdout of this contract's lineage lies, or would be frozen; `folder` is `Settings.holdout_dir`.

    A file is named after the contract that it was frozen under, which may have been edited since: of several with the
    same model inputs the newest counts, unless one is of this very contract.
    """
    own = folder / f"{contract.fingerprint[:12]}.parquet"
    origins = {path: _origin_of(path) for path in folder.glob("*.parquet")}
    related = {path: frozen_at for path, (lineage, frozen_at) in origins.items() if lineage == contract.lineage}
    return own if own in related or not related else max(related, key=related.__getitem__)


def read_holdout(folder: Path, contract: Contract) -> Holdout | None:
    """The holdout of this contract's lineage, None before its first champion. Raises HoldoutCorrupt."""
    path = holdout_path(folder, contract)
    if not path.is_file():
        return None
    holdout, fingerprint = _parse(path)
    if fingerprint[:12] != path.stem:
        raise HoldoutCorrupt(f"{path}: holds rows of contract {fingerprint[:12]}, expected {path.stem}; {_ADVICE}")
    if content_hash(holdout.rows) != holdout.sha256:
        raise HoldoutCorrupt(f"{path}: holds other rows than were frozen, by the hash in its metadata; {_ADVICE}")
    return holdout


def frozen_with(folder: Path, contract: Contract) -> str:
    """The version that the holdout of this contract's lineage was frozen with; '' if there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(holdout_path(folder, contract)).metadata or {}
    except (OSError, ValueError, pa.ArrowException):
        return ""
    return str(metadata.get(_VERSION, b"").decode())


def _origin_of(path: Path) -> tuple[str, bytes]:
    """Lineage and instant of a holdout; empty if they cannot be read. An earlier release did not write the lineage: it
    is that of the bundle that the customers were frozen with."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, ValueError, pa.ArrowException):
        return "", b""
    lineage, frozen_at = metadata.get(_LINEAGE), metadata.get(_AT, b"")
    if lineage is not None:
        return lineage.decode(), frozen_at
    made_under = read_contract(path.parent.parent / "bundles" / metadata.get(_VERSION, b"none").decode())
    return made_under.lineage if made_under else "", frozen_at


def _parse(path: Path) -> tuple[Holdout, str]:
    """What the file holds, and the fingerprint it was frozen under."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:  # `read_table` would import pandas
            rows = file.read()
        metadata = rows.schema.metadata or {}
        holdout = Holdout(
            rows=rows,
            sha256=metadata[_SHA].decode(),
            generated=metadata[_GENERATED] == b"true",
            version=metadata[_VERSION].decode(),
            frozen_at=dt.datetime.fromisoformat(metadata[_AT].decode()),
            split="hash" if metadata.get(_METHOD) == b"hash" else "published",
            renewal=Renewal(metadata[_BY].decode(), metadata[_WHY].decode()) if _BY in metadata else None,
        )
        return holdout, metadata[b"churn_contract"].decode()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        problem = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:160]
        raise HoldoutCorrupt(f"{path}: cannot be read as a holdout ({problem}); {_ADVICE}") from None


def holdout_for(folder: Path, contract: Contract, generated: bool) -> Holdout | None:
    """The holdout that a training on these customers must leave out; generated ones do not count among real ones, for
    an id in common is chance. Raises HoldoutCorrupt."""
    holdout = read_holdout(folder, contract)
    return None if holdout is not None and holdout.generated and not generated else holdout


def freeze(
    folder: Path, contract: Contract, rows: pa.Table, generated: bool, version: str, now: dt.datetime
) -> Holdout:
    """Freeze `rows`, unless rows of this contract are frozen: those stay. Returns what is frozen then. Only real
    customers replace generated ones. The file is complete and on disk when this returns."""
    frozen = holdout_for(folder, contract, generated)
    if frozen is not None:
        return frozen
    own = {_GENERATED: b"true" if generated else b"false", _METHOD: contract.split.method.encode()}
    return _write(folder, contract, rows, version, now, own)


def renew(
    folder: Path, contract: Contract, rows: pa.Table, present: Holdout, version: str, now: dt.datetime, renewal: Renewal
) -> Holdout:
    """Freeze `rows` in place of the `present` customers, whose file is kept beside it under another name. `version` is
    the champion, whose test rows they are from now on."""
    path = holdout_path(folder, contract)
    kept = path.with_name(f"{path.stem}.until-{now.astimezone(dt.UTC):%Y%m%dT%H%M%S}{REPLACED}")
    with replacing(kept, mode=0o444) as temporary:
        temporary.write_bytes(path.read_bytes())
    own = {_GENERATED: b"true" if present.generated else b"false", _METHOD: present.split.encode()}
    own |= {_BY: renewal.by.encode(), _WHY: renewal.why.encode()}
    return _write(folder, contract, rows, version, now, own)


def renewals(folder: Path) -> list[Holdout]:
    """Every renewed holdout of a home, those that were replaced since as well, in no order. One that cannot be read is
    left out."""
    holdouts = []
    for path in (*folder.glob("*.parquet"), *folder.glob(f"*{REPLACED}")):
        with contextlib.suppress(HoldoutCorrupt):
            holdouts.append(_parse(path)[0])
    return [holdout for holdout in holdouts if holdout.renewal]


def _write(
    folder: Path, contract: Contract, rows: pa.Table, version: str, now: dt.datetime, own: dict[bytes, bytes]
) -> Holdout:
    import pyarrow.parquet as pq

    metadata = {
        **(rows.schema.metadata or {}),
        b"churn_contract": contract.fingerprint.encode(),
        _LINEAGE: contract.lineage.encode(),
        _SHA: content_hash(rows).encode(),
        _VERSION: version.encode(),
        _AT: now.astimezone(dt.UTC).isoformat(timespec="seconds").encode(),
        **own,
    }
    with replacing(folder / f"{contract.fingerprint[:12]}.parquet", mode=0o444) as temporary:  # nobody changes it
        pq.write_table(rows.replace_schema_metadata(metadata), temporary, compression="zstd")
    frozen = read_holdout(folder, contract)
    assert frozen is not None  # it was just written
    return frozen


_ADVICE = (
    "restore the file from a copy, or remove it: the gate then refuses for want of a holdout until the first model of "
    "a home freezes new customers"
)

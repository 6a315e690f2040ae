"""Checks of a line of the log at ingest, and the contracts that predictions were made under.

`records` has the types that the service writes, without checks, because it made every value itself and an encoder
call is all that a request can pay. The types here are the same fields read strictly: a segment may have been
edited, cut or written by another version, and what does not fit goes to quarantine with the reason. A new field is
added to both; a test writes each record of `records` and reads it here. A prediction's features are checked against
the kinds of the contract it was scored under, not against its bounds: bad values are for monitoring to report.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.errors import ContractError
from churn_assets.storage.files import write_text

MAX_LINE = 2**20
_BUNDLE_FILE = "contract.toml"  # as scoring.bundle writes it

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
_INSTANTS = ("as_of", "scored_at", "observed_at", "received_at", "since_at", "until_at")

# fingerprint, model version -> the contract, or None where nobody knows it
FindContract = Callable[[str, str], Contract | None]


class Refused(Exception):
    """A line that cannot be taken; its text says why. Never leaves this package."""


class Prediction(msgspec.Struct, tag="prediction", tag_field="kind", gc=False):
    """`records.Prediction`, strictly; its features are looked at once its contract is known."""

    prediction_id: _Id
    request_id: str
    customer_id: str | None
    as_of: _Id
    scored_at: _Id
    score: Annotated[float, msgspec.Meta(ge=0, le=1)]
    margin: float | None
    decision: bool
    threshold: float
    risk_band: str
    model_version: _Id
    contract: str
    fingerprint: _Id
    arm: str
    policy: str
    status: str
    latency_us: float | None
    warnings: list[str]
    features: msgspec.Raw


class Feedback(msgspec.Struct, tag="feedback", tag_field="kind", gc=False):
    """`records.Feedback`, strictly."""

    feedback_id: _Id
    request_id: str
    prediction_id: _Id | None
    customer_id: _Id | None
    churned: bool
    observed_at: _Id
    contacted: bool | None
    received_at: _Id


class Rejections(msgspec.Struct, tag="rejections", tag_field="kind", gc=False):
    """`records.Rejections`, strictly."""

    since_at: _Id
    until_at: _Id
    worker: str
    counts: dict[str, _Count]


Line = Prediction | Feedback | Rejections


class Checker:
    """Reads lines strictly; remembers what it learnt of each contract."""

    def __init__(self, find: FindContract) -> None:
        self._find = find
        self._read = msgspec.json.Decoder(Line).decode
        self._features: dict[str, Callable[[msgspec.Raw], object]] = {}
        self.contracts: dict[str, Contract] = {}

    def __call__(self, line: bytes) -> Line:
        """The line's row. Raises Refused."""
        if len(line) > MAX_LINE:
            raise Refused(f"longer than {MAX_LINE:,} bytes")
        try:
            row: Line = self._read(line)
            if isinstance(row, Prediction):
                self._features_of(row)(row.features)
        except msgspec.ValidationError as error:
            raise Refused(f"of the wrong type: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"no JSON: {error}") from None
        if isinstance(row, Feedback) and row.prediction_id is None and row.customer_id is None:
            raise Refused("neither prediction_id nor customer_id")
        return row

    def _features_of(self, row: Prediction) -> Callable[[msgspec.Raw], object]:
        read = self._features.get(row.fingerprint)
        if read is None:
            contract = self._find(row.fingerprint, row.model_version)
            if contract is None:
                raise Refused(
                    f"unknown contract {row.fingerprint[:12]}: neither in use nor in bundle {row.model_version}"
                )
            self.contracts[row.fingerprint] = contract
            read = self._features[row.fingerprint] = msgspec.json.Decoder(_features_type(contract)).decode
        return read

    def canonical(self, line: bytes, number: int) -> bytes:
        """A line that was taken, its number inside, spelled as DuckDB reads it: instants in UTC, days, booleans.

        Raises Refused for an instant or a day that is none, and for bytes that are no text in what nobody reads.
        """
        try:
            row: dict[str, Any] = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"no JSON: {error}") from None
        for name in _INSTANTS:
            if name in row:
                row[name] = _instant(name, row[name])
        if row["kind"] == "prediction":
            features = row["features"]
            for column in self.contracts[row["fingerprint"]].scoring_columns:
                if features.get(column.name) is not None:
                    features[column.name] = _cell(column, features[column.name])
        return msgspec.json.encode({**row, "line": number}) + b"\n"


def _features_type(contract: Contract) -> type[msgspec.Struct]:
    fields: list[Any] = []
    names = {}
    for index, column in enumerate(sorted(contract.scoring_columns, key=lambda column: column.nullable)):
        name = f"c{index}"
        names[name] = column.name
        kind: Any = str
        if column.kind in (Kind.NUMBER, Kind.INTEGER):
            kind = float
        elif column.kind is Kind.BOOLEAN:
            kind = bool | float
        fields.append((name, kind | None, None) if column.nullable else (name, kind))
    return msgspec.defstruct("Features", fields, rename=names, gc=False)


def _instant(name: str, text: str) -> str:
    try:
        instant = dt.datetime.fromisoformat(text)
        instant = instant.replace(tzinfo=dt.UTC) if instant.tzinfo is None else instant.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise Refused(f"{name} is no instant") from None
    return instant.isoformat()


def _cell(column: Column, value: Any) -> Any:
    if column.kind is Kind.BOOLEAN:
        if value not in (0, 1):
            raise Refused(f"{column.name} is neither true nor false")
        return bool(value)
    if column.kind is Kind.DATE:
        try:
            return dt.datetime.fromisoformat(value).date().isoformat()
        except ValueError:
            raise Refused(f"{column.name} is no day") from None
    return value


class KnownContracts:
    """Finds a contract by its fingerprint; what it finds is kept, so that it is known when its bundle is gone.

    `folder` is the warehouse's own `<fingerprint>.toml` files, `bundles` where a version's folder lies.
    """

    def __init__(self, folder: Path, bundles: Path, current: Contract) -> None:
        self._folder, self._bundles, self._current = folder, bundles, current

    def find(self, fingerprint: str, version: str) -> Contract | None:
        """The contract, or None where neither this project, nor the bundle of `version`, nor the past knows it."""
        if fingerprint == self._current.fingerprint:
            self._keep(self._current)
            return self._current
        if not (fingerprint.isalnum() and version.isalnum()):  # a line is no path
            return None
        for path in (self._folder / f"{fingerprint}.toml", self._bundles / version / _BUNDLE_FILE):
            try:
                contract = load_contract(path)
            except ContractError:
                continue
            if contract.fingerprint == fingerprint:
                self._keep(contract)
                return contract
        return None

    def _keep(self, contract: Contract) -> None:
        path = self._folder / f"{contract.fingerprint}.toml"
        if path.exists() or not contract.text:
            return
        write_text(path, contract.text)

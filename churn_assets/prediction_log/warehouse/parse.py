"""Strict decoding of the log's lines at ingest, and the contracts that predictions were made under.

A segment may have been edited, cut or written by another version. A line that does not match its type of `records`
goes to quarantine with the reason. A prediction's features are checked against the kinds of the contract it was
scored under, not against its bounds: bad values are for monitoring to report.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.errors import ContractError
from churn_assets.prediction_log import records
from churn_assets.prediction_log.records import INSTANTS, Feedback, Rejections
from churn_assets.storage.files import write_text

MAX_LINE = 2**20
_BUNDLE_FILE = "contract.toml"  # as scoring.bundle writes it


class Refused(Exception):
    """A line that cannot be ingested; the message is the reason. Never leaves this package."""


class Prediction(records.Prediction, tag="prediction", tag_field="kind", frozen=True, gc=False):
    """A prediction; its features are decoded once its contract is known."""

    features: msgspec.Raw  # type: ignore[assignment]  # decoding differs, the bytes are the same


Line = Prediction | Feedback | Rejections


class Checker:
    """Decodes lines strictly; keeps a decoder of features for each contract."""

    def __init__(self, known: KnownContracts) -> None:
        self._known = known
        self._decode = msgspec.json.Decoder(Line).decode
        self._features: dict[str, Callable[[msgspec.Raw], object]] = {}
        self.contracts: dict[str, Contract] = {}

    def __call__(self, line: bytes) -> Line:
        """The line's row. Raises Refused."""
        if len(line) > MAX_LINE:
            raise Refused(f"longer than {MAX_LINE:,} bytes")
        try:
            row: Line = self._decode(line)
            if isinstance(row, Prediction):
                self._features_decoder(row)(row.features)
        except msgspec.ValidationError as error:
            raise Refused(f"wrong type: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"not JSON: {error}") from None
        if isinstance(row, Feedback) and row.prediction_id is None and row.customer_id is None:
            raise Refused("prediction_id and customer_id are null; expected one of them")
        return row

    def _features_decoder(self, row: Prediction) -> Callable[[msgspec.Raw], object]:
        decode = self._features.get(row.fingerprint)
        if decode is None:
            contract = self._known.find(row.fingerprint, row.model_version)
            if contract is None:
                raise Refused(
                    f"unknown contract {row.fingerprint[:12]}: neither in use nor in bundle {row.model_version}"
                )
            self.contracts[row.fingerprint] = contract
            decode = self._features[row.fingerprint] = msgspec.json.Decoder(_features_type(contract)).decode
        return decode

    def canonical(self, line: bytes, number: int) -> bytes:
        """An accepted line with its number, in the spelling that DuckDB reads: instants in UTC, days, booleans.

        Raises Refused for an invalid instant or day, and for bytes that are not UTF-8 in a field without a type.
        """
        try:
            row: dict[str, Any] = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"not JSON: {error}") from None
        for name in INSTANTS:
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
        raise Refused(f"{name} is not an ISO 8601 instant") from None
    return instant.isoformat()


def _cell(column: Column, value: Any) -> Any:
    if column.kind is Kind.BOOLEAN:
        if value not in (0, 1):
            raise Refused(f"{column.name} is not a boolean")
        return bool(value)
    if column.kind is Kind.DATE:
        try:
            return dt.datetime.fromisoformat(value).date().isoformat()
        except ValueError:
            raise Refused(f"{column.name} is not an ISO 8601 date") from None
    return value


class KnownContracts:
    """Finds a contract by its fingerprint and keeps a copy, so that it is known after its bundle was deleted.

    `folder` has the warehouse's own `<fingerprint>.toml` files, `bundles` a folder for each version.
    """

    def __init__(self, folder: Path, bundles: Path, current: Contract) -> None:
        self._folder, self._bundles, self._current = folder, bundles, current

    def find(self, fingerprint: str, version: str) -> Contract | None:
        """The contract, or None if it is not this project's, not in the bundle of `version` and not kept."""
        if fingerprint == self._current.fingerprint:
            self._keep(self._current)
            return self._current
        if not (fingerprint.isalnum() and version.isalnum()):  # both come from a line, and become a path
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

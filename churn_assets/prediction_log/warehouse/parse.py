"""Strict decoding of the log's lines at ingest, and the contracts that predictions were made under.

A line that does not match its type of `records` goes to quarantine with the reason. A prediction's features are checked
against the kinds of the contract it was scored under, not against its bounds: bad values are for monitoring to report.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from churn_assets.contract.load import load_contract
from churn_assets.contract.model import Column, Contract, Kind
from churn_assets.contract.values import iso_day
from churn_assets.errors import ContractError
from churn_assets.prediction_log import records
from churn_assets.prediction_log.records import (
    INSTANTS,
    Contact,
    Feedback,
    LostRows,
    Rejections,
    SourceDecision,
    Unacknowledged,
    parse_instant,
)
from churn_assets.storage.files import open_file, read_file, write_text

MAX_LINE = 2**20
_BUNDLE_FILE, _FEATURES_FILE = "contract.toml", "features.json"  # as scoring.bundle writes them


class Refused(Exception):
    """A line that cannot be ingested; the message is the reason. Never leaves this package."""


class Prediction(records.Prediction, tag="prediction", tag_field="kind", frozen=True, gc=False, kw_only=True):
    """A prediction; its features are decoded once its contract is known."""

    features: msgspec.Raw  # type: ignore[assignment]  # decoding differs, the bytes are the same


Line = Prediction | Feedback | Contact | Rejections | SourceDecision | Unacknowledged | LostRows


@dataclass
class SegmentRead:
    """A segment after the strict check: `lines` counts complete ones, `fingerprints` are of its predictions' contracts.

    `quarantined` has (line number, reason, line).
    """

    lines: int = 0
    torn: int = 0
    size: int = 0
    fingerprints: set[str] = field(default_factory=set)
    quarantined: list[tuple[int, str, bytes]] = field(default_factory=list)

    @property
    def plain(self) -> bool:
        """Whether DuckDB can read the file as it is."""
        return not self.quarantined and not self.torn and len(self.fingerprints) <= 1


class Checker:
    """Decodes lines strictly; keeps a decoder of features for each contract and model.

    A contract is found by its fingerprint: the `current` one, one in `folder` (`<fingerprint>.toml`), or that of a
    version's folder in `bundles`. It is copied to `folder`, so that it is known after its bundle was deleted.
    """

    def __init__(self, folder: Path, bundles: Path, current: Contract) -> None:
        self._folder, self._bundles, self._current = folder, bundles, current
        self._decode = msgspec.json.Decoder(Line).decode
        self._features: dict[tuple[str, str], Callable[[msgspec.Raw], object]] = {}
        self.contracts: dict[str, Contract] = {}

    def read(self, path: Path) -> SegmentRead:
        """Check every line of a segment, numbered from 1; only refused lines are kept. Raises OSError."""
        read = SegmentRead()
        with open_file(path) as lines:
            for line in lines:
                read.size += len(line)
                if not line.endswith(b"\n"):
                    read.torn += 1
                    continue
                read.lines += 1
                try:
                    row = self(line)
                except Refused as error:
                    read.quarantined.append((read.lines, str(error), line))
                    continue
                if isinstance(row, Prediction):
                    read.fingerprints.add(row.fingerprint)
        return read

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
        scored_by = (row.fingerprint, row.model_version)
        if scored_by not in self._features:
            contract = self._find(row.fingerprint, row.model_version)
            if contract is None:
                raise Refused(
                    f"unknown contract {row.fingerprint[:12]}: neither in use nor in bundle {row.model_version}"
                )
            self.contracts[row.fingerprint] = contract
            features_type = _features_type(contract, self._unread(row.model_version))
            self._features[scored_by] = msgspec.json.Decoder(features_type).decode
        return self._features[scored_by]

    def _unread(self, version: str) -> frozenset[str]:
        """Columns that the model of a bundle leaves out, so that its rows may lack them; none if the bundle is gone."""
        if not version.isalnum():
            return frozenset()
        try:
            return frozenset(json.loads(read_file(self._bundles / version / _FEATURES_FILE)).get("excluded", ()))
        except (OSError, ValueError):
            return frozenset()

    def _find(self, fingerprint: str, version: str) -> Contract | None:
        if fingerprint == self._current.fingerprint:
            return self._keep(self._current)
        if not (fingerprint.isalnum() and version.isalnum()):  # both come from a line, and become a path
            return None
        for path in (self._folder / f"{fingerprint}.toml", self._bundles / version / _BUNDLE_FILE):
            with contextlib.suppress(ContractError):
                contract = load_contract(path)
                if contract.fingerprint == fingerprint:
                    return self._keep(contract)
        return None

    def _keep(self, contract: Contract) -> Contract:
        path = self._folder / f"{contract.fingerprint}.toml"
        if contract.text and not path.exists():
            write_text(path, contract.text)
        return contract

    def canonical(self, line: bytes, number: int) -> bytes:
        """An accepted line with its number, in the spelling that DuckDB reads: instants in UTC, days, booleans. Raises
        Refused for an invalid instant or day, and for bytes that are not UTF-8 in a field without a type."""
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


def _features_type(contract: Contract, unread: Collection[str]) -> type[msgspec.Struct]:
    types: dict[Kind, Any] = {Kind.NUMBER: float, Kind.INTEGER: float, Kind.BOOLEAN: bool | float}
    columns = sorted(contract.scoring_columns, key=lambda column: column.nullable or column.name in unread)
    names = {f"c{index}": column.name for index, column in enumerate(columns)}
    kinds = [types.get(column.kind, str) for column in columns]
    fields = [
        (name, kind | None, None) if column.nullable or column.name in unread else (name, kind)
        for name, kind, column in zip(names, kinds, columns, strict=True)
    ]
    return msgspec.defstruct("Features", fields, rename=names, gc=False)


def _instant(name: str, text: str) -> str:
    try:
        return parse_instant(text).isoformat()
    except (ValueError, OverflowError):
        raise Refused(f"{name} is not an ISO 8601 instant") from None


def _cell(column: Column, value: Any) -> Any:
    if column.kind is Kind.BOOLEAN:
        if value not in (0, 1):
            raise Refused(f"{column.name} is not a boolean")
        return bool(value)
    if column.kind is Kind.DATE:
        day = iso_day(value)
        if day is None:
            raise Refused(f"{column.name} is not an ISO 8601 date")
        return day.isoformat()
    return value

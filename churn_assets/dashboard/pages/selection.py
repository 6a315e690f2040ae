"""Which answers of the log a page counts: those of a model version, and of a segment of the customers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.exceptions import HTTPException

from churn_assets.contract.model import Contract, Kind
from churn_assets.prediction_log.schema import quoted, table_column

MISSING = "(missing)"
_BOOLEAN = {"yes": "true", "no": "false"}


@dataclass(frozen=True)
class Selection:
    """A model `version`, and the `level` of a `column` of the contract; "" for all."""

    version: str = ""
    column: str = ""
    level: str = ""

    def where(self) -> tuple[str, dict[str, str]]:
        """SQL that is true for the answers that count, and the values that it names."""
        parts, values = ["true"], {}
        if self.version:
            parts.append("model_version = $version")
            values["version"] = self.version
        if self.column:
            cell = quoted(table_column(self.column))
            if self.level == MISSING:
                parts.append(f"{cell} IS NULL")
            else:
                parts.append(f"CAST({cell} AS VARCHAR) = $level")
                values["level"] = _BOOLEAN.get(self.level, self.level)
        return " AND ".join(parts), values


def segment_columns(contract: Contract | None) -> dict[str, tuple[str, ...]]:
    """The levels of each column by which customers can be told apart, from the contract."""
    if contract is None:
        return {}
    return {
        column.name: (*(tuple(_BOOLEAN) if column.kind is Kind.BOOLEAN else column.choices), *_missing(column.nullable))
        for column in contract.scoring_columns
        if column.kind in (Kind.BOOLEAN, Kind.CATEGORY)
    }


def read_selection(columns: Mapping[str, tuple[str, ...]], parameters: Mapping[str, str]) -> Selection:
    """The selection of a query: `version`, and `segment`, "column=level". Raises HTTPException for a segment that there
    is not."""
    segment = parameters.get("segment", "")
    column, _, level = segment.partition("=")
    if segment and level not in columns.get(column, ()):
        raise HTTPException(
            400, f"there is no segment {segment[:60]!r}, expected column=level with a level of: {', '.join(columns)}"
        )
    return Selection(parameters.get("version", ""), column, level)


def as_query(values: Mapping[str, object]) -> str:
    """A query string of the values that say something."""
    shown = {name: value for name, value in values.items() if value not in ("", None, False)}
    return urlencode({name: "1" if value is True else value for name, value in shown.items()})


def _missing(nullable: bool) -> tuple[str, ...]:
    return (MISSING,) if nullable else ()

"""Columns of the log as SQL: cells as the contract's kind says they are, whatever type the table gave them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from churn_assets.contract.model import Column, Kind
from churn_assets.predlog.schema import literal, quoted

NAN = "CAST('nan' AS DOUBLE)"
TEXTS = frozenset({Kind.CATEGORY, Kind.TEXT, Kind.ID})
ORDERED = frozenset({Kind.NUMBER, Kind.INTEGER, Kind.DATE})
COUNTED = frozenset({Kind.CATEGORY, Kind.BOOLEAN})
AGGREGATES = 6
# Types that hold nothing but cells of the kind; a column of any other type is read as text.
_OWN_TYPES: Mapping[Kind, frozenset[str]] = {
    **dict.fromkeys((Kind.NUMBER, Kind.INTEGER), frozenset({"DOUBLE", "FLOAT", "BIGINT", "INTEGER", "TINYINT"})),
    Kind.BOOLEAN: frozenset({"BOOLEAN"}),
    Kind.DATE: frozenset({"DATE"}),
}
_SQL_TYPES: Mapping[Kind, str] = {
    **dict.fromkeys((Kind.NUMBER, Kind.INTEGER), "DOUBLE"),
    Kind.BOOLEAN: "BOOLEAN",
    Kind.DATE: "DATE",
}


@dataclass(frozen=True)
class Cells:
    """One column of the contract and where it stands: `name` in the table, of `sql_type`."""

    column: Column
    name: str
    sql_type: str

    @property
    def _as_text(self) -> str:
        return f"CAST({quoted(self.name)} AS VARCHAR)"

    @property
    def _foreign(self) -> bool:
        return self.column.kind not in TEXTS and self.sql_type not in _OWN_TYPES[self.column.kind]

    @property
    def value(self) -> str:
        """SQL of a cell as the kind says it is, dates as days since 1970; null where it is something else."""
        kind = self.column.kind
        if kind in TEXTS:
            return self._as_text
        typed = f"TRY_CAST({self._as_text if self._foreign else quoted(self.name)} AS {_SQL_TYPES[kind]})"
        if kind is Kind.DATE:
            return f"CAST(date_diff('day', DATE '1970-01-01', {typed}) AS DOUBLE)"
        return typed if kind is Kind.BOOLEAN else f"(CASE WHEN NOT isnan({typed}) THEN {typed} END)"

    @property
    def sampled(self) -> str:
        """SQL of a cell for the sample: text, or a number with NaN for missing."""
        return self.value if self.column.kind in TEXTS else f"coalesce(CAST({self.value} AS DOUBLE), {NAN})"

    def aggregates(self, bounds: tuple[float, float] | None) -> Iterator[str]:
        """Missing, unreadable, infinite, outside `bounds` (a category: no choice), lowest and highest finite value."""
        value, text = self.value, self._as_text
        wrong = f"count(*) FILTER ({value} IS NULL AND {text} IS NOT NULL AND lower({text}) <> 'nan')"
        unreadable = wrong if self._foreign else "0"
        yield f"count(*) - count({value}) - {unreadable}"
        yield unreadable
        if self.column.kind not in ORDERED:
            choices = ", ".join(map(literal, self.column.choices))
            yield from ("0", f"count(*) FILTER ({value} NOT IN ({choices}))" if choices else "0", "NULL", "NULL")
            return
        finite = f"isfinite({value})"
        beyond = f"NOT {value} BETWEEN {bounds[0]!r} AND {bounds[1]!r}" if bounds else "false"
        yield f"count(*) FILTER (isinf({value}))"
        yield f"count(*) FILTER ({finite} AND {beyond})"
        yield f"min({value}) FILTER ({finite})"
        yield f"max({value}) FILTER ({finite})"

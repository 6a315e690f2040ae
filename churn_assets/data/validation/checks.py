"""Every way in which a row can break the contract, each as a mask over all rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Column, Contract, Kind, Severity
from churn_assets.data.validation.parse import as_text, canonical_number, parse_column, read_boolean, to_numpy
from churn_assets.errors import printable
from churn_assets.features.compile import RuleProgram, compile_rules
from churn_assets.features.encode import encode_table, expectation

Mask = npt.NDArray[np.bool_]

_MAX_LENGTH = 60
_SHOWN_VALUES = 5


@dataclass(frozen=True)
class Finding:
    """Rows (`mask`, shape (rows,)) that break the contract in one way; `describe(row)` is the message for one row."""

    reason: str
    column: str
    mask: Mask
    describe: Callable[[int], str]
    severity: Severity = Severity.REJECT


def check_cells(contract: Contract, table: pa.Table) -> tuple[dict[str, pa.Array], list[Finding]]:
    """Typed columns, null where a cell breaks the contract, and the findings. Reasons: kind, infinite, null, choices,
    bounds. Those of an excluded column are counted only, and it may be absent."""
    typed: dict[str, pa.Array] = {}
    findings: list[Finding] = []
    for column in contract.kept_columns:
        excluded = column.name in contract.unread
        absent = excluded and column.name not in table.column_names
        cells = pa.nulls(table.num_rows, pa.string()) if absent else table.column(column.name)
        parsed = parse_column(column, cells)
        typed[column.name], outside = _within(column, parsed.values)
        masks = {
            "kind": parsed.unreadable,
            "infinite": parsed.infinite,
            "null": parsed.missing if not (column.nullable or excluded) else np.zeros(len(cells), dtype=bool),
            "choices" if column.kind is Kind.CATEGORY else "bounds": outside,
        }
        describe = _cell_message(column.name, cells, expectation(column))
        severity = Severity.WARN if excluded else Severity.REJECT
        broken = [(reason, mask) for reason, mask in masks.items() if mask.any()]
        findings += [Finding(reason, column.name, mask, describe, severity) for reason, mask in broken]
    return typed, findings


def check_label(contract: Contract, table: pa.Table) -> tuple[npt.NDArray[np.int8], list[Finding], str]:
    """(1 churned, 0 kept, -1 neither; findings `null` and `label`; the distinct values as text)."""
    column, label = contract.label_column, contract.label
    cells = as_text(table.column(column.name))
    encoded = cells.dictionary_encode()
    known = {_label_text(column, value): 0 for value in label.kept_values}
    known[_label_text(column, label.churned_when)] = 1
    spellings: list[str] = encoded.dictionary.to_pylist()
    empty = [not text.strip() or text in column.missing for text in spellings]
    meaning = np.array([known.get(_label_text(column, text), -1) for text in spellings] + [-1], dtype=np.int8)
    codes = to_numpy(pc.fill_null(encoded.indices, -1))
    churned = meaning[codes]
    missing = np.array([*empty, True])[codes]
    expected = f"'{label.churned_when}' (churned) or {label.kept_text} (kept)"
    describe = _cell_message(column.name, cells, expected)
    masks = {"null": missing, "label": (churned < 0) & ~missing}
    findings = [Finding(reason, column.name, mask, describe) for reason, mask in masks.items() if mask.any()]
    values = [quote_cell(text) for text, is_empty in zip(spellings, empty, strict=True) if not is_empty]
    more = f" and {len(values) - _SHOWN_VALUES} more" if len(values) > _SHOWN_VALUES else ""
    return churned, findings, (", ".join(values[:_SHOWN_VALUES]) or "nothing") + more


def check_rules(
    contract: Contract, typed: Mapping[str, pa.Array], as_of: float | npt.NDArray[np.float64]
) -> list[Finding]:
    """Rows that break the contract's rules, reason `rule:<name>`; a row for which a rule is null passes."""
    programs = compile_rules(contract)
    if not programs:
        return []
    columns = encode_table(contract, pa.table(dict(typed)))
    masks = [program(columns, as_of) for program in programs]
    return [
        Finding(f"rule:{rule.name}", rule.name, mask, _rule_message(program, typed), rule.severity)
        for program, rule, mask in zip(programs, contract.rules, masks, strict=True)
        if mask.any()
    ]


def check_ids(
    contract: Contract, ids: pa.Array, churned: npt.NDArray[np.int8], broken: Mask
) -> tuple[list[Finding], int, int]:
    """(findings `duplicate_id` and `conflicting_label`, repeated customers, customers in conflict).

    Rows of one customer whose labels disagree are all in conflict. Of other repeated rows the first one
    that is not `broken` is kept.
    """
    rows = len(ids)
    encoded = ids.dictionary_encode()
    size = len(encoded.dictionary)
    codes = to_numpy(pc.fill_null(encoded.indices, size))  # rows without an id share the last slot
    named = codes < size
    repeated = np.bincount(codes, minlength=size + 1) > 1
    repeated[size] = False
    kept_row, churned_row = (np.bincount(codes[churned == value], minlength=size + 1) > 0 for value in (0, 1))
    both = kept_row & churned_row & repeated
    kept = np.full(size + 1, rows)
    for candidates in (np.flatnonzero(named), np.flatnonzero(named & ~broken)):
        kept[codes[candidates[::-1]]] = candidates[::-1]  # the first row of each; unbroken rows come first
    later = repeated[codes] & ~both[codes] & (kept[codes] != np.arange(rows))
    key = contract.key.name

    def describe(row: int) -> str:
        name = quote_cell(ids[row].as_py())
        if both[codes[row]]:
            return f"{key}: rows of {name} disagree on '{contract.label.column}'"
        return f"{key}: {name} stands in row {kept[codes[row]]} already"

    findings = [Finding("duplicate_id", key, later, describe), Finding("conflicting_label", key, both[codes], describe)]
    return [f for f in findings if f.mask.any()], int(repeated.sum()), int(both.sum())


def rejected_rows(findings: Sequence[Finding], rows: int) -> Mask:
    """Mask of the rows that at least one rejecting finding names, shape (rows,)."""
    rejecting = [finding.mask for finding in findings if finding.severity is Severity.REJECT]
    return np.asarray(np.logical_or.reduce(rejecting)) if rejecting else np.zeros(rows, dtype=bool)


def quote_cell(value: object) -> str:
    """A cell in a message: one line, quoted, shortened."""
    if value is None:
        return "null"
    text = printable(" ".join(str(value).split()))
    return f"'{text}'" if len(text) <= _MAX_LENGTH else f"'{text[: _MAX_LENGTH - 3]}...'"


def _within(column: Column, values: pa.Array) -> tuple[pa.Array, Mask]:
    """(values without those outside bounds or choices, mask of those outside)."""
    outside = np.zeros(len(values), dtype=bool)
    if column.kind is Kind.CATEGORY:
        known = pc.is_in(values, value_set=pa.array(column.choices, pa.string()))
        outside = to_numpy(pc.and_(pc.is_valid(values), pc.invert(known)))
    for bound, compare in ((column.low, pc.less), (column.high, pc.greater)):
        if bound is not None:
            limit = pa.scalar(dt.date.fromisoformat(bound) if isinstance(bound, str) else bound)
            outside = outside | to_numpy(pc.fill_null(compare(values, limit), False))
    return (pc.if_else(pa.array(outside), pa.scalar(None, values.type), values) if outside.any() else values), outside


def _cell_message(name: str, cells: pa.Array | pa.ChunkedArray, expected: str) -> Callable[[int], str]:
    def describe(row: int) -> str:
        text = as_text(pa.array([cells[row].as_py()], cells.type))[0].as_py()
        return f"{name}: found {quote_cell(text)}, expected {expected}"

    return describe


def _rule_message(program: RuleProgram, typed: Mapping[str, pa.Array]) -> Callable[[int], str]:
    def describe(row: int) -> str:
        cells = ", ".join(f"{name} {quote_cell(typed[name][row].as_py())}" for name in program.columns)
        return f"{program.name}: '{program.expression}' does not hold for {cells}"

    return describe


def _label_text(column: Column, text: str) -> str:
    meaning = read_boolean(column, text) if column.kind is Kind.BOOLEAN else None
    return canonical_number(text) if meaning is None else str(meaning)

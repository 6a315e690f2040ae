"""Splits a table into rows that keep the contract, typed, and rejected rows, with every reason.

No row is dropped: each row of the raw table is in exactly one of the two tables, in the file's order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.model import Contract, Role, Severity
from churn_assets.data.customers import CHURNED, TableOrigin
from churn_assets.data.readers.read import check_columns
from churn_assets.data.repeats import refuse_numbered_repeats
from churn_assets.data.validation.checks import Finding, check_cells, check_ids, check_label, check_rules, rejected_rows
from churn_assets.data.validation.parse import as_days, as_text
from churn_assets.data.validation.report import Cause, Outcome, ValidationReport
from churn_assets.errors import ColumnAllNull, EmptySource, LabelError, TooFewRows
from churn_assets.features.compile import as_of_days

ROW, REASONS, DETAIL = "source_row", "reasons", "detail"


@dataclass(frozen=True)
class Validated:
    """The result of a validation.

    `customers` are typed rows that keep the contract, `rows` their source rows, shape (valid rows,). `rejected` has
    `source_row` (0-based data row), the raw cells as text, `reasons` (list of codes) and `detail` (text). `report`
    has the figures.
    """

    customers: pa.Table
    rejected: pa.Table
    report: ValidationReport
    rows: npt.NDArray[np.int64]


def validate(
    contract: Contract,
    table: pa.Table,
    *,
    raw: pa.Table | None = None,
    source: str = "",
    generated: bool = False,
    as_of: dt.date | None = None,
) -> Validated:
    """Check a repaired raw table, label included, against the contract.

    `raw` is the table before repair, from which rejected cells are shown. `source` and `generated` go into the
    metadata of the customers (see `TableOrigin`). `as_of` overrides the contract's snapshot. Raises errors of the
    whole table: EmptySource, ColumnMissing, TooFewRows, ColumnAllNull, LabelError, RepeatedCustomers. Too many
    rejected rows are not an error here: see `report.over_limit`.
    """
    _check_shape(contract, table, source, label_required=True)
    minimum = contract.quality.min_rows
    if table.num_rows < minimum:
        raise TooFewRows(f"{table.num_rows} rows; expected at least {minimum} ([quality] min_rows); add rows")
    refuse_numbered_repeats(contract, table)
    churned, label_findings, values = check_label(contract, table)
    _two_classes(contract, churned, values)
    result = _checked(contract, table, raw, TableOrigin(source, generated), as_of, (churned, label_findings))
    _not_only_null(contract, table, result.customers)
    if not result.report.over_limit:  # otherwise the causes are the better message
        if result.customers.num_rows < minimum:
            raise TooFewRows(
                f"{result.customers.num_rows} valid rows of {table.num_rows}; expected at least {minimum} "
                "([quality] min_rows); add rows or repair the rejected ones"
            )
        _two_classes(contract, np.asarray(result.customers[CHURNED], dtype=np.int8), values)
    return result


def validate_features_only(
    contract: Contract,
    table: pa.Table,
    *,
    raw: pa.Table | None = None,
    source: str = "",
    as_of: dt.date | None = None,
    first_row: int = 0,
) -> Validated:
    """Check rows that are to be scored: no label is needed, and a label column is ignored.

    For batches: `first_row` is the source row of the first row. A repeated customer is not a
    violation here. Raises EmptySource and ColumnMissing.
    """
    _check_shape(contract, table, source, label_required=False)
    return _checked(contract, table, raw, TableOrigin(source), as_of, None, first_row)


def _checked(
    contract: Contract,
    table: pa.Table,
    raw: pa.Table | None,
    origin: TableOrigin,
    as_of: dt.date | None,
    label: tuple[npt.NDArray[np.int8], list[Finding]] | None,
    first_row: int = 0,
) -> Validated:
    rows = table.num_rows
    typed, findings = check_cells(contract, table)
    snapshot, instants, as_of_origin = _snapshot(contract, typed, as_of)
    findings += check_rules(contract, typed, instants)
    repeated = conflicting = 0
    if label is not None:
        churned, label_findings = label
        findings += label_findings
        broken = rejected_rows(findings, rows)
        id_findings, repeated, conflicting = check_ids(contract, typed[contract.key.name], churned, broken)
        findings += id_findings
        typed[CHURNED] = pa.array(np.maximum(churned, 0), pa.int8())
    broken = rejected_rows(findings, rows)
    origin = replace(origin, as_of=snapshot.isoformat(), contract=contract.fingerprint)
    customers = origin.added_to(_customers(contract, typed, broken))
    report = ValidationReport(
        rows_in=rows,
        rows_valid=customers.num_rows,
        rows_rejected=int(broken.sum()),
        rejected_share=float(broken.mean()),
        max_rejected_share=contract.quality.max_rejected_share,
        as_of=snapshot,
        as_of_origin=as_of_origin,
        duplicate_ids=repeated,
        conflicting_ids=conflicting,
        causes=_causes(findings),
    )
    rejected = _rejected(table if raw is None else raw, findings, broken, first_row)
    return Validated(customers, rejected, report, np.flatnonzero(~broken) + first_row)


def _customers(contract: Contract, typed: Mapping[str, pa.Array], broken: npt.NDArray[np.bool_]) -> pa.Table:
    # The label keeps its place in the contract's order, under the name that all other packages use.
    names = [CHURNED if c.role is Role.LABEL else c.name for c in contract.columns if c.role is not Role.IGNORE]
    return pa.table({name: typed[name] for name in names if name in typed}).filter(pa.array(~broken)).combine_chunks()


def _rejected(raw: pa.Table, findings: Sequence[Finding], broken: npt.NDArray[np.bool_], first_row: int) -> pa.Table:
    rows = np.flatnonzero(broken)
    reasons: dict[int, list[str]] = {row: [] for row in rows.tolist()}
    details: dict[int, list[str]] = {row: [] for row in rows.tolist()}
    for finding in findings:
        for row in np.flatnonzero(finding.mask & broken).tolist():
            reasons[row].append(finding.reason)
            details[row].append(finding.describe(row))
    cells = raw.take(pa.array(rows))
    names = [f"{name}_" if name in (ROW, REASONS, DETAIL) else name for name in raw.column_names]
    return pa.table(
        {
            ROW: pa.array(rows + first_row, pa.int64()),
            **dict(zip(names, map(as_text, cells.columns), strict=True)),
            REASONS: pa.array([list(dict.fromkeys(codes)) for codes in reasons.values()], pa.list_(pa.string())),
            DETAIL: pa.array(["; ".join(texts) for texts in details.values()], pa.string()),
        }
    )


def _causes(findings: Sequence[Finding]) -> tuple[Cause, ...]:
    causes = []
    for finding in findings:
        first = int(np.argmax(finding.mask))
        example = f"row {first}, {finding.describe(first)}"
        outcome = Outcome.REJECTED if finding.severity is Severity.REJECT else Outcome.COUNTED
        causes.append(Cause(finding.reason, finding.column, int(finding.mask.sum()), outcome, example))
    return tuple(sorted(causes, key=lambda c: -c.rows))


def _snapshot(
    contract: Contract, typed: Mapping[str, pa.Array], given: dt.date | None
) -> tuple[dt.date, float | npt.NDArray[np.float64], str]:
    """(the snapshot, as_of in days for the rules, where it comes from)."""
    rule = contract.time.as_of
    if given is not None:
        return given, as_of_days(given), "given by the caller"
    if rule in contract.by_name:
        newest = pc.max(typed[rule]).as_py() or dt.datetime.now(dt.UTC).date()
        return newest, as_days(typed[rule]), f"newest '{rule}'; each row has its own"
    if rule != "latest":
        return dt.date.fromisoformat(rule), as_of_days(rule), "fixed in the contract"
    ends = {c.name: pc.max(typed[c.name]).as_py() for c in contract.date_columns}
    known = {name: end for name, end in ends.items() if end is not None}
    if not known:
        today = dt.datetime.now(dt.UTC).date()
        return today, as_of_days(today), "today: the table has no dates"
    name = max(known, key=lambda n: known[n])
    return known[name], as_of_days(known[name]), f"newest date of the table, in '{name}'"


def _check_shape(contract: Contract, table: pa.Table, source: str, label_required: bool) -> None:
    where = source or "the table"
    if table.num_rows == 0:
        raise EmptySource(f"{where} has no rows; expected at least 1 customer; add rows")
    check_columns(table.column_names, contract, where, label_required=label_required)


def _not_only_null(contract: Contract, table: pa.Table, customers: pa.Table) -> None:
    for column in (contract.key, *contract.scoring_columns):
        if customers[column.name].null_count < customers.num_rows:
            continue
        if pc.all(pc.is_in(as_text(table[column.name]), pa.array([None, "", *column.missing], pa.string()))).as_py():
            raise ColumnAllNull(
                f"column '{column.name}' is empty in all {table.num_rows:,} rows; expected at least 1 value; "
                "fill it, or give it role 'ignore' in the contract"
            )


def _two_classes(contract: Contract, churned: npt.NDArray[np.int8], values: str) -> None:
    label = contract.label
    counts = {f"'{label.churned_when}'": int((churned == 1).sum()), label.kept_text: int((churned == 0).sum())}
    if min(counts.values()) > 0:
        return
    rows_of = " and ".join(f"{n:,} rows of {value}" for value, n in counts.items())
    raise LabelError(
        f"label column '{label.column}' contains {values}: {rows_of}; expected both '{label.churned_when}' (churned) "
        f"and {label.kept_text} (kept); add customers of both kinds or correct [label]"
    )

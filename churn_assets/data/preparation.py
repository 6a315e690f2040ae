"""From the raw table to the validated one, which models are trained on."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pyarrow as pa

from churn_assets.contract.model import Contract
from churn_assets.data.customers import TableOrigin, mark_table
from churn_assets.data.repairs.repairs import apply_repairs
from churn_assets.data.validation.report import ValidationReport, with_report
from churn_assets.data.validation.validate import validate


@dataclass(frozen=True)
class PreparedTable:
    """`customers` keep the contract, typed and marked, with the `report` in their metadata; `rejected` do not."""

    customers: pa.Table
    rejected: pa.Table
    report: ValidationReport


def prepare_table(contract: Contract, raw: pa.Table) -> PreparedTable:
    """Repair known damage of a raw table, then validate every row. Raises as `validation.validate.validate`."""
    origin = TableOrigin.of(raw)
    repaired, repairs = apply_repairs(raw, contract)
    validated = validate(contract, repaired, raw=raw, source=origin.source, generated=origin.generated)
    report = msgspec.structs.replace(validated.report, repairs=repairs)
    return PreparedTable(mark_table(contract, with_report(validated.customers, report)), validated.rejected, report)

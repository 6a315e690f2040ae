"""Rows below a table that sum it up: they are no customers, and no range or choice of a draft may follow them."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.data.validation.parse import as_text

_TOTAL = re.compile(
    r"\s*(grand|sub)?[ -]?(totals?|sum|summe|gesamt(summe)?|insgesamt|somme|suma|soma|totale|totaal"
    r"|итого|всего|合計|总计|合计)\s*:?\s*",
    re.IGNORECASE,
)


def without_totals(table: pa.Table, label: str) -> tuple[pa.Table, str]:
    """(`table` without its rows of totals, a question about them, '' if there are none): rows without a label in which
    a text says that they are totals."""
    unlabelled = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(as_text(table.column(label)), "")), "")
    rows = pc.indices_nonzero(unlabelled).to_pylist()
    texts = [name for name in table.column_names if pa.types.is_string(table.column(name).type) and name != label]
    cells = {row: [table.column(name)[row].as_py() for name in texts] for row in rows}
    totals = {row: cell for row, own in cells.items() for cell in own if cell and _TOTAL.fullmatch(cell)}
    if not totals:
        return table, ""
    kept = pa.array([row not in totals for row in range(table.num_rows)])
    noun = "row is a total" if len(totals) == 1 else "rows are totals"
    text = next(iter(totals.values())).strip()
    return table.filter(kept), f"{len(totals):,} {noun} ('{text}'), so it is rejected and sets no range. Is that right?"

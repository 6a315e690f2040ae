"""The call list as people read it: the calls only, rounded, with what the figures rest on, as CSV or workbook."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from churn_assets.contract.model import Contract
from churn_assets.errors import SettingsError
from churn_assets.scoring.call_list import REASON_COLUMNS
from churn_assets.scoring.list_money import ListMoney, describe_list_money
from churn_assets.storage.csv_cells import neutral_text
from churn_assets.storage.files import replacing, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIXES = (".csv", ".xlsx")
PERCENT, MONEY = "churn probability", ("value at risk", "expected profit")
CONTROL = "control group"
_WIDTHS = {"rank": 7, PERCENT: 12, "risk band": 11, CONTROL: 15}
_WIDEST, _REASON_WIDTH = 40, 48


@dataclass(frozen=True)
class CallSheet:
    """A header and rows of cells (numbers, texts, days, or None), and notes on them as sentences. Probabilities are
    0 to 1, in whole percent."""

    header: tuple[str, ...]
    rows: list[list[object]]
    notes: tuple[str, ...]


def call_sheet(calls: pa.Table, customers: pa.Table, contract: Contract, money: ListMoney) -> CallSheet:
    """The sheet of `calls` (`call_list.calls_of`, with reasons if there are any) and their `customers`, a typed table
    row by row beside it, of which the columns with `show` are shown."""
    shown = [c for c in contract.kept_columns if c.show and c.name in customers.column_names]
    control = calls["control"].to_pylist()
    probability = [_percent(p) for p in calls["churn_probability"].to_pylist()]
    risk = (calls["churn_probability"].to_numpy() * calls["customer_value"].to_numpy()).tolist()
    profit = calls["expected_value"].to_pylist()
    columns: dict[str, Sequence[object]] = {
        "rank": calls["rank"].to_pylist(),
        "customer": calls["customer_id"].to_pylist(),
        PERCENT: probability,
        MONEY[0]: _money(risk),
        MONEY[1]: [None if left else amount for left, amount in zip(control, _money(profit), strict=True)],
        "risk band": calls["risk_band"].to_pylist(),
    }
    for column in shown:
        unit = f" ({column.unit})" if column.unit else ""
        name = f"{column.name}{unit}"
        columns[name if name not in columns else f"{name} in the table"] = [
            _readable(cell) for cell in customers[column.name].to_pylist()
        ]
    for number, name in enumerate(REASON_COLUMNS, start=1):
        if name in calls.column_names:
            columns[f"reason {number}"] = calls[name].to_pylist()
    if contract.value.control_share:
        columns[CONTROL] = ["yes, do not contact" if left else None for left in control]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return CallSheet(tuple(columns), rows, _notes(calls, contract, money))


def write_call_sheet(sheet: CallSheet, path: Path) -> tuple[Path, ...]:
    """Write a workbook (.xlsx) with the notes on a second sheet, or a CSV file (.csv) with the notes in
    `<name>.notes.txt` beside it; the paths written. Raises SettingsError for another suffix or a place that cannot be
    written."""
    check_suffix(path)
    try:
        if path.suffix.lower() == ".xlsx":
            with replacing(path) as temporary:
                _workbook(sheet).save(temporary)
            return (path,)
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as file:
            import csv  # the signature at the beginning is what Excel knows UTF-8 by

            writer = csv.writer(file)
            writer.writerow(map(neutral_text, sheet.header))
            writer.writerows([_csv_cell(*cell) for cell in zip(sheet.header, row, strict=True)] for row in sheet.rows)
        notes = notes_path(path)
        write_text(notes, "\n".join(sheet.notes) + "\n")
        return path, notes
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror or error}); name another output") from error


def notes_path(path: Path) -> Path:
    """Where the notes of a CSV call list are."""
    return path.with_name(f"{path.stem}.notes.txt")


def check_suffix(path: Path) -> None:
    """Raise SettingsError unless a call list can be written to a file of this name."""
    if path.suffix.lower() not in SUFFIXES:
        raise SettingsError(f"{path.name} ends in '{path.suffix}', expected one of: {', '.join(SUFFIXES)}; rename it")


def _notes(calls: pa.Table, contract: Contract, money: ListMoney) -> tuple[str, ...]:
    value = contract.value
    origin = []
    if calls.num_rows:
        days = sorted(set(calls["as_of"].to_pylist()))
        day = f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}"
        origin = [f"Made by model {calls['model_version'][0]} of contract '{contract.name}', of customers as of {day}."]
    worth = f"'{value.value}'" if value.value else f"{value.customer_value:,.0f} for each customer"
    rate = f"{value.save_rate:.0%} of contacted churners"
    if value.save_rates is not None:
        rate = f"as many contacted churners as [value] gives for '{value.save_rates.column}'"
    control = "Customers of the control group are not to be contacted: only comparing them shows what contacting does."
    return (
        *origin,
        *describe_list_money(money),
        f"Value at risk: probability x value of the customer ({worth}). Expected profit: what a contact brings on "
        f"average, less the offer of {value.offer_cost:,.6g}, if {rate} stay because of it. No table shows that share; "
        "only a test with a control group does.",
        *([control] * bool(value.control_share)),
        *(
            ["A reason says why the model's score is high, not why a customer leaves."]
            * ("reason_1" in calls.column_names)
        ),
    )


def _percent(probability: float) -> float:
    """To whole percent, 1 % to 99 %: nobody is certain to stay or to leave."""
    return min(0.99, max(0.01, round(probability, 2)))


def _money(amounts: Sequence[float]) -> list[float]:
    """Whole amounts, or hundredths if all are small."""
    digits = 0 if max(map(abs, amounts), default=0.0) >= 10.0 else 2
    return [round(amount, digits) + 0.0 for amount in amounts]


def _readable(cell: object) -> object:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return float(f"{cell:.6g}") if isinstance(cell, float) else cell


def _csv_cell(name: str, cell: object) -> object:
    if name == PERCENT:
        return f"{cell:.0%}"
    if isinstance(cell, float):
        return f"{cell:.0f}" if cell.is_integer() else f"{cell:.10g}"
    return neutral_text(cell)


def _workbook(sheet: CallSheet) -> Any:
    from openpyxl import Workbook
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = Workbook()
    page, notes = book.active, book.create_sheet("Notes")
    page.title, page.freeze_panes = "Calls", "C2"
    for at, values in enumerate([sheet.header, *sheet.rows], start=1):
        for number, (name, cell) in enumerate(zip(sheet.header, values, strict=True), start=1):
            _put(page.cell(at, number), cell, "" if at == 1 else name)
    for number, name in enumerate(sheet.header, start=1):
        page.cell(1, number).font = Font(bold=True)
        page.column_dimensions[get_column_letter(number)].width = _width(name, (row[number - 1] for row in sheet.rows))
    page.auto_filter.ref = page.dimensions
    for at, line in enumerate(sheet.notes, start=1):
        _put(notes.cell(at, 1), line, "")
    notes.column_dimensions["A"].width = 140
    return book


def _put(cell: Any, value: object, name: str) -> None:
    """Fill a cell; a text is a text, whatever it begins with, and never a formula."""
    if isinstance(value, str):
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

        cell.value = ILLEGAL_CHARACTERS_RE.sub("\ufffd", str(neutral_text(value)))
        cell.data_type = "s"
        return
    cell.value = value
    if name == PERCENT:
        cell.number_format = "0%"
    elif name in MONEY:
        cell.number_format = "#,##0" if isinstance(value, float) and value.is_integer() else "#,##0.00"
    elif isinstance(value, dt.date):
        cell.number_format = "yyyy-mm-dd"


def _width(name: str, cells: Iterable[object]) -> int:
    if name.startswith("reason "):
        return _REASON_WIDTH
    return _WIDTHS.get(name) or min(_WIDEST, max(len(name), *(len(str(cell)) for cell in cells), 8) + 2)

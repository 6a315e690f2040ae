"""From any table to a contract that is enough to train, report and score by; doubts become questions in it.

Nothing is decided in silence: columns left out carry the reason, suspects are marked, what is unclear is a
comment that begins with QUESTION. The draft is tried on the rows it was made from before it is handed out.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.check import RESERVED
from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.data.readers.read import row_ids as row_ids_of
from churn_assets.data.repairs.repairs import REPAIRS, apply_repairs, rewrite_numbers
from churn_assets.data.validation.parse import as_text, parse_column
from churn_assets.data.validation.report import ValidationReport
from churn_assets.data.validation.validate import validate
from churn_assets.drafting.columns import Guess, guess_column
from churn_assets.drafting.label import LabelDraft, choose_key, draft_label, need_column
from churn_assets.drafting.leakage import look, why_suspect
from churn_assets.drafting.sample import SAMPLE_ROWS, Sample, Tell, read_sample
from churn_assets.drafting.time import choose_time
from churn_assets.drafting.toml import QUESTION, Found, Parts, assemble, write
from churn_assets.errors import DraftError
from churn_assets.storage.files import write_text

Churned = npt.NDArray[np.int8]

_MOST_REJECTED = 0.5
_DATE_REPAIRS = ("excel_1904", "excel_serial_zero")
_NUMBER_REPAIRS = ("decimal_comma", "number_marks")
# The feature table has columns of its own by these names.
_TAKEN = {**RESERVED, "customer_id": "the key in every table that is made"}


@dataclass(frozen=True)
class Wish:
    """What the user said: label, its churned value, and perhaps the id, the cohort, the sheet and a name."""

    label: str
    churned: str
    key: str | None = None
    cohort: str | None = None
    sheet: str | None = None
    name: str = "mine"


@dataclass(frozen=True)
class Draft:
    """`text` of the contract and `contract`, parsed from it; rows of the source and of the sample."""

    text: str
    contract: Contract
    rows: int
    sampled: int
    report: ValidationReport

    @property
    def questions(self) -> int:
        """How many questions the draft asks."""
        return self.text.count(QUESTION)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Columns that are read past."""
        return tuple(c.name for c in self.contract.columns if c.role is Role.IGNORE)

    @property
    def suspects(self) -> tuple[str, ...]:
        """Columns that may be a consequence of churn."""
        return tuple(c.name for c in self.contract.columns if c.suspect)


def draft_contract(
    source: str | Path,
    wish: Wish,
    *,
    sample_rows: int = SAMPLE_ROWS,
    tell: Tell | None = None,
    today: dt.date | None = None,
) -> Draft:
    """Draft a contract from `source` (any file or duckdb://file?table=name), streamed once.

    `tell` hears the rows read; `today` is the day no past date lies after. Raises DraftError, and what
    reading raises.
    """
    sample = read_sample(source, wish.label, wish.sheet, sample_rows, tell)
    where = Path(str(source).partition("?")[0]).name
    names = [name for name in sample.table.column_names if name.strip()]
    for option, name in (("--label", wish.label), ("--id", wish.key), ("--cohort", wish.cohort)):
        if name is not None:
            need_column(names, option, name, where)
    if wish.label in (wish.key, wish.cohort):
        raise DraftError(f"{wish.label!r} is the label; --id and --cohort must be other columns")
    label = draft_label(wish.label, wish.churned, sample.labels)
    guesses = [guess_column(name, sample.table.column(name)) for name in names if name != wish.label]
    guesses, number_repair = _one_number_style(guesses, sample)
    key, asked = choose_key(guesses, wish.key)
    churned = label.read(sample.table.column(wish.label))
    guesses = [_judged(g, key, wish, sample.table, churned) for g in _without_repeats(guesses, key, sample.table)]
    _something_left(guesses, label)
    days = {g.name: _days(g.column, sample.table) for g in guesses if g.column.kind is Kind.DATE and not g.why}
    timing = choose_time(guesses, days, wish.cohort, today or dt.datetime.now(dt.UTC).date())
    row_ids = "" if key is not None else next(n for n in ("row_id", "row_number", "_row_id") if n not in names)
    if row_ids:
        asked += ("no column names the customer, so rows get their number as id. Is there none? Give it as --id.",)
    if not any(g.column.role is Role.FEATURE for g in timing.guesses) and not any(
        g.column.role is Role.INPUT and g.name != timing.time.as_of for g in timing.guesses
    ):
        raise _nothing_left(guesses, label)
    parts = assemble(Found(wish.name, where, sample, label, timing, days, row_ids, asked, number_repair))
    return _tried(parts, sample, row_ids, label)


def _judged(guess: Guess, key: Guess | None, wish: Wish, table: pa.Table, churned: Churned) -> Guess:
    """`guess`, left out if its name is taken or it echoes the label; marked if it is suspect."""
    if key is not None and guess.name == key.name:
        return replace(guess, column=Column(guess.name, Kind.ID, Role.KEY), why="", questions=(), repair="")
    if guess.name in _TAKEN and not guess.why:
        return guess.left_out(f"the name is taken by {_TAKEN[guess.name]}; to use it, rename it in the table")
    if guess.why or guess.name == wish.cohort:
        return guess
    found = look(guess, table.column(guess.name), churned)
    if found is not None and found.is_echo:
        return guess.left_out(
            f"an echo of the label: alone it tells churned from kept customers with ROC AUC {found.auc:.3f}"
        )
    return replace(guess, column=replace(guess.column, suspect=why_suspect(guess.name, found)))


def _something_left(guesses: Sequence[Guess], label: LabelDraft) -> None:
    seen = [g for g in guesses if not g.why and g.column.role is not Role.KEY]
    if any(not g.column.suspect for g in seen):
        return
    raise _nothing_left(guesses, label)


def _nothing_left(guesses: Sequence[Guess], label: LabelDraft) -> DraftError:
    told = "; ".join(f"'{g.name}': {g.why or g.column.suspect}" for g in guesses if g.column.role is not Role.KEY)
    return DraftError(
        f"no column besides '{label.column.name}' is left that a model could honestly learn from: {told or 'none'}; "
        "bring columns that were known before a customer left"
    )


def _one_number_style(guesses: Sequence[Guess], sample: Sample) -> tuple[list[Guess], str]:
    """One repair of numbers for the whole table; columns written in the other style are left out."""
    needed = [g.repair for g in guesses if g.repair]
    if not needed:
        return list(guesses), ""
    repair = max(_NUMBER_REPAIRS, key=needed.count)
    columns = tuple(g.column for g in guesses if not g.why)
    touched = {
        n: cells for n, change, cells in rewrite_numbers(sample.table, _bare(columns), repair) if pc.any(change).as_py()
    }
    bystanders = [g for g in guesses if g.name in touched and not g.repair]
    if bystanders and sample.format != "csv":
        repair = ""  # numbers there are numbers, and 12.345 must stay what it is
    why = "its numbers are written in another style than those of other columns; write them alike"
    kept = [g.left_out(why) if g.repair not in ("", repair) else g for g in guesses]
    if not repair:
        return kept, ""
    # The repair is for the table: a column that read without it may read otherwise now.
    again = {g.name: guess_column(g.name, pa.chunked_array([touched[g.name]])) for g in bystanders}
    return [again.get(g.name, g) for g in kept], repair


def _bare(columns: tuple[Column, ...]) -> Contract:
    from churn_assets.contract.model import Source
    from churn_assets.drafting.sample import reader

    return replace(reader(Source()), columns=columns)


def _without_repeats(guesses: Sequence[Guess], key: Guess | None, table: pa.Table) -> list[Guess]:
    """Columns that are equal to an earlier one, cell by cell, are left out."""
    kept: list[Guess] = []
    for guess in guesses:
        twin = None
        if not guess.why and guess is not key:
            alike = [g for g in kept if not g.why and (g.distinct, g.seen) == (guess.distinct, guess.seen)]
            text = as_text(table.column(guess.name)) if alike else None
            twin = next((g for g in alike if as_text(table.column(g.name)).equals(text)), None)
        kept.append(guess.left_out(f"it repeats '{twin.name}' in every row") if twin else guess)
    return kept


def _tried(parts: Parts, sample: Sample, row_ids: str, label: LabelDraft) -> Draft:
    """The draft after a trial on the sample: repairs that do something, and room for rows that are rejected."""
    table = sample.table
    if row_ids:
        table = table.add_column(0, row_ids, row_ids_of(1, table.num_rows))
    repairs = [*parts.source["repairs"]]  # type: ignore[misc]  # a list
    contract = parse_contract(write(parts), parts.name)
    if contract.date_columns:
        found = [name for name in _DATE_REPAIRS if REPAIRS[name](table, contract)[1].cells]
        parts = replace(parts, source={**parts.source, "repairs": [*found, *repairs]})
        contract = parse_contract(write(parts), parts.name)
    repaired, _ = apply_repairs(table, contract)
    report = validate(contract, repaired, source=parts.title).report
    share = report.rows_rejected / max(report.rows_in, 1)
    if share > _MOST_REJECTED:
        raise DraftError(
            f"{share:.0%} of the rows would be rejected ({_told(report)}); expected one row a customer, each with a "
            "label; prepare the table so"
        )
    if share > 0.6 * contract.quality.max_rejected_share:
        room = math.ceil(100.0 * (1.5 * share + 0.01)) / 100.0
        ask = f"{share:.1%} of the rows are rejected ({_told(report)}), so up to {room:.0%} are allowed. Is that right?"
        questions = {**parts.questions, "quality": (ask, *parts.questions["quality"])}
        quality = {**parts.quality, "max_rejected_share": room}
        parts = replace(parts, questions=questions, quality=quality)
    text = write(parts)
    return Draft(text, parse_contract(text, parts.name), sample.rows, sample.table.num_rows, report)


def _told(report: ValidationReport) -> str:
    return "; ".join(f"{cause.reason} {cause.column}: {cause.rows:,} rows" for cause in report.causes[:3])


def refuse_existing(path: Path, force: bool) -> None:
    """Raise DraftError if `path` is there and may not be written over."""
    if path.exists() and not force:
        raise DraftError(f"{path} is there already; give another name to -o, or --force to write over it")


def write_draft(draft: Draft, path: Path, force: bool = False) -> None:
    """Write the text to `path`, whole or not at all. Raises DraftError if the file is there and not `force`."""
    refuse_existing(path, force)
    try:
        write_text(path, draft.text)
    except OSError as error:
        raise DraftError(f"{path} cannot be written ({error.strerror}); give another place to -o") from None


def _days(column: Column, table: pa.Table) -> npt.NDArray[np.float64]:
    values = parse_column(column, table.column(column.name)).values.cast(pa.int32()).cast(pa.float64())
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)

"""Drafts a contract from any table: enough to train, report and score, with questions where the table leaves a choice.

Every choice is visible in the draft: columns left out carry the reason, suspects are marked, open questions are
comments that begin with QUESTION. The draft is validated on the rows that it was made from before it is returned.
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

from churn_assets.contract.check import RESERVED, same_but_for_case
from churn_assets.contract.load import parse_contract
from churn_assets.contract.model import Contract, Kind, Role
from churn_assets.data.customers import CHURNED
from churn_assets.data.readers.read import reading_contract
from churn_assets.data.readers.read import row_ids as row_ids_of
from churn_assets.data.repairs.repairs import REPAIRS, apply_repairs, rewrite_numbers
from churn_assets.data.validation.parse import as_days, as_text, parse_column
from churn_assets.data.validation.report import ValidationReport
from churn_assets.data.validation.validate import validate
from churn_assets.drafting.columns import Guess, guess_column
from churn_assets.drafting.key import as_key, choose_key
from churn_assets.drafting.label import LabelDraft, draft_label, find_column
from churn_assets.drafting.leakage import is_echo, label_signal, why_suspect
from churn_assets.drafting.other_rows import without_other_rows
from churn_assets.drafting.sample import SAMPLE_ROWS, Progress, Sample, read_sample
from churn_assets.drafting.time import choose_time, date_features
from churn_assets.drafting.toml import QUESTION, Evidence, write
from churn_assets.errors import DraftError, TrainingError, in_rows
from churn_assets.storage.files import write_text
from churn_assets.training.split import check_churners

Churned = npt.NDArray[np.int8]

_MOST_REJECTED = 0.5
_DATE_REPAIRS = ("excel_1904", "excel_serial_zero")
_NUMBER_REPAIRS = ("decimal_comma", "number_marks")


@dataclass(frozen=True)
class DraftOptions:
    """The options of the user: label, its churned value, optionally id, cohort, sheet, encoding, contract's name."""

    label: str
    churned: str
    key: str | None = None
    cohort: str | None = None
    sheet: str | None = None
    encoding: str | None = None
    name: str = "mine"


@dataclass(frozen=True)
class Draft:
    """A drafted contract: its `text`, `contract` parsed from it, and the numbers of `rows` and `sampled` rows.

    `obstacle` says why a run of this very table would stop, '' if it would not.
    """

    text: str
    contract: Contract
    rows: int
    sampled: int
    report: ValidationReport
    obstacle: str

    @property
    def questions(self) -> int:
        """The number of questions in the draft."""
        return self.text.count(QUESTION)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Columns with role 'ignore'."""
        return tuple(c.name for c in self.contract.columns if c.role is Role.IGNORE)

    @property
    def suspects(self) -> tuple[str, ...]:
        """Columns that may be a consequence of churn."""
        return tuple(c.name for c in self.contract.columns if c.suspect)


def draft_contract(
    source: str | Path,
    options: DraftOptions,
    *,
    sample_rows: int = SAMPLE_ROWS,
    progress: Progress | None = None,
    today: dt.date | None = None,
) -> Draft:
    """Draft a contract from `source` (any file or duckdb://file?table=name), streamed once.

    `progress` is called with the number of rows read; no past date is later than `today`. Raises DraftError, and the
    errors of reading.
    """
    sample = read_sample(source, options.label, options.sheet, options.encoding, sample_rows, progress)
    where = sample.where
    names = [name for name in sample.table.column_names if name.strip()]
    twins = same_but_for_case(names)
    if twins:
        raise DraftError(f"{where}: {twins}")
    options = _as_spelled(options, names, where)
    customers = without_other_rows(sample, options.label)
    table = customers.table
    label = draft_label(options.label, options.churned, customers.labels)
    guesses = [guess_column(name, table.column(name)) for name in names if name != options.label]
    guesses, number_repair = _one_number_style(guesses, customers)
    key, key_questions = choose_key(guesses, customers, options.label, options.key)
    churned = label.read(table.column(options.label))
    guesses = [_judged(g, key, options, table, churned) for g in _without_repeats(guesses, key, table)]
    if all(g.why or g.column.role is Role.KEY or g.column.suspect for g in guesses):
        raise _no_inputs(guesses, label)
    dates = [g.column for g in guesses if g.column.kind is Kind.DATE and not g.why]
    days = {column.name: as_days(parse_column(column, table[column.name]).values) for column in dates}
    timing = choose_time(guesses, days, options.cohort, today or dt.datetime.now(dt.UTC).date())
    row_ids = "" if key is not None else next(n for n in ("row_id", "row_number", "_row_id") if n not in names)
    if row_ids:
        key_questions += ("no column identifies the customer, so the id is the row number. If there is an id: --id.",)
    inputs = (g for g in timing.guesses if g.column.role in (Role.FEATURE, Role.INPUT))
    if all(g.column.role is Role.INPUT and g.name == timing.time.as_of for g in inputs):
        raise _no_inputs(guesses, label)
    taken = {options.label, "customer_id", "churned", "as_of", row_ids, *(g.name for g in timing.guesses)}
    features, rules = date_features(timing, days, taken)
    evidence = Evidence(
        options.name,
        where,
        replace(sample, questions=customers.questions),
        label,
        timing,
        features,
        rules,
        row_ids,
        key_questions,
        number_repair,
    )
    return _validated(evidence)


def _as_spelled(options: DraftOptions, names: Sequence[str], where: str) -> DraftOptions:
    """`options` with the columns as the table spells them."""
    spelled = replace(
        options,
        label=find_column(names, "--label", options.label, where),
        key=None if options.key is None else find_column(names, "--id", options.key, where),
        cohort=None if options.cohort is None else find_column(names, "--cohort", options.cohort, where),
    )
    if spelled.label in (spelled.key, spelled.cohort):
        raise DraftError(
            f"column {spelled.label!r} is the label; expected other columns for --id and --cohort; change the option"
        )
    return spelled


def _judged(guess: Guess, key: Guess | None, options: DraftOptions, table: pa.Table, churned: Churned) -> Guess:
    """`guess`, left out if its name is reserved or it repeats the label; marked if it is suspect."""
    if key is not None and guess.name == key.name:
        return as_key(guess)
    if guess.name in RESERVED and not guess.why:
        return guess.left_out(f"the name is reserved for {RESERVED[guess.name]}; to use it, rename it in the table")
    if guess.why or guess.name == options.cohort:
        return guess
    signal = label_signal(guess, table.column(guess.name), churned)
    if signal is not None and is_echo(signal):
        strength = f"ROC AUC {signal.roc_auc:.3f}"
        return guess.left_out(f"an echo of the label: alone it separates churned from kept with {strength}")
    return replace(guess, column=replace(guess.column, suspect=why_suspect(guess.name, signal)))


def _no_inputs(guesses: Sequence[Guess], label: LabelDraft) -> DraftError:
    reasons = "; ".join(f"'{g.name}': {g.why or g.column.suspect}" for g in guesses if g.column.role is not Role.KEY)
    return DraftError(
        f"no column besides '{label.column.name}' can be a model input: {reasons or 'none'}; "
        "expected columns known before a customer left; add some"
    )


def _one_number_style(guesses: Sequence[Guess], sample: Sample) -> tuple[list[Guess], str]:
    """One repair of numbers for the whole table; columns written in the other style are left out."""
    needed = [g.repair for g in guesses if g.repair]
    if not needed:
        return list(guesses), ""
    repair = max(_NUMBER_REPAIRS, key=needed.count)
    columns = tuple(g.column for g in guesses if not g.why)
    rewritten = rewrite_numbers(sample.table, reading_contract(sample.source, columns), repair)
    touched = {name: cells for name, change, cells in rewritten if pc.any(change).as_py()}
    unaffected = [g for g in guesses if g.name in touched and not g.repair]
    if unaffected and sample.format != "csv":
        repair = ""  # its numbers are numbers already, and 12.345 must not become 12345
    why = "its numbers are written in another style than those of other columns; use one style"
    restyled = touched if repair else {}
    kept = [g if g.repair in ("", repair) else _restyled(g, restyled.get(g.name)) or g.left_out(why) for g in guesses]
    if not repair:
        return kept, ""
    kept = [g if not g.column.convert_to or _are_units_read(g, sample, repair) else g.left_out(why) for g in kept]
    # The repair applies to the whole table: it may change columns that did not need it.
    again = {g.name: guess_column(g.name, pa.chunked_array([touched[g.name]])) for g in unaffected}
    return [again.get(g.name, g) for g in kept], repair


def _restyled(guess: Guess, cells: pa.Array | None) -> Guess | None:
    """The column guessed from its cells in the table's style of numbers, if they can be read so: 1,200 fits both."""
    again = None if cells is None else guess_column(guess.name, pa.chunked_array([cells]))
    is_number = again is not None and not again.repair and again.column.kind in (Kind.NUMBER, Kind.INTEGER)
    return again if is_number else None


def _are_units_read(guess: Guess, sample: Sample, repair: str) -> bool:
    """Whether every cell of a column with units can be read in the table's style of numbers."""
    contract = reading_contract(replace(sample.source, repairs=(repair,)), (guess.column,))
    cells = REPAIRS["units"](sample.table, contract)[0].column(guess.name)
    return not parse_column(guess.column, cells).unreadable.any()


def _without_repeats(guesses: Sequence[Guess], key: Guess | None, table: pa.Table) -> list[Guess]:
    """Columns that equal an earlier one in every cell are left out."""
    kept: list[Guess] = []
    for guess in guesses:
        twin = None if guess.why or guess is key else _twin(guess, kept, table)
        kept.append(guess.left_out(f"it repeats '{twin.name}' in every row") if twin else guess)
    return kept


def _twin(guess: Guess, others: Sequence[Guess], table: pa.Table) -> Guess | None:
    alike = [g for g in others if not g.why and (g.distinct, g.summary) == (guess.distinct, guess.summary)]
    text = as_text(table.column(guess.name)) if alike else None
    return next((g for g in alike if as_text(table.column(g.name)).equals(text)), None)


def _validated(evidence: Evidence) -> Draft:
    """The draft after a validation of the sample: needed repairs are added, and the limit of rejected rows is set."""
    sample, table = evidence.sample, evidence.sample.table
    if evidence.row_ids:
        table = table.add_column(0, evidence.row_ids, row_ids_of(1, table.num_rows))
    contract = parse_contract(write(evidence), evidence.name)
    if contract.date_columns:
        needed = tuple(name for name in _DATE_REPAIRS if REPAIRS[name](table, contract)[1].cells)
        evidence = replace(evidence, date_repairs=needed)
        contract = parse_contract(write(evidence), evidence.name)
    repaired, _ = apply_repairs(table, contract)
    validated = validate(contract, repaired, source=contract.title)
    report = validated.report
    share = report.rejected_share
    if share > _MOST_REJECTED:
        raise DraftError(
            f"{share:.0%} of the rows would be rejected ({_main_causes(report)}); "
            "expected one row for each customer, with a label; prepare the table"
        )
    if share > 0.6 * contract.quality.max_rejected_share:
        evidence = _with_room(evidence, report)
    obstacle = _obstacle(evidence, validated.customers)
    text = write(replace(evidence, obstacle=obstacle))
    return Draft(text, parse_contract(text, evidence.name), sample.rows, sample.table.num_rows, report, obstacle)


def _obstacle(evidence: Evidence, customers: pa.Table) -> str:
    """Why no model can be trained on this table, '' if one can; of a sampled table, every label was counted."""
    churned, kept = evidence.label.churned_rows, evidence.label.kept_rows
    if evidence.sample.is_whole:
        churned = pc.sum(customers[CHURNED]).as_py()
        kept = customers.num_rows - churned
    try:
        check_churners(churned, kept)
    except TrainingError as error:
        return str(error)
    return ""


def _with_room(evidence: Evidence, report: ValidationReport) -> Evidence:
    share = report.rejected_share
    room = math.ceil(100.0 * (1.5 * share + 0.01)) / 100.0
    rejected = f"{share:.1%} of the rows are rejected ({_main_causes(report)})"
    question = f"{rejected}, so the limit is {room:.0%}. Is that right?"
    return replace(evidence, max_rejected_share=room, quality_questions=(question,))


def _main_causes(report: ValidationReport) -> str:
    return "; ".join(f"{cause.reason} {cause.column}: {in_rows(cause.rows)}" for cause in report.causes[:3])


def refuse_existing(path: Path, force: bool) -> None:
    """Raise DraftError if `path` exists and may not be overwritten."""
    if path.exists() and not force:
        raise DraftError(
            f"{path} exists already; expected a new file; give another name to -o, or --force to overwrite it"
        )


def write_draft(draft: Draft, path: Path, force: bool = False) -> None:
    """Write the text to `path`, whole or not at all. Raises DraftError if the file is there and not `force`."""
    refuse_existing(path, force)
    try:
        write_text(path, draft.text)
    except OSError as error:
        raise DraftError(f"{path} cannot be written ({error.strerror}); give another place to -o") from None

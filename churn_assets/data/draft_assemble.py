"""Everything found out about an unknown table, put together as the sections of a contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from churn_assets.contract.model import Column, Kind, Role
from churn_assets.data.draft_guess import Guess
from churn_assets.data.draft_label import LabelDraft
from churn_assets.data.draft_sample import Sample
from churn_assets.data.draft_text import Parts
from churn_assets.data.draft_time import Days, Timing, date_features
from churn_assets.data.read import ROW_IDS

MIN_ROWS = 200


@dataclass(frozen=True)
class Found:
    """What the parts of the draft are made from; `row_ids` names the key of a table that has none, else ''."""

    name: str
    where: str
    sample: Sample
    label: LabelDraft
    timing: Timing
    days: Mapping[str, Days]
    row_ids: str
    key_questions: tuple[str, ...]
    number_repair: str


def assemble(found: Found) -> Parts:
    """The sections, without what only a trial can tell: repairs and the share of rows rejected."""
    guesses = found.timing.guesses
    taken = {g.name for g in guesses} | {found.label.column.name, "customer_id", "churned", "as_of", found.row_ids}
    features, rules = date_features(found.timing, found.days, taken)
    label = found.label
    rate = label.churned_rows / (label.churned_rows + label.kept_rows)
    cohort = found.timing.time.cohort
    silent = [g.name for g in guesses if g.name in found.days and g.column.role is Role.INPUT]
    if cohort is not None and cohort not in silent:
        silent.append(cohort)
    return Parts(
        name=found.name,
        title=f"Customers of {found.where}",
        about=_about(found),
        source=_source(found),
        source_notes=found.sample.notes,
        label={
            "column": label.column.name,
            "churned_when": _value(label.column, label.churned_when),
            "kept_when": _value(label.column, label.kept_when),
            "horizon_days": 30,
            "meaning": f"{label.churned_when}: the customer left; {label.kept_when}: the customer stayed.",
        },
        time=found.timing.time,
        time_notes=found.timing.notes,
        guesses=_all_columns(found),
        features=features,
        rules=rules,
        quality=_quality(found.sample.rows),
        quality_notes=(f"{rate:.1%} of the customers churned: a model that knows nothing has PR-AUC {rate:.2f}.",),
        silent=tuple(silent),
        questions={
            "source": found.key_questions,
            "label": (
                "within how many days after the table was taken did they leave? 30 is a guess.",
                *label.questions,
            ),
            "time": found.timing.questions,
            "value": ("these four are placeholders. What is a customer worth, and what does an offer cost you?",),
            "quality": ("from which PR-AUC on may a model be used? 0 lets every model pass.",),
        },
    )


def _about(found: Found) -> tuple[str, ...]:
    sample = found.sample
    label = found.label
    rows = f"{sample.rows:,} rows"
    how = rows if sample.is_whole else f"a sample of {sample.table.num_rows:,} of {rows}, spread over the whole table"
    about = [
        f"Drafted by `churn contract init` from {found.where}: {how}, {label.churned_rows:,} churned and "
        f"{label.kept_rows:,} kept. It can be used as it is; lines that begin with QUESTION are worth an answer.",
    ]
    if not sample.is_whole:
        about.append("Ranges, choices and missing cells are those of the sample: a rare value may be rejected.")
    if min(label.churned_rows, label.kept_rows) < 100:
        few = min(label.churned_rows, label.kept_rows)
        about.append(f"Only {few} rows of the rarer kind: every figure will come with a wide interval.")
    return tuple(about)


def _source(found: Found) -> dict[str, object]:
    how = found.sample.source
    source: dict[str, object] = {"format": "auto"}
    for key in ("sheet", "delimiter", "encoding"):
        value = getattr(how, key)
        if value is not None:
            source[key] = value
    repairs = [ROW_IDS] if found.row_ids else ["ids_as_text"]
    source["repairs"] = repairs + ([found.number_repair] if found.number_repair else [])
    return source


def _all_columns(found: Found) -> tuple[Guess, ...]:
    label = found.label
    seen = f"{label.churned_when} {label.churned_rows:,} rows, {label.kept_when} {label.kept_rows:,} rows"
    rows = found.sample.table.num_rows
    label_guess = Guess(label.column, seen, 2, rows)
    keys = tuple(g for g in found.timing.guesses if g.column.role is Role.KEY)
    if found.row_ids:
        column = Column(found.row_ids, Kind.ID, Role.KEY, doc="Number of the row: the table has no ids.")
        keys = (Guess(column, "", rows, rows),)
    return (*keys, label_guess, *(g for g in found.timing.guesses if g.column.role is not Role.KEY))


def _quality(rows: int) -> dict[str, object]:
    least = MIN_ROWS if rows >= 2 * MIN_ROWS else max(2, rows // 2)
    return {"max_rejected_share": 0.05, "min_rows": least, "pr_auc_floor": 0.0}


def _value(column: Column, text: str) -> object:
    return int(text) if column.kind is Kind.INTEGER else text

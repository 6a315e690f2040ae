"""The text of a drafted contract: TOML with comments, made from the evidence.

The text is for a person to read, correct and keep; questions are comments that begin with QUESTION.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from churn_assets.contract.edit import toml
from churn_assets.contract.model import Column, Feature, Kind, Role, Rule
from churn_assets.data.readers.read import ROW_IDS
from churn_assets.drafting.columns import Guess
from churn_assets.drafting.label import LabelDraft
from churn_assets.drafting.sample import Sample
from churn_assets.drafting.time import Timing

MIN_ROWS = 200
QUESTION = "# QUESTION: "
_WIDTH = 112

_VALUE = (
    "monthly_value = 30.0  # margin a month of a customer who stays",
    "months = 12           # for how many months a saved customer stays",
    "offer_cost = 10.0     # what contacting one customer with an offer costs",
    "save_rate = 0.15      # share of those contacted who would have left and then stay",
)
_CAPACITY_SHARE = 0.1  # of the customers who have not left


@dataclass(frozen=True)
class Evidence:
    """What the draft is made from; `row_ids` is the name of the key of a table without ids, else ''.

    The last four follow from a validation of the sample: repairs of dates that it needs, the limit of rejected rows,
    a question if that is not the usual one, and why no model can be trained on this table ('' if one can).
    """

    name: str
    where: str
    sample: Sample
    label: LabelDraft
    timing: Timing
    features: tuple[Feature, ...]
    rules: tuple[Rule, ...]
    row_ids: str
    key_questions: tuple[str, ...]
    number_repair: str
    date_repairs: tuple[str, ...] = ()
    max_rejected_share: float = 0.05
    quality_questions: tuple[str, ...] = ()
    obstacle: str = ""


def write(evidence: Evidence) -> str:
    """The text of the contract, with comments."""
    label, timing = evidence.label, evidence.timing
    cohort = {} if timing.time.cohort is None else {"cohort": timing.time.cohort}
    silent = [g.name for g in timing.guesses if g.column.kind is Kind.DATE and g.column.role is Role.INPUT]
    silent += [name for name in cohort.values() if name not in silent]
    columns = _all_columns(evidence)
    left_out = [guess for guess in columns if guess.column.role is Role.IGNORE]
    questions = (*evidence.sample.questions, *evidence.key_questions)
    sections = [
        [*_comment(_about(evidence)), _pair("name", evidence.name), _pair("title", f"Customers of {evidence.where}")],
        _section("source", _source(evidence), evidence.sample.notes, questions),
        _section(
            "label",
            _label_keys(label),
            questions=("within how many days after the snapshot did they leave? 30 is a guess.", *label.questions),
        ),
        _section("time", {"as_of": timing.time.as_of, **cohort}, timing.notes, timing.questions),
        *(_column(guess) for guess in columns if guess.column.role is not Role.IGNORE),
    ]
    if left_out:
        sections.append(["# Left out. To use one, give it a kind and a role that fit, and remove the reason."])
        as_it_is = ("name", "kind", "role")
        sections += [
            [*_comment([g.why]), *_questions(g.questions), "[[columns]]", *_pairs(g.column, as_it_is)] for g in left_out
        ]
    lines = [f"{f.name} = {{ expression = {toml(f.expression)}, doc = {toml(f.doc)} }}" for f in evidence.features]
    if lines:
        sections.append(["[features]", *lines])
    sections += [["[[rules]]", *_pairs(rule, ("name", "expression", "severity", "doc"))] for rule in evidence.rules]
    sections += [
        _value(label, evidence.sample),
        _quality(evidence),
        _section("monitoring", {"window": 2000, "floor": 500, **({"silent": silent} if silent else {})}),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _label_keys(label: LabelDraft) -> dict[str, object]:
    as_value = int if label.column.kind is Kind.INTEGER else str
    kept = [as_value(value) for value in label.kept_when]
    return {
        "column": label.column.name,
        "churned_when": as_value(label.churned_when),
        "kept_when": kept if len(kept) > 1 else kept[0],
        "horizon_days": 30,
        "meaning": f"{label.churned_when}: the customer left; {', '.join(label.kept_when)}: the customer stayed.",
    }


def _about(evidence: Evidence) -> tuple[str, ...]:
    sample, label = evidence.sample, evidence.label
    extent = f"{sample.rows:,} rows"
    if not sample.is_whole:
        extent = f"a sample of {sample.table.num_rows:,} of {extent}, spread over the whole table"
    use = "It can be used as it is; please"
    if evidence.obstacle:
        use = f"`churn run` stops with this table: {evidence.obstacle}. Please"
    about = [
        f"Drafted by `churn contract init` from {evidence.where}: {extent}, {label.churned_rows:,} churned and "
        f"{label.kept_rows:,} kept. {use} answer the lines that begin with QUESTION."
    ]
    if not sample.is_whole:
        about.append("Ranges, choices and missing cells are those of the sample: a rare value may be rejected.")
    few = min(label.churned_rows, label.kept_rows)
    if few < 100 and not evidence.obstacle:
        about.append(f"Only {few} rows of the rarer class: every figure has a wide interval.")
    return tuple(about)


def _source(evidence: Evidence) -> dict[str, object]:
    options = {key: getattr(evidence.sample.source, key) for key in ("sheet", "delimiter", "encoding")}
    repairs = [*evidence.date_repairs, ROW_IDS if evidence.row_ids else "ids_as_text", evidence.number_repair]
    if any(guess.column.convert_to for guess in evidence.timing.guesses):
        repairs.append("units")
    given = {key: value for key, value in options.items() if value is not None}
    return {"format": "auto", **given, "repairs": [name for name in repairs if name]}


def _all_columns(evidence: Evidence) -> tuple[Guess, ...]:
    label = evidence.label
    summary = f"{label.churned_when} {label.churned_rows:,} rows, {', '.join(label.kept_when)} {label.kept_rows:,} rows"
    rows = evidence.sample.table.num_rows
    label_guess = Guess(label.column, summary, 1 + len(label.kept_when), rows)
    keys = tuple(g for g in evidence.timing.guesses if g.column.role is Role.KEY)
    if evidence.row_ids:
        column = Column(evidence.row_ids, Kind.ID, Role.KEY, doc="Number of the row: the table has no ids.")
        keys = (Guess(column, "", rows, rows),)
    return (*keys, label_guess, *(g for g in evidence.timing.guesses if g.column.role is not Role.KEY))


def _value(label: LabelDraft, sample: Sample) -> list[str]:
    question = (
        "these five are placeholders. What is the value of a customer, what does an offer cost, and how many customers "
        "can be contacted?"
    )
    active = sample.rows * label.kept_rows / (label.kept_rows + label.churned_rows)
    capacity = max(1, int(float(f"{_CAPACITY_SHARE * active:.1g}")))
    why = "contacts of one list: about a tenth of those who have not left, a guess; without it, all who pay off"
    return [*_section("value", {}, questions=(question,)), *_VALUE, f"{f'capacity = {capacity}':<22}# {why}"]


def _quality(evidence: Evidence) -> list[str]:
    rows, label = evidence.sample.rows, evidence.label
    rate = label.churned_rows / (label.churned_rows + label.kept_rows)
    least = MIN_ROWS if rows >= 2 * MIN_ROWS else max(2, rows // 2)
    return _section(
        "quality",
        {"max_rejected_share": evidence.max_rejected_share, "min_rows": least, "pr_auc_floor": 0.0},
        (f"{rate:.1%} of the customers churned: a random model has PR-AUC {rate:.2f}.",),
        (*evidence.quality_questions, "what is the least PR-AUC of a model? 0 accepts every model."),
    )


def _section(
    name: str, keys: Mapping[str, object], notes: Sequence[str] = (), questions: Sequence[str] = ()
) -> list[str]:
    pairs = [_pair(key, value) for key, value in keys.items()]
    return [f"[{name}]", *_comment(notes), *_questions(questions), *pairs]


def _column(guess: Guess) -> list[str]:
    column = guess.column
    missing = f"{guess.missing_rows:,} of {guess.rows:,} rows missing" if guess.missing_rows else ""
    summary = "; ".join(filter(None, (guess.summary, missing)))
    values, default = dict(vars(column)), vars(Column(column.name, column.kind))
    if column.kind is Kind.INTEGER:
        values |= {key: int(values[key]) for key in ("low", "high") if values[key] is not None}
    pairs = [_pair(key, value) for key, value in values.items() if key in ("name", "kind") or value != default[key]]
    return [*_comment([f"Seen: {summary}"] if summary else []), *_questions(guess.questions), "[[columns]]", *pairs]


def _pairs(table: Column | Rule, keys: Iterable[str]) -> list[str]:
    return [_pair(key, getattr(table, key)) for key in keys]


def _questions(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in _comment([text], QUESTION)]


def _comment(texts: Iterable[str], mark: str = "# ") -> list[str]:
    """Texts as comment lines; characters that would end a line are escaped."""
    return [line for text in texts for line in _wrapped(toml(text)[1:-1].replace('\\"', '"'), mark)]


def _wrapped(text: str, mark: str) -> list[str]:
    lines, line = list[str](), mark
    for word in text.split(" "):
        if len(line) + len(word) > _WIDTH and line.strip("# "):
            lines.append(line.rstrip())
            line = "#   "
        line += word + " "
    return [*lines, line.rstrip()]


def _pair(key: str, value: object) -> str:
    if isinstance(value, list | tuple) and len(toml(value)) > _WIDTH - 10:
        return "\n".join([f"{key} = [", *(f"  {toml(item)}," for item in value), "]"])
    return f"{key} = {toml(value)}"

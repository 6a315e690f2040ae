"""The text of a drafted contract: `assemble` makes its sections from the evidence, `write` makes TOML of them.

The text is for a person to read, correct and keep; questions are comments that begin with QUESTION.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from churn_assets.contract.model import Column, Feature, Kind, Role, Rule, Time
from churn_assets.data.readers.read import ROW_IDS
from churn_assets.drafting.columns import Guess
from churn_assets.drafting.label import LabelDraft
from churn_assets.drafting.sample import Sample
from churn_assets.drafting.time import Days, Timing, date_features

MIN_ROWS = 200
QUESTION = "# QUESTION: "
_WIDTH = 112

_VALUE = (
    "monthly_value = 30.0  # margin a month of a customer who stays",
    "months = 12           # for how many months a saved customer stays",
    "offer_cost = 10.0     # what contacting one customer with an offer costs",
    "save_rate = 0.15      # share of those contacted who would have left and then stay",
    "# capacity = 500      # customers that can be contacted from one list; without it, all who pay off",
)


@dataclass(frozen=True)
class Evidence:
    """What the draft is made from; `row_ids` is the name of the key of a table without ids, else ''."""

    name: str
    where: str
    sample: Sample
    label: LabelDraft
    timing: Timing
    days: Mapping[str, Days]
    row_ids: str
    key_questions: tuple[str, ...]
    number_repair: str


@dataclass(frozen=True)
class Parts:
    """The sections of the contract; `questions` by section ('source', 'label', 'time', ...)."""

    name: str
    title: str
    about: tuple[str, ...]
    source: dict[str, object]
    source_notes: tuple[str, ...]
    label: dict[str, object]
    time: Time
    time_notes: tuple[str, ...]
    guesses: tuple[Guess, ...]
    features: tuple[Feature, ...]
    rules: tuple[Rule, ...]
    quality: dict[str, object]
    quality_notes: tuple[str, ...]
    silent: tuple[str, ...]
    questions: dict[str, tuple[str, ...]]


# -- sections -------------------------------------------------------------------------------------------


def assemble(evidence: Evidence) -> Parts:
    """The sections, except what a validation must show first: repairs of dates and the limit of rejected rows."""
    guesses = evidence.timing.guesses
    taken = {g.name for g in guesses} | {
        evidence.label.column.name,
        "customer_id",
        "churned",
        "as_of",
        evidence.row_ids,
    }
    features, rules = date_features(evidence.timing, evidence.days, taken)
    label = evidence.label
    rate = label.churned_rows / (label.churned_rows + label.kept_rows)
    cohort = evidence.timing.time.cohort
    silent = [g.name for g in guesses if g.name in evidence.days and g.column.role is Role.INPUT]
    if cohort is not None and cohort not in silent:
        silent.append(cohort)
    return Parts(
        name=evidence.name,
        title=f"Customers of {evidence.where}",
        about=_about(evidence),
        source=_source(evidence),
        source_notes=evidence.sample.notes,
        label={
            "column": label.column.name,
            "churned_when": _label_value(label.column, label.churned_when),
            "kept_when": _label_value(label.column, label.kept_when),
            "horizon_days": 30,
            "meaning": f"{label.churned_when}: the customer left; {label.kept_when}: the customer stayed.",
        },
        time=evidence.timing.time,
        time_notes=evidence.timing.notes,
        guesses=_all_columns(evidence),
        features=features,
        rules=rules,
        quality=_quality(evidence.sample.rows),
        quality_notes=(f"{rate:.1%} of the customers churned: a random model has PR-AUC {rate:.2f}.",),
        silent=tuple(silent),
        questions={
            "source": evidence.key_questions,
            "label": (
                "within how many days after the snapshot did they leave? 30 is a guess.",
                *label.questions,
            ),
            "time": evidence.timing.questions,
            "value": ("these four are placeholders. What is the value of a customer, and what does an offer cost?",),
            "quality": ("what is the least PR-AUC of a model? 0 accepts every model.",),
        },
    )


def _about(evidence: Evidence) -> tuple[str, ...]:
    sample = evidence.sample
    label = evidence.label
    rows = f"{sample.rows:,} rows"
    extent = (
        rows if sample.is_whole else f"a sample of {sample.table.num_rows:,} of {rows}, spread over the whole table"
    )
    about = [
        f"Drafted by `churn contract init` from {evidence.where}: {extent}, {label.churned_rows:,} churned and "
        f"{label.kept_rows:,} kept. It can be used as it is; please answer the lines that begin with QUESTION.",
    ]
    if not sample.is_whole:
        about.append("Ranges, choices and missing cells are those of the sample: a rare value may be rejected.")
    if min(label.churned_rows, label.kept_rows) < 100:
        few = min(label.churned_rows, label.kept_rows)
        about.append(f"Only {few} rows of the rarer class: every figure has a wide interval.")
    return tuple(about)


def _source(evidence: Evidence) -> dict[str, object]:
    options = evidence.sample.source
    source: dict[str, object] = {"format": "auto"}
    for key in ("sheet", "delimiter", "encoding"):
        value = getattr(options, key)
        if value is not None:
            source[key] = value
    repairs = [ROW_IDS] if evidence.row_ids else ["ids_as_text"]
    source["repairs"] = repairs + ([evidence.number_repair] if evidence.number_repair else [])
    return source


def _all_columns(evidence: Evidence) -> tuple[Guess, ...]:
    label = evidence.label
    seen = f"{label.churned_when} {label.churned_rows:,} rows, {label.kept_when} {label.kept_rows:,} rows"
    rows = evidence.sample.table.num_rows
    label_guess = Guess(label.column, seen, 2, rows)
    keys = tuple(g for g in evidence.timing.guesses if g.column.role is Role.KEY)
    if evidence.row_ids:
        column = Column(evidence.row_ids, Kind.ID, Role.KEY, doc="Number of the row: the table has no ids.")
        keys = (Guess(column, "", rows, rows),)
    return (*keys, label_guess, *(g for g in evidence.timing.guesses if g.column.role is not Role.KEY))


def _quality(rows: int) -> dict[str, object]:
    least = MIN_ROWS if rows >= 2 * MIN_ROWS else max(2, rows // 2)
    return {"max_rejected_share": 0.05, "min_rows": least, "pr_auc_floor": 0.0}


def _label_value(column: Column, text: str) -> object:
    return int(text) if column.kind is Kind.INTEGER else text


# -- text -----------------------------------------------------------------------------------------------


def write(parts: Parts) -> str:
    """The text of the contract, with comments."""
    lines = [*_comment(parts.about), _pair("name", parts.name), _pair("title", parts.title), ""]
    lines += ["[source]", *_comment(parts.source_notes), *_section_questions(parts, "source")]
    lines += [_pair(key, value) for key, value in parts.source.items()]
    lines += [
        "",
        "[label]",
        *_section_questions(parts, "label"),
        *(_pair(key, value) for key, value in parts.label.items()),
    ]
    lines += [
        "",
        "[time]",
        *_comment(parts.time_notes),
        *_section_questions(parts, "time"),
        _pair("as_of", parts.time.as_of),
    ]
    lines += [_pair("cohort", parts.time.cohort)] if parts.time.cohort is not None else []
    kept = [g for g in parts.guesses if g.column.role is not Role.IGNORE]
    out = [g for g in parts.guesses if g.column.role is Role.IGNORE]
    for guess in kept:
        lines += ["", *_column(guess)]
    if out:
        lines += ["", "# Left out. To use one, give it a kind and a role that fit, and remove the reason."]
    for guess in out:
        lines += ["", *_comment([guess.why]), "[[columns]]", _pair("name", guess.name)]
        lines += [_pair("kind", str(guess.column.kind)), _pair("role", "ignore")]
    if parts.features:
        lines += ["", "[features]"]
        lines += [_feature(feature) for feature in parts.features]
    for rule in parts.rules:
        lines += ["", "[[rules]]", _pair("name", rule.name), _pair("expression", rule.expression)]
        lines += [_pair("severity", str(rule.severity)), _pair("doc", rule.doc)]
    lines += ["", "[value]", *_section_questions(parts, "value"), *_VALUE]
    lines += ["", "[quality]", *_comment(parts.quality_notes), *_section_questions(parts, "quality")]
    lines += [_pair(key, value) for key, value in parts.quality.items()]
    lines += ["", "[monitoring]", "window = 2000", "floor = 500"]
    lines += [_pair("silent", list(parts.silent))] if parts.silent else []
    return "\n".join(lines) + "\n"


def _column(guess: Guess) -> Iterable[str]:
    column = guess.column
    missing = f"{guess.missing_rows:,} of {guess.rows:,} rows missing" if guess.missing_rows else ""
    seen = "; ".join(filter(None, (guess.seen, missing)))
    yield from _comment([f"Seen: {seen}"] if seen else [])
    yield from _questions(guess.questions)
    yield "[[columns]]"
    default = Column(column.name, column.kind)
    for field in fields(Column):
        value = getattr(column, field.name)
        if field.name in ("name", "kind") or value != getattr(default, field.name):
            yield _pair(field.name, _bound(column, value) if field.name in ("low", "high") else value)


def _bound(column: Column, value: object) -> object:
    return int(value) if column.kind is Kind.INTEGER and isinstance(value, float) else value


def _feature(feature: Feature) -> str:
    return f"{feature.name} = {{ expression = {toml(feature.expression)}, doc = {toml(feature.doc)} }}"


def _section_questions(parts: Parts, section: str) -> list[str]:
    return _questions(parts.questions.get(section, ()))


def _questions(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in _comment([text], QUESTION)]


def _comment(texts: Iterable[str], mark: str = "# ") -> list[str]:
    """Texts as comment lines; characters that would end a line are escaped."""
    lines = []
    for text in texts:
        line = mark
        for word in toml(text)[1:-1].replace('\\"', '"').split(" "):
            if len(line) + len(word) > _WIDTH and line.strip("# "):
                lines.append(line.rstrip())
                line = "#   "
            line += word + " "
        lines.append(line.rstrip())
    return lines


def _pair(key: str, value: object) -> str:
    if isinstance(value, list | tuple) and len(toml(value)) > _WIDTH - 10:
        return "\n".join([f"{key} = [", *(f"  {toml(item)}," for item in value), "]"])
    return f"{key} = {toml(value)}"


def toml(value: object) -> str:
    """One TOML value on one line (texts, numbers, booleans, lists of them)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    text = str(value)
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable() or character == " ":
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"

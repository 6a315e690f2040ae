"""Time in an unknown table: the snapshot, the cohort, and the expressions that dates are worth."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from churn_assets.contract.expressions import in_expression
from churn_assets.contract.model import Feature, Kind, Role, Rule, Severity, Time
from churn_assets.drafting.columns import Guess, words_of
from churn_assets.errors import DraftError
from churn_assets.features.encode import days_since_epoch

Days = npt.NDArray[np.float64]

CREATED_NAME = re.compile(
    r"creat|join|sign_?(up|ed)|regist|since|start|open|first|begin|onboard|activat|enrol|angelegt|erstellt|beginn"
    r"|eintritt|alta|inscri|d[ée]but|adhesion",
    re.I,
)
LATER_NAME = re.compile(r"last|latest|recent|letzt|ultim|derni", re.I)
PLANNED_NAME = re.compile(r"(^|_)end|expir|renew|due|until|valid|next|ablauf|venc|[ée]ch[ée]ance|matur", re.I)
BIRTH_NAME = re.compile(r"birth|(^|_)dob|geburt|nacimiento|naissance", re.I)
TENURE_NAME = re.compile(
    r"tenure|seniority|mo?n?ths?_on_book|account_(age|length)|customer_age|(months|years|days)_(as|since|with)"
    r"|relationship_(length|months|years)|laufzeit|vertragsdauer|antig[uü]edad|anciennet",
    re.I,
)
_MAX_PAIRS = 10
_ORDERED_SHARE = 0.99
_MIN_COHORTS = 10


@dataclass(frozen=True)
class Timing:
    """`time` with what to say about it; `guesses` with dates that say nothing left out."""

    guesses: tuple[Guess, ...]
    time: Time
    notes: tuple[str, ...]
    questions: tuple[str, ...]
    planned: frozenset[str]


def choose_time(guesses: Sequence[Guess], days: Mapping[str, Days], cohort: str | None, today: dt.date) -> Timing:
    """The snapshot and the cohort; `days` are the date columns as days since 1970, NaN missing.

    Raises DraftError if `cohort` names a column that orders no cohorts.
    """
    found = _snapshot(guesses, days, today)
    by_name = {g.name: g for g in found.guesses}
    if cohort is not None:
        _allowed(by_name, cohort)
        return replace(found, time=replace(found.time, cohort=cohort))
    name, words = _cohort(found, days)
    notes, questions = found.notes, found.questions
    if name is None:
        questions = (*questions, words)
    else:
        notes = (*notes, words)
    return replace(found, time=replace(found.time, cohort=name), notes=notes, questions=questions)


def _snapshot(guesses: Sequence[Guess], days: Mapping[str, Days], today: dt.date) -> Timing:
    ends = {name: float(np.nanmax(values)) for name, values in days.items()}
    constant = {g.name for g in guesses if g.name in days and g.distinct == 1}
    moving = {name: end for name, end in ends.items() if name not in constant}
    planned = {n for n, end in moving.items() if end > days_since_epoch(today)}
    for name in moving.keys() - planned:
        others = [end for other, end in moving.items() if other != name and other not in planned]
        if PLANNED_NAME.search(words_of(name)) and others and moving[name] > max(others) + 31:
            planned.add(name)
    past = [end for name, end in moving.items() if name not in planned]
    snapshots = [n for n in constant if not past or ends[n] >= max(past)]
    kept = []
    for guess in guesses:
        if guess.name in constant and guess.name not in snapshots[:1]:
            guess = guess.left_out(f"it says {guess.seen}")
        kept.append(guess)
    told: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    if snapshots:
        as_of = snapshots[0]
        told = (f"'{as_of}' is the same day in every row and no other date is later: the day the table was taken.",)
    elif planned:
        as_of = _iso(max(past)) if past else today.isoformat()
        asked = (
            f"{_listed(planned)} lies in the future of the other dates. The table is taken to be of {as_of}; is it? "
            "Change the day with each new table.",
        )
    else:
        as_of = "latest"
        told = ("The day the table was true: its newest date." if moving else "The table has no dates.",)
    return Timing(tuple(kept), Time(as_of, None), told, asked, frozenset(planned))


def _cohort(found: Timing, days: Mapping[str, Days]) -> tuple[str | None, str]:
    """(column, why) or (None, what is missing without one)."""
    dates = [
        g
        for g in found.guesses
        if g.name in days
        and g.name not in found.planned
        and g.column.role is Role.INPUT
        and g.name != found.time.as_of
        and g.missing_rows <= 0.2 * g.rows
        and not BIRTH_NAME.search(words_of(g.name))
        and len(np.unique(days[g.name])) >= _MIN_COHORTS
    ]
    named = [g for g in dates if CREATED_NAME.search(words_of(g.name)) and not LATER_NAME.search(words_of(g.name))]
    named.sort(key=lambda g: float(np.nanmedian(days[g.name])))
    if named:
        return named[0].name, f"Cohort: '{named[0].name}' reads like the day a customer came."
    if len(dates) > 1:
        first = min(dates, key=lambda g: float(np.nanmedian(days[g.name])))
        others = np.column_stack([days[g.name] for g in dates if g is not first])
        with np.errstate(invalid="ignore"):
            earliest = float(np.mean(~np.any(others < days[first.name][:, None], axis=1)))
        if earliest >= 0.95:
            return first.name, f"Cohort: '{first.name}' is the earliest date in {earliest:.0%} of the rows."
    for guess in found.guesses:
        numeric = guess.column.kind in (Kind.NUMBER, Kind.INTEGER) and guess.column.role is Role.FEATURE
        if numeric and TENURE_NAME.search(words_of(guess.name)) and guess.distinct >= _MIN_COHORTS:
            return guess.name, f"Cohort: '{guess.name}' reads like the age of a customer; the largest came first."
    return None, (
        "no column says when a customer came, so there is no out-of-time test, the harder and more honest one. "
        'If a date of joining or a tenure is in the table, write cohort = "its name" here.'
    )


def _allowed(by_name: Mapping[str, Guess], cohort: str) -> None:
    guess = by_name[cohort]
    if guess.column.role is Role.IGNORE or guess.column.kind not in (Kind.DATE, Kind.NUMBER, Kind.INTEGER):
        what = f"is left out: {guess.why}" if guess.why else f"is a {guess.column.kind}"
        raise DraftError(f"--cohort {cohort!r} {what}; expected a date or a number such as a tenure; name another")


def date_features(
    timing: Timing, days: Mapping[str, Days], taken: set[str]
) -> tuple[tuple[Feature, ...], tuple[Rule, ...]]:
    """Days since (or until) each date and between pairs, and a counted rule where one never follows the other."""
    names = [g.name for g in timing.guesses if g.name in days and g.column.role is Role.INPUT]
    names = [n for n in names if n != timing.time.as_of]
    features = [_distance(name, name in timing.planned, taken) for name in names]
    apart = [n for n in names if not BIRTH_NAME.search(words_of(n))]
    apart.sort(key=lambda n: float(np.nanmedian(days[n])))
    rules = []
    for one, two in list(combinations(apart, 2))[:_MAX_PAIRS]:
        between = days[two] - days[one]
        if len(np.unique(between[~np.isnan(between)])) < 2:
            continue
        first, second = in_expression(one), in_expression(two)
        name = _free(f"days_from_{slug(one)}_to_{slug(two)}", taken)
        features.append(Feature(name, f"days({second} - {first})", doc=f"days from {one} to {two}"))
        if float(np.mean(between[~np.isnan(between)] >= 0)) >= _ORDERED_SHARE:
            rule = _free(f"{slug(one)}_not_after_{slug(two)}", taken)
            words = f"Held in nearly every row of the table this was drafted from: {one} comes no later than {two}."
            rules.append(Rule(rule, f"{first} <= {second}", Severity.WARN, words))
    return tuple(features), tuple(rules)


def _distance(name: str, is_planned: bool, taken: set[str]) -> Feature:
    written = in_expression(name)
    if is_planned:
        return Feature(_free(f"days_until_{slug(name)}", taken), f"days({written} - as_of)", doc=f"days until {name}")
    return Feature(_free(f"days_since_{slug(name)}", taken), f"days(as_of - {written})", doc=f"days since {name}")


def slug(name: str) -> str:
    """`name` in letters a-z, digits and _, as a feature may be called; 'column' if nothing is left."""
    import unicodedata

    plain = unicodedata.normalize("NFKD", words_of(name)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "column"


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found)
    return found


def _iso(day: float) -> str:
    return str(np.datetime64(int(day), "D"))


def _listed(names: set[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))

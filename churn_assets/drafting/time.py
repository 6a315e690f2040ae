"""Time in an unknown table: the snapshot, the cohort, and the features and rules that dates give."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, count

import numpy as np
import numpy.typing as npt

from churn_assets.contract.expressions import in_expression
from churn_assets.contract.model import Feature, Kind, Role, Rule, Severity, Time
from churn_assets.data.id_names import split_name
from churn_assets.drafting.columns import Guess
from churn_assets.errors import DraftError
from churn_assets.features.encode import days_since_epoch

Days = npt.NDArray[np.float64]

CREATED_NAME = re.compile(
    r"creat|join|sign_?(up|ed)|regist|since|start|open|first|begin|onboard|activat|enrol|angelegt|erstellt|beginn"
    r"|eintritt|alta|inscri|d[ée]but|adh[ée]sion|ades[ãa]o|cadastr|abertura|ingres|kay[i\u0131]t|rejestr|подключ|регистр"
    r"|入网|入会|注册|开户|加入|登録|가입",
    re.I,
)
LATER_NAME = re.compile(r"last|latest|recent|letzt|ultim|derni", re.I)
PLANNED_NAME = re.compile(r"(^|_)end|expir|renew|due|until|valid|next|ablauf|venc|[ée]ch[ée]ance|matur", re.I)
BIRTH_NAME = re.compile(r"birth|(^|_)dob|geburt|nacimiento|naissance", re.I)
_UNIT = r"(?:months?|years?|days?|weeks?)"
_US = r"(?:us|company|client|customer|member|subscriber|bank|firm|provider|book)"
TENURE_NAME = re.compile(
    rf"tenure|seniority|vintage|mo?n?ths?_on_book|account_?(age|length)|{_UNIT}_(as|with|at)_(an?_)?{_US}"
    rf"|{_UNIT}_since_(join|sign|start|regist|open|creat|activat|first)|(subscription|membership|relationship|service)_"
    rf"(length|duration|age|{_UNIT})|length_of_(service|relationship|membership)|lifetime_{_UNIT}|customer_for_{_UNIT}"
    r"|laufzeit|vertragsdauer|kunde_seit|antig[uü]edad|anciennet|(meses|a[nñ]os|anos|mois|anni)_(como|de|d|da)_(client|s[oó]ci|casa)"
    r"|стаж|在网(月数|时长|天数)|在籍(月数|年数|期間)|利用(月数|期間)|가입_?기간",
    re.I,
)
# Names that may be those of a tenure: asked about, because a person's age or a term of a contract is none.
MAYBE_TENURE = re.compile(rf"{_UNIT}|mob|customer_age|duration(_{_UNIT})?|{_UNIT}_active", re.I)
_NO_TEST = "there is no out-of-time test, the stricter one"
_MAX_PAIRS = 10
_ORDERED_SHARE = 0.99
_MIN_COHORTS = 10


@dataclass(frozen=True)
class Timing:
    """`time` with notes and questions; `guesses` without constant dates; `planned` are dates in the future."""

    guesses: tuple[Guess, ...]
    time: Time
    notes: tuple[str, ...]
    questions: tuple[str, ...]
    planned: frozenset[str]


def choose_time(guesses: Sequence[Guess], days: Mapping[str, Days], cohort: str | None, today: dt.date) -> Timing:
    """The snapshot and the cohort; `days` are the date columns as days since 1970, NaN missing. Raises DraftError if
    `cohort` is a column that cannot order cohorts."""
    timing = _snapshot(guesses, days, today)
    by_name = {g.name: g for g in timing.guesses}
    if cohort is not None:
        _check_cohort(by_name, cohort)
        return replace(timing, time=replace(timing.time, cohort=cohort))
    name, reason = _cohort(timing, days)
    if name is None:
        return replace(timing, questions=(*timing.questions, reason))
    return replace(timing, time=replace(timing.time, cohort=name), notes=(*timing.notes, reason))


def _snapshot(guesses: Sequence[Guess], days: Mapping[str, Days], today: dt.date) -> Timing:
    ends = {name: float(np.nanmax(values)) for name, values in days.items()}
    constant = {g.name for g in guesses if g.name in days and g.distinct == 1}
    moving = {name: end for name, end in ends.items() if name not in constant}
    planned = {n for n, end in moving.items() if end > days_since_epoch(today)}
    for name in moving.keys() - planned:
        others = [end for other, end in moving.items() if other != name and other not in planned]
        if PLANNED_NAME.search(split_name(name)) and others and moving[name] > max(others) + 31:
            planned.add(name)
    past = [end for name, end in moving.items() if name not in planned]
    snapshots = [n for n in constant if not past or ends[n] >= max(past)]
    dropped = constant - set(snapshots[:1])
    kept = tuple(g.left_out(f"it is {g.summary}") if g.name in dropped else g for g in guesses)
    notes: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    if snapshots:
        as_of = snapshots[0]
        notes = (f"'{as_of}' is the same day in every row and no other date is later: the day the table was taken.",)
    elif planned:
        as_of = str(np.datetime64(int(max(past)), "D")) if past else today.isoformat()
        names = ", ".join(f"'{name}'" for name in sorted(planned))
        questions = (
            f"{names} lies after the other dates. The table is assumed to be of {as_of}; is that right? "
            "Change the day with each new table.",
        )
    else:
        as_of = "latest"
        notes = ("The snapshot is the newest date of the table." if moving else "The table has no dates.",)
    return Timing(kept, Time(as_of, None), notes, questions, frozenset(planned))


def _cohort(timing: Timing, days: Mapping[str, Days]) -> tuple[str | None, str]:
    """(column, reason), or (None, what is missing without one)."""
    dates = [
        g
        for g in timing.guesses
        if g.name in days
        and g.name not in timing.planned
        and g.column.role is Role.INPUT
        and g.name != timing.time.as_of
        and g.missing_rows <= 0.2 * g.rows
        and not BIRTH_NAME.search(split_name(g.name))
        and len(np.unique(days[g.name])) >= _MIN_COHORTS
    ]
    named = [g for g in dates if CREATED_NAME.search(split_name(g.name)) and not LATER_NAME.search(split_name(g.name))]
    # A month is the first of its days, so it would come before the day itself.
    named.sort(key=lambda g: (_is_month(days[g.name]), float(np.nanmedian(days[g.name]))))
    if named:
        return named[0].name, f"Cohort: the name '{named[0].name}' is that of the day on which a customer joined."
    if len(dates) > 1:
        first = min(dates, key=lambda g: float(np.nanmedian(days[g.name])))
        others = np.column_stack([days[g.name] for g in dates if g is not first])
        with np.errstate(invalid="ignore"):
            earliest = float(np.mean(~np.any(others < days[first.name][:, None], axis=1)))
        if earliest >= 0.95:
            return first.name, f"Cohort: '{first.name}' is the earliest date in {earliest:.0%} of the rows."
    numbers = [
        g
        for g in timing.guesses
        if g.column.kind in (Kind.NUMBER, Kind.INTEGER)
        and g.column.role is Role.FEATURE
        and g.distinct >= _MIN_COHORTS
        and not LATER_NAME.search(split_name(g.name))
    ]
    for guess in numbers:
        if TENURE_NAME.search(split_name(guess.name)):
            return guess.name, f"Cohort: the name '{guess.name}' is that of a tenure; the largest joined first."
    asked = [*dates, *(g for g in numbers if MAYBE_TENURE.fullmatch(split_name(g.name)))]
    refused = [g.name for g in timing.guesses if g.column.role is Role.IGNORE and g.questions]
    unread = [name for name in refused if CREATED_NAME.search(split_name(name))]
    if unread and not asked:
        return (
            None,
            f"'{unread[0]}' may be the day on which a customer joined, but is not used (see below), so {_NO_TEST}.",
        )
    return None, _cohort_question([g.name for g in asked[:3]])


def _is_month(values: Days) -> bool:
    """Whether all of these days are the first of a month."""
    known = values[~np.isnan(values)].astype("datetime64[D]")
    return bool(np.all(known == known.astype("datetime64[M]")))


def _cohort_question(names: Sequence[str]) -> str:
    if not names:
        return (
            f"no column has the day on which a customer joined, so {_NO_TEST}. "
            'If a date of joining or a tenure is in the table, write cohort = "its name" here.'
        )
    candidates = " or ".join(f"'{name}'" for name in names)
    return (
        f"is {candidates} the day on which a customer joined, or the time since then? It is not taken for that, so "
        f'{_NO_TEST}. If it is, write cohort = "{names[0]}" here.'
    )


def _check_cohort(by_name: Mapping[str, Guess], cohort: str) -> None:
    guess = by_name[cohort]
    if guess.column.role is Role.IGNORE or guess.column.kind not in (Kind.DATE, Kind.NUMBER, Kind.INTEGER):
        problem = f"is left out: {guess.why}" if guess.why else f"is a {guess.column.kind}"
        raise DraftError(f"--cohort {cohort!r} {problem}; expected a date or a number such as a tenure; give another")


def date_features(
    timing: Timing, days: Mapping[str, Days], taken: set[str]
) -> tuple[tuple[Feature, ...], tuple[Rule, ...]]:
    """Days since (or until) each date and between pairs; warning rules where a pair nearly always has one order."""
    names = [g.name for g in timing.guesses if g.name in days and g.column.role is Role.INPUT]
    names = [n for n in names if n != timing.time.as_of]
    features = [_distance(name, name in timing.planned, taken) for name in names]
    apart = [n for n in names if not BIRTH_NAME.search(split_name(n))]
    apart.sort(key=lambda n: float(np.nanmedian(days[n])))
    rules = []
    for earlier, later in list(combinations(apart, 2))[:_MAX_PAIRS]:
        between = days[later] - days[earlier]
        if len(np.unique(between[~np.isnan(between)])) < 2:
            continue
        first, second = in_expression(earlier), in_expression(later)
        name = _free(f"days_from_{slug(earlier)}_to_{slug(later)}", taken)
        features.append(Feature(name, f"days({second} - {first})", doc=f"days from {earlier} to {later}"))
        if float(np.mean(between[~np.isnan(between)] >= 0)) >= _ORDERED_SHARE:
            rule = _free(f"{slug(earlier)}_not_after_{slug(later)}", taken)
            doc = f"In nearly every row of the table that this was drafted from, {earlier} is not after {later}."
            rules.append(Rule(rule, f"{first} <= {second}", Severity.WARN, doc))
    return tuple(features), tuple(rules)


def _distance(name: str, is_planned: bool, taken: set[str]) -> Feature:
    written = in_expression(name)
    if is_planned:
        return Feature(_free(f"days_until_{slug(name)}", taken), f"days({written} - as_of)", doc=f"days until {name}")
    return Feature(_free(f"days_since_{slug(name)}", taken), f"days(as_of - {written})", doc=f"days since {name}")


def slug(name: str) -> str:
    """`name` in letters a-z, digits and _, as a feature may be called; 'column' if nothing is left."""
    plain = unicodedata.normalize("NFKD", split_name(name)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "column"


def _free(name: str, taken: set[str]) -> str:
    free = next(n for n in chain([name], (f"{name}_{number}" for number in count(2))) if n not in taken)
    taken.add(free)
    return free

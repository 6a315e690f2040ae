"""Generated customers for any contract, from a causal churn process with a seed; docs/generator.md has its graph.

A customer is drawn in this order: latent traits and tenure; choices at the start; the yearly hazard of leaving, log h =
base - engagement + 0.6 price + effects of the choices; whether and when the customer left; numbers, each a quantile
function (`marginals`) at a mix of the traits and noise; dates, in the order of the contract's rules. Churn is caused by
traits, some of which are in no column, so no model can be perfect. Rows are validated like real ones; a row that
breaks the contract is drawn again.
"""

from __future__ import annotations

import ast
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contract.expressions import parse_rules
from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.data.validation.checks import Finding, check_cells, check_rules, rejected_rows
from churn_assets.errors import DataError
from churn_assets.features.compile import as_of_days
from churn_assets.synthetic import marginals

Array = npt.NDArray[np.float64]

AS_OF = dt.date(2024, 12, 31)
BASE_RATE = 0.20  # of customers that churn
EXPOSED_YEARS = 2.0
STOPPED_SHARE = 0.8
NULL_SHARE = 0.01

CHUNK_ROWS = 65_536  # rows drawn together; a batch of any size is cut from the same chunks
_PILOT_ROWS = 8_192
_ATTEMPTS = 20


@dataclass(frozen=True)
class _Traits:
    """Latent state of a chunk of customers, shape (rows,) each; `lived_share` is 1 for customers who stayed."""

    engagement: Array
    price: Array
    tenure: Array  # standard normal
    tenure_days: Array
    hazard: Array  # log, without its base
    churned: npt.NDArray[np.bool_]
    lived_share: Array


def generate(contract: Contract, rows: int, seed: int, as_of: dt.date | None = None) -> pa.Table:
    """A raw table of `rows` customers that keep the contract, label included, typed like Parquet.

    The same arguments give the same table. No date is after `as_of`; by default the
    contract's day if it is fixed, else AS_OF. Raises DataError if no row can satisfy the contract's rules.
    """
    return pa.Table.from_batches(list(generate_batches(contract, rows, seed, as_of)))


def generate_batches(
    contract: Contract, rows: int, seed: int, as_of: dt.date | None = None, batch_rows: int = CHUNK_ROWS
) -> Iterator[pa.RecordBatch]:
    """`generate` as a stream of at most `batch_rows` rows a batch; memory is one chunk."""
    today = snapshot_of(contract, as_of)
    base = _base(contract, today)
    for chunk, start in enumerate(range(0, max(rows, 1), CHUNK_ROWS)):
        table = _valid_chunk(contract, min(CHUNK_ROWS, rows - start), today, base, (seed, chunk))
        keys = _named_cells("C", np.arange(start, start + table.num_rows))
        yield from with_cells(table, contract.key.name, keys).to_batches(batch_rows)


def snapshot_of(contract: Contract, as_of: dt.date | None = None) -> dt.date:
    """The last day of the generated customers: `as_of`, the contract's, or AS_OF."""
    if as_of is not None:
        return as_of
    rule = contract.time.as_of
    fixed = dt.date.fromisoformat(rule) if rule != "latest" and rule not in contract.by_name else AS_OF
    highs = [dt.date.fromisoformat(str(c.high)) for c in contract.date_columns if c.high is not None]
    return min([fixed, *highs])


def _base(contract: Contract, today: dt.date) -> float:
    """The base log hazard at which BASE_RATE of a pilot population churns."""
    pilot, _ = _draw_traits(contract, _PILOT_ROWS, today, 0.0, np.random.default_rng(20_241_231))
    years = np.minimum(pilot.tenure_days / 365.25, EXPOSED_YEARS)
    return solve(lambda base: float(np.mean(-np.expm1(-np.exp(base + pilot.hazard) * years))), BASE_RATE, -20.0, 20.0)


def solve(rising: Callable[[float], float], target: float, low: float, high: float, steps: int = 60) -> float:
    """Where a rising function reaches `target` between `low` and `high`, by bisection."""
    for _ in range(steps):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return low


def _valid_chunk(contract: Contract, rows: int, today: dt.date, base: float, seed: tuple[int, int]) -> pa.Table:
    table = _draw(contract, rows, today, base, np.random.default_rng(seed))
    for attempt in range(1, _ATTEMPTS + 1):
        findings = _findings(contract, table, today)
        broken = rejected_rows(findings, rows)
        if not broken.any():
            return table
        fresh = _draw(contract, rows, today, base, np.random.default_rng((*seed, attempt)))
        if attempt == _ATTEMPTS and not broken.all():
            return _with_repeats(table, broken)
        table = _replaced(table, broken, fresh)
    example = findings[0].describe(int(np.argmax(findings[0].mask)))
    raise DataError(
        f"no customer can be generated that keeps contract '{contract.name}' ({example}); expected rules and bounds "
        "that leave room; loosen that one"
    )


def _findings(contract: Contract, table: pa.Table, today: dt.date) -> list[Finding]:
    """What validation says of the rows; the keys are given later."""
    typed, findings = check_cells(contract, table)
    rules = check_rules(contract, typed, as_of_days(today))
    return [*(finding for finding in findings if finding.column != contract.key.name), *rules]


def _with_repeats(table: pa.Table, broken: npt.NDArray[np.bool_]) -> pa.Table:
    """The few rows that still break a rule repeat others, under their own ids."""
    valid, places = np.flatnonzero(~broken), np.arange(len(broken))
    return table.take(pa.array(np.where(broken, valid[places % len(valid)], places)))


def _replaced(table: pa.Table, broken: npt.NDArray[np.bool_], fresh: pa.Table) -> pa.Table:
    chosen, pairs = pa.array(broken), zip(fresh.columns, table.columns, strict=True)
    cells = [pc.if_else(chosen, new.combine_chunks(), old.combine_chunks()) for new, old in pairs]
    return pa.table(cells, names=table.column_names)


def _draw(contract: Contract, rows: int, today: dt.date, base: float, rng: np.random.Generator) -> pa.Table:
    traits, chosen = _draw_traits(contract, rows, today, base, rng)
    dates = _draw_dates(contract, traits, today, rng)
    columns: dict[str, pa.Array] = {}
    for column in (column for column in contract.columns if column.role is not Role.IGNORE):
        cells = _cells(contract, column, traits, dates, chosen, rng)
        if column.nullable and column.role not in (Role.KEY, Role.LABEL):
            gone = pa.array(rng.random(rows) < NULL_SHARE)
            cells = pc.if_else(gone, pa.scalar(None, cells.type), cells)
        columns[column.name] = cells
    return pa.table(columns)


def _cells(
    contract: Contract,
    column: Column,
    traits: _Traits,
    dates: Mapping[str, Array],
    chosen: Mapping[str, npt.NDArray[np.int64]],
    rng: np.random.Generator,
) -> pa.Array:
    if column.role is Role.LABEL:
        return label_cells(contract, traits.churned)
    if column.kind in (Kind.NUMBER, Kind.INTEGER):
        return _number_cells(contract, column, traits, rng)
    if column.kind is Kind.DATE:
        return pa.array(dates[column.name].astype("datetime64[D]"))
    if column.kind in (Kind.CATEGORY, Kind.BOOLEAN):
        spellings = column.choices or (column.false[0], column.true[0])
        return pa.array(spellings).take(pa.array(chosen[column.name]))
    return _named_cells(f"{column.name}-", np.arange(len(traits.churned)))


def _draw_traits(
    contract: Contract, rows: int, today: dt.date, base: float, rng: np.random.Generator
) -> tuple[_Traits, dict[str, npt.NDArray[np.int64]]]:
    """The state of customers, of whom each has left by now with probability 1 - exp(-h x years since joining, at most
    EXPOSED_YEARS), on an exponential day; and the choices at the start as codes."""
    engagement, price, tenure = rng.standard_normal((3, rows))
    days = _tenure_days(contract, today, tenure)
    hazard = -1.0 * engagement + 0.6 * price
    chosen = {}
    for column in (column for column in contract.kept_columns if column.kind in (Kind.CATEGORY, Kind.BOOLEAN)):
        codes, effects = _draw_choices(contract, column, engagement, rng)
        chosen[column.name] = codes
        hazard = hazard + effects[codes]
    years = np.minimum(days / 365.25, EXPOSED_YEARS)
    reached = np.exp(np.clip(base + hazard, -30.0, 30.0)) * years
    chance = -np.expm1(-reached)
    churned = rng.random(rows) < chance
    with np.errstate(divide="ignore", invalid="ignore"):
        gone = -np.log1p(-rng.random(rows) * chance) / reached
    lived = np.where(churned, np.clip(np.nan_to_num(gone, nan=1.0), 0.0, 1.0), 1.0)
    return _Traits(engagement, price, tenure, days, hazard, churned, lived), chosen


def _tenure_days(contract: Contract, today: dt.date, tenure: Array) -> Array:
    days = np.floor(_quantile(marginals.TENURE_DAYS.get(contract.name, marginals.ANY_TENURE), tenure))
    lows = [as_of_days(str(c.low)) for c in contract.date_columns if c.low is not None]
    return np.minimum(days, max(as_of_days(today) - max(lows), 0.0)) if lows else days


def _draw_choices(
    contract: Contract, column: Column, engagement: Array, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], Array]:
    """The codes (rows,) of a category or boolean, and the effect of each code on the hazard."""
    if column.kind is Kind.BOOLEAN:
        mixed = 0.3 * engagement + 0.954 * rng.standard_normal(len(engagement))
        codes = (_uniform(mixed) > 1.0 - marginals.true_share(contract, column)).astype(np.int64)
        return codes, np.array([0.0, marginals.effect_on_hazard(column, "true")])
    shares = np.cumsum(marginals.choice_shares(contract, column))
    codes = np.minimum(np.searchsorted(shares, rng.random(len(engagement)), side="right"), len(shares) - 1)
    return codes, np.array([marginals.effect_on_hazard(column, choice) for choice in column.choices])


def _number_cells(contract: Contract, column: Column, traits: _Traits, rng: np.random.Generator) -> pa.Array:
    hint = marginals.marginal(contract, column)
    loadings = np.array(hint.loadings)
    noise = np.sqrt(max(0.0, 1.0 - float(loadings @ loadings)))
    rows = len(traits.churned)
    mixed = loadings @ np.vstack([traits.engagement, traits.tenure, traits.price]) + noise * rng.standard_normal(rows)
    values = _quantile(hint.quantiles, mixed)
    if hint.stops_at_churn:  # reduced to the share of the tenure before churn; some stay on the mailing list
        stopped = rng.random(rows) < STOPPED_SHARE
        values = np.where(stopped, values * traits.lived_share, values)
    whole = column.kind is Kind.INTEGER
    values = _within_bounds(column, np.floor(values) if whole else np.round(values, hint.decimals), whole)
    return pa.array(values).cast(pa.int64()) if whole else pa.array(values)


def _within_bounds(column: Column, values: Array, whole: bool) -> Array:
    if column.low is not None:
        values = np.maximum(values, np.ceil(float(column.low)) if whole else float(column.low))
    if column.high is not None:
        values = np.minimum(values, np.floor(float(column.high)) if whole else float(column.high))
    return values


def _draw_dates(contract: Contract, traits: _Traits, today: dt.date, rng: np.random.Generator) -> dict[str, Array]:
    """The first date is the day of joining; each further one is between the one before and the end."""
    end, rows, snapshot = as_of_days(today), len(traits.churned), contract.time.as_of
    before = end - traits.tenure_days
    gone = before + np.floor(traits.lived_share * traits.tenure_days)
    dates: dict[str, Array] = {}
    for name in (name for name in _date_order(contract) if name != snapshot):
        if dates:
            # Half follow on the same day; those of engaged customers are closer to the end.
            near = rng.random(rows) ** np.exp(-0.5 * traits.engagement)
            before = before + np.floor((gone - before) * np.where(rng.random(rows) < 0.5, 0.0, near))
        dates[name] = before
    if snapshot in contract.by_name:
        dates[snapshot] = np.full(rows, end)
    return dates


def _date_order(contract: Contract) -> list[str]:
    """Date columns, each after those that a rule `a <= b` puts before it, else in the contract's order."""
    earlier: dict[str, set[str]] = {column.name: set() for column in contract.date_columns}
    for rule in parse_rules(contract):
        first, second = _ordered_names(rule.tree)
        if first in earlier and second in earlier:
            earlier[second].add(first)
    ordered: list[str] = []
    while remaining := [name for name in earlier if name not in ordered]:
        ordered.append(next((name for name in remaining if earlier[name] <= set(ordered)), remaining[0]))
    return ordered


def _ordered_names(tree: ast.expr) -> tuple[str, str]:
    """(a, b) of a rule `a <= b` or `b >= a`; empty names for another rule."""
    match tree:
        case ast.Compare(left=ast.Name(id=left), ops=[ast.Lt() | ast.LtE()], comparators=[ast.Name(id=right)]):
            return left, right
        case ast.Compare(left=ast.Name(id=left), ops=[ast.Gt() | ast.GtE()], comparators=[ast.Name(id=right)]):
            return right, left
    return "", ""


def _named_cells(prefix: str, numbers: npt.NDArray[np.int64]) -> pa.Array:
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0")
    return pc.binary_join_element_wise(pa.scalar(prefix), digits, "")


def label_cells(contract: Contract, churned: npt.NDArray[np.bool_]) -> pa.Array:
    """The label column of customers (n,) as the contract spells it."""
    spellings = pa.array([contract.label.kept_values[0], contract.label.churned_when])
    return spellings.take(pa.array(churned.astype(np.int8)))


def with_cells(table: pa.Table, name: str, cells: pa.Array) -> pa.Table:
    """`table` with other cells in the column `name`."""
    return table.set_column(table.column_names.index(name), name, cells)


def _uniform(normal: Array) -> Array:
    """The normal distribution function, accurate to 0.01, as a logistic one; it needs no library."""
    return 1.0 / (1.0 + np.exp(-1.702 * normal))


def _quantile(values: tuple[float, ...], normal: Array) -> Array:
    """A quantile function evaluated at standard normal draws."""
    return np.interp(_uniform(normal), np.linspace(0.0, 1.0, len(values)), values)

"""The findings of the tests that compare whole columns and how they go together."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from churn_assets.contract.limits import Monitoring
from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.monitoring.faults.broken_relations import find_broken_relations
from churn_assets.monitoring.faults.relabelled import find_relabelled
from churn_assets.monitoring.faults.special_values import find_special_values
from churn_assets.monitoring.faults.units import ForeignNumbers, find_foreign_numbers, growth
from churn_assets.monitoring.findings import Finding, has_few_values, share_finding, shown
from churn_assets.monitoring.profile import AS_OF, Profile, Reference

if TYPE_CHECKING:
    import pyarrow as pa

_NUMBERS = frozenset({Kind.NUMBER, Kind.INTEGER})
_EXPLAINING = frozenset({Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN, Kind.CATEGORY})


def check_together(
    profile: Profile, reference: Reference, contract: Contract, limits: Monitoring, known: Sequence[Finding]
) -> list[Finding]:
    """The findings `known` of single columns, and those about columns that look whole by themselves. None blocks for a
    `silent` or excluded column. Below `limits.floor` customers nothing more is tested."""
    findings = [_without_growth(finding, profile, reference) for finding in known]
    if profile.rows >= limits.floor:
        findings = check_special_values(profile, reference, contract, limits, findings)
        for check in (check_units, check_levels, check_relations):
            findings += check(profile, reference, contract, limits, findings)
    return findings


def _without_growth(finding: Finding, profile: Profile, reference: Reference) -> Finding:
    """Numbers beyond those of training are drift if everybody's have grown by one factor that is no unit's."""
    if finding.check != "outside_range" or not finding.blocks:
        return finding
    sides = (side.sample[finding.column].to_numpy() for side in (reference.profile, profile))
    factor = growth(*sides)
    if factor is None:
        return finding
    message = f"{finding.message} No: everybody's are about {factor:.2f} times those of training, which is drift"
    return replace(finding, message=message, blocks=False)


def check_special_values(
    profile: Profile, reference: Reference, contract: Contract, limits: Monitoring, known: Sequence[Finding]
) -> list[Finding]:
    """The findings `known`, and those about values that more customers have than before and than their other columns
    explain. A `spike` that they explain blocks no more. Other columns with a finding that blocks have one already; of
    few different numbers one that becomes frequent is drift, and so are those that are frequent because everybody's
    have grown."""
    columns = {column.name: column for column in contract.logged_columns}
    spiked = {finding.column for finding in known if finding.check == "spike" and finding.blocks}
    named = _broken_columns(known, contract, limits) - spiked
    kinds, before, now = _comparable(profile, reference, contract)
    numbers = [n for n, kind in kinds.items() if kind in _NUMBERS and n not in named and n in reference.bounds]
    sides = {name: (before[name].to_numpy(), now[name].to_numpy()) for name in numbers}
    many = [name for name in numbers if not has_few_values(sides[name][0]) and growth(*sides[name]) is None]
    specials = find_special_values(before, now, kinds, many)
    unexplained = {special.column for special in specials}
    findings = []
    for finding in known:
        if finding.check == "spike" and finding.column in many and finding.column not in unexplained:
            message = f"{finding.message} Yes: the customers' other values have changed with it, which is drift"
            finding = replace(finding, message=message, blocks=False)
        findings.append(finding)
    for special in specials:
        column = columns[special.column]
        if column.name in spiked:
            continue
        value = "missing" if math.isnan(special.value) else shown(column, special.value)
        message = (
            f"'{column.name}' is {value} for {special.share:.1%} of the customers, in training "
            f"for {special.usual:.1%}, and by their other columns {special.expected:.1%} are to be expected; "
            "is it still filled?"
        )
        blocks = column.name not in (*limits.silent, *contract.unread)
        findings.append(
            share_finding("unexplained_value", column.name, special.share, special.expected, message, blocks)
        )
    return findings


def check_units(
    profile: Profile, reference: Reference, contract: Contract, limits: Monitoring, known: Sequence[Finding]
) -> Iterator[Finding]:
    """Numbers in another unit or in another column's place, and some that lie far beyond those of training; the last
    only where `known` has no such finding."""
    kinds = {column.name: column.kind for column in contract.logged_columns if _explains(column)}
    outside = {finding.column for finding in known if finding.check == "outside_range"}
    for numbers in find_foreign_numbers(reference.profile.sample, profile.sample, kinds):
        if numbers.kind != "far" or numbers.column not in outside:
            blocks = numbers.column not in (*limits.silent, *contract.unread)
            yield replace(_describe_numbers(numbers), blocks=blocks)


def _describe_numbers(numbers: ForeignNumbers) -> Finding:
    name, rows = numbers.column, f"{numbers.share:.0%} of the customers"
    if numbers.kind == "swapped":
        message = f"'{name}' has the values of '{numbers.other}' for about {rows}; are the columns swapped?"
        return share_finding("swapped", name, numbers.share, 0.0, message)
    if numbers.kind == "far":
        message = (
            f"{numbers.share:.1%} of '{name}' lie beyond {numbers.bound:g}, twice the training range; "
            "is the unit the same?"
        )
        return share_finding("outside_range", name, numbers.share, 0.0, message)
    times = f"{numbers.factor:.4g} times as large" if numbers.factor > 1 else f"1/{1 / numbers.factor:.4g} as large"
    message = f"'{name}' is {times} as in training for about {rows}, the rest is as it was; is the unit the same?"
    return share_finding("unit_change", name, numbers.share, 0.0, message)


def check_levels(
    profile: Profile, reference: Reference, contract: Contract, limits: Monitoring, known: Sequence[Finding]
) -> Iterator[Finding]:
    """Categories whose levels have each other's names. One with unknown levels has a finding in `known` already."""
    named = _broken_columns(known, contract, limits)
    for column in contract.logged_columns:
        before, now = (side.columns.get(column.name) for side in (reference.profile, profile))
        if column.kind is not Kind.CATEGORY or column.name in named or before is None or now is None:
            continue
        levels = find_relabelled(before.levels or {}, now.levels or {})
        if levels is None:
            continue
        renamed = ", ".join(f"'{new}' was '{old}'" for new, old in levels.renamed.items())
        message = (
            f"the levels of '{column.name}' have the shares of training under other names ({renamed[:200]}); "
            "are the codes those of training?"
        )
        yield share_finding("relabelled", column.name, levels.moved, 0.0, message)


def _broken_columns(known: Sequence[Finding], contract: Contract, limits: Monitoring) -> set[str]:
    """Columns that need no further test and explain nothing; a few odd cells are no reason to leave one out."""
    unblocked = {*limits.silent, *contract.unread}
    return {finding.column for finding in known if finding.blocks or finding.column in unblocked}


def check_relations(
    profile: Profile, reference: Reference, contract: Contract, limits: Monitoring, known: Sequence[Finding]
) -> Iterator[Finding]:
    """Columns whose values go with the other columns no more; those that are broken by a finding in `known` are left
    out, because their values explain nothing. Dates count as days before the row's day."""
    kinds, before, now = _comparable(profile, reference, contract, _broken_columns(known, contract, limits))
    late = (*limits.silent, *contract.unread)
    for relation in find_broken_relations(before, now, kinds, last=late):
        message = (
            f"'{relation.column}' no longer goes with the other columns for about {relation.share:.0%} of the "
            f"customers ({relation.z:.1f} standard errors); is it joined by the right key, and in the same unit?"
        )
        blocks = relation.column not in late
        yield share_finding("broken_relation", relation.column, relation.share, 0.0, message, blocks)


def _explains(column: Column) -> bool:
    return column.role is Role.FEATURE and column.kind in _EXPLAINING


def _comparable(
    profile: Profile, reference: Reference, contract: Contract, left_out: Collection[str] = ()
) -> tuple[dict[str, Kind], pa.Table, pa.Table]:
    """The kinds of the columns that explain each other, and their values in the reference and in the window. Dates are
    among them, as days before the row's day, if both sides have that."""
    sides = (reference.profile.sample, profile.sample)
    has_ages = all(AS_OF in sample.column_names for sample in sides)
    kinds = {
        column.name: column.kind
        for column in contract.logged_columns
        if column.name not in left_out
        and all(column.name in sample.column_names for sample in sides)
        and (has_ages if column.kind is Kind.DATE else _explains(column))
    }
    return kinds, *(_with_ages(sample, kinds) for sample in sides)


def _with_ages(sample: pa.Table, kinds: Mapping[str, Kind]) -> pa.Table:
    """The columns of `kinds`, each date as days before the day of the row: the calendar moves, ages stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pa.table(
        {
            name: pc.subtract(sample[AS_OF], sample[name]) if kind is Kind.DATE else sample[name]
            for name, kind in kinds.items()
        }
    )

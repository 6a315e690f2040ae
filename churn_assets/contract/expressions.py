"""The contract's small expression language: parsed, resolved and type-checked, not yet computed.

Python's own parser reads the text; only the nodes of `language.Types` are let through. A column whose
name is no word (blanks, other signs, a keyword) is written `column("Total Charges")`. Types are
`number` (booleans are 1 and 0), `date` and `category`; a missing value anywhere makes the result
missing, except where the table of functions in docs/contract.md says otherwise.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from churn_assets.contract.language import AS_OF, CATEGORY, DATE, LEARNT, NUMBER, Place, Types, resolve_quoted
from churn_assets.contract.model import Column, Contract, Kind, Role
from churn_assets.errors import ExpressionError

# Deeper trees would run into the limits of Python's own parser when the function is generated.
MAX_DEPTH = 50

_KIND_TYPES = {
    Kind.NUMBER: NUMBER,
    Kind.INTEGER: NUMBER,
    Kind.BOOLEAN: NUMBER,
    Kind.DATE: DATE,
    Kind.CATEGORY: CATEGORY,
}


@dataclass(frozen=True)
class Expression:
    """A checked expression: `tree` is its syntax, `names` what it reads (columns, features, as_of)."""

    name: str
    text: str
    tree: ast.expr
    names: frozenset[str]


def parse_features(contract: Contract, file: str = "") -> tuple[Expression, ...]:
    """The contract's features in an order in which each stands after those it reads.

    Raises ExpressionError for what does not parse, resolve or type-check, and for a cycle.
    """
    where = file or contract.where
    trees = {f.name: _parse(Place(where, "[features]", f)) for f in contract.features}
    features = {f.name: f for f in contract.features}
    reads = {name: _names(tree) for name, tree in trees.items()}
    ordered = _in_order(reads, where)
    scope = _columns_scope(contract)
    for name in ordered:
        feature = features[name]
        found = Types(scope, contract, Place(where, "[features]", feature)).of(trees[name])
        if found != NUMBER:
            Place(where, "[features]", feature).fail(trees[name], f"the result is a {found}, expected a number")
        scope[name] = NUMBER
    return tuple(Expression(n, features[n].expression, trees[n], frozenset(reads[n])) for n in ordered)


def parse_rules(contract: Contract, file: str = "") -> tuple[Expression, ...]:
    """The contract's rules, which read columns and `as_of` only. Raises ExpressionError."""
    where = file or contract.where
    found = []
    for rule in contract.rules:
        place = Place(where, "[[rules]]", rule)
        tree = _parse(place)
        if Types(_columns_scope(contract), contract, place).of(tree) != NUMBER:
            place.fail(tree, "the result is no condition; compare something")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LEARNT:
                place.fail(node, f"{node.func.id} is learnt from a training table; only a feature may use it")
        found.append(Expression(rule.name, rule.expression, tree, frozenset(_names(tree))))
    return tuple(found)


def columns_read(contract: Contract) -> Mapping[str, frozenset[str]]:
    """For each feature the columns it reads, through other features too (for lineage)."""
    found: dict[str, frozenset[str]] = {}
    for expression in parse_features(contract):
        direct = expression.names - {AS_OF}
        through = [found[n] if n in found else frozenset({n}) for n in direct]
        found[expression.name] = frozenset().union(*through) if through else frozenset()
    return found


def _parse(place: Place) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the parser would warn of is refused by its node anyway
            tree = ast.parse(place.text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        position = getattr(error, "offset", None) or 1
        place.fail(position, f"does not parse ({getattr(error, 'msg', None) or error})")
    if _is_deeper(tree, MAX_DEPTH):
        place.fail(1, f"is nested more than {MAX_DEPTH} deep; give its parts names as features of their own")
    return resolve_quoted(tree, place)


def _is_deeper(tree: ast.AST, depth: int) -> bool:
    level: list[ast.AST] = [tree]
    for _ in range(depth):
        level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        if not level:
            return False
    return True


def _names(tree: ast.expr) -> set[str]:
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called}


def _in_order(reads: Mapping[str, set[str]], where: str) -> list[str]:
    done: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            cycle = " -> ".join([*path[path.index(name) :], name])
            raise ExpressionError(f"{where}, [features]: a cycle, {cycle}; a feature may not read itself")
        path.append(name)
        for other in sorted(reads[name] & reads.keys()):
            visit(other)
        path.pop()
        done.append(name)

    for name in reads:
        visit(name)
    return done


def _columns_scope(contract: Contract) -> dict[str, str]:
    scope = {
        c.name: _KIND_TYPES[c.kind]
        for c in contract.columns
        if c.role in (Role.FEATURE, Role.INPUT) and c.kind in _KIND_TYPES
    }
    return {**scope, AS_OF: DATE}


def columns_of(expression: Expression, contract: Contract) -> Iterator[Column]:
    """The columns an expression reads directly."""
    return (contract.by_name[name] for name in sorted(expression.names) if name in contract.by_name)

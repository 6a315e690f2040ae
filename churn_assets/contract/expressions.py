"""The contract's small expression language: parsed, resolved and type-checked, not yet computed.

Python's own parser reads the text; only the nodes of `_Types` are allowed. A column whose name is not an
identifier (blanks, other signs, a keyword) is written `column("Total Charges")`. Types are `number` (booleans are
1 and 0), `date` and `category`; a missing value anywhere makes the result missing, except where the table of
functions in docs/contract.md says otherwise.
"""

from __future__ import annotations

import ast
import copy
import datetime as dt
import keyword
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from churn_assets.contract.model import NUMERIC_KINDS, Column, Contract, Feature, Kind, Rule
from churn_assets.errors import ExpressionError, did_you_mean

NUMBER, DATE, CATEGORY = "number", "date", "category"
AS_OF = "as_of"
FITTED = ("typical", "accrued")  # their statistics are fitted, without labels, on training rows

# name -> types of the arguments, or one type for any count of two and more; each gives a number
FUNCTIONS: Mapping[str, tuple[str, ...] | str] = {
    **dict.fromkeys(("days", "log1p", "sqrt", "abs", "floor", "round"), (NUMBER,)),
    **dict.fromkeys(("fill", *FITTED), (NUMBER, NUMBER)),
    **dict.fromkeys(("clip", "where"), (NUMBER, NUMBER, NUMBER)),
    **dict.fromkeys(("min", "max"), NUMBER),
    **dict.fromkeys(("month", "weekday"), (DATE,)),
    "isnull": ("any",),
}

# column("Total Charges") is a column whose name is not an identifier.
QUOTED = "column"

_ONE_LINE = str.maketrans("\r\n\t\v\f", "     ")
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)
COMPARED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)

# Deeper trees would exceed the limits of Python's own parser when the function is generated.
MAX_DEPTH = 50

_KIND_TYPES = {**dict.fromkeys(NUMERIC_KINDS, NUMBER), Kind.DATE: DATE, Kind.CATEGORY: CATEGORY}


@dataclass(frozen=True)
class Expression:
    """A checked expression: `tree` is its syntax, `names` what it reads (columns, features, as_of)."""

    name: str
    text: str
    tree: ast.expr
    names: frozenset[str]


def parse_features(contract: Contract, file: str = "") -> tuple[Expression, ...]:
    """The contract's features in an order in which each follows those that it reads. Raises ExpressionError if one does
    not parse, resolve or type-check, and for a cycle."""
    where = file or contract.where
    features = {f.name: f for f in contract.features}
    trees = {name: _parse(Place(where, "[features]", feature)) for name, feature in features.items()}
    reads = {name: _names(tree) for name, tree in trees.items()}
    ordered = _in_order(reads, where)
    scope = _scope(contract.logged_columns)
    for name in ordered:
        place = Place(where, "[features]", features[name])
        type_ = _Types(scope, contract, place).of(trees[name])
        if type_ != NUMBER:
            place.fail(trees[name], f"the result is a {type_}; expected a number")
        scope[name] = NUMBER
    return tuple(Expression(n, features[n].expression, trees[n], frozenset(reads[n])) for n in ordered)


def parse_rules(contract: Contract, file: str = "") -> tuple[Expression, ...]:
    """The contract's rules, which read columns and `as_of` only. Raises ExpressionError."""
    return tuple(_parse_rule(contract, rule, file or contract.where) for rule in contract.rules)


def parse_value(contract: Contract, file: str = "") -> Expression:
    """The expression of a customer's value, which reads columns (excluded ones too) and `as_of`. Raises
    ExpressionError."""
    place = Place(file or contract.where, "[value]", Rule("value", contract.value.value))
    return _parse_unfitted(contract, place, contract.logged_columns, "is not a number; expected an amount")


def _parse_rule(contract: Contract, rule: Rule, where: str) -> Expression:
    place = Place(where, "[[rules]]", rule)
    return _parse_unfitted(contract, place, contract.logged_columns, "is not a condition; expected a comparison")


def _parse_unfitted(contract: Contract, place: Place, columns: Iterable[Column], otherwise: str) -> Expression:
    """A numeric expression over these columns, without statistics of a training table."""
    tree = _parse(place)
    if _Types(_scope(columns), contract, place).of(tree) != NUMBER:
        place.fail(tree, f"the result {otherwise}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FITTED:
            place.fail(node, f"{node.func.id} is fitted on a training table; only a feature may use it")
    return Expression(place.owner.name, place.owner.expression, tree, frozenset(_names(tree)))


def columns_read(contract: Contract) -> Mapping[str, frozenset[str]]:
    """For each feature the columns that it reads, also through other features (for lineage)."""
    columns: dict[str, frozenset[str]] = {}
    for expression in parse_features(contract):
        read = (columns.get(name, frozenset({name})) for name in expression.names - {AS_OF})
        columns[expression.name] = frozenset[str]().union(*read)
    return columns


def _parse(place: Place) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # code that the parser warns of is rejected by its node anyway
            tree = ast.parse(place.text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        position = getattr(error, "offset", None) or 1
        place.fail(position, f"does not parse ({getattr(error, 'msg', None) or error})")
    if _is_deeper(tree, MAX_DEPTH):
        place.fail(1, f"is nested more than {MAX_DEPTH} levels deep; make features of its parts")
    resolved: ast.expr = _ResolveQuoted(place).visit(tree)
    return resolved


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
    for name in reads:
        _visit(name, reads, where, [], done)
    return done


def _visit(name: str, reads: Mapping[str, set[str]], where: str, path: list[str], done: list[str]) -> None:
    """Append what `name` reads, then `name`, to `done`; `path` led to it."""
    if name in done:
        return
    if name in path:
        cycle = " -> ".join([*path[path.index(name) :], name])
        raise ExpressionError(
            f"{where}, [features]: {cycle} is a cycle; "
            "expected features that do not read themselves; remove one of them"
        )
    for other in sorted(reads[name] & reads.keys()):
        _visit(other, reads, where, [*path, name], done)
    done.append(name)


def _scope(columns: Iterable[Column]) -> dict[str, str]:
    return {c.name: _KIND_TYPES[c.kind] for c in columns if c.kind in _KIND_TYPES} | {AS_OF: DATE}


@dataclass(frozen=True)
class Place:
    """The place of an expression in the contract, for messages."""

    file: str
    table: str
    owner: Feature | Rule

    @property
    def text(self) -> str:
        """The expression on one line, as it is parsed."""
        return self.owner.expression.translate(_ONE_LINE).strip()

    def fail(self, node: ast.expr | int, message: str) -> NoReturn:
        """Raise ExpressionError at `node`, or at a 1-based position."""
        text = self.text
        # The parser counts bytes, people count characters.
        column = node if isinstance(node, int) else len(text.encode()[: node.col_offset].decode()) + 1
        raise ExpressionError(
            f"{self.file}, {self.table} '{self.owner.name}', position {column} of \"{text}\": {message}"
        )


class _ResolveQuoted(ast.NodeTransformer):
    """Replaces `column("...")` by the bare name, so that no other code has to know of quotes."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def visit_Call(self, node: ast.Call) -> ast.AST:  # the name is the standard library's
        match node:
            case ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str() as name)], keywords=[]):
                return ast.copy_location(ast.Name(name, ast.Load()), node)
            case ast.Call(func=ast.Name(id="column")):
                self.place.fail(node, 'column takes one name in quotes, as in column("Total Charges")')
        return self.generic_visit(node)


class _QuoteAgain(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:
        if is_plain(node.id):
            return node
        return ast.Call(ast.Name(QUOTED, ast.Load()), [ast.Constant(node.id)], [])


def written(node: ast.expr) -> str:
    """The source text of `node`; different trees have different texts, whatever the names of the columns are."""
    return ast.unparse(_QuoteAgain().visit(copy.deepcopy(node)))


def is_plain(name: str) -> bool:
    """Whether an expression can name a column without quotes (the parser rewrites names that are not NFKC)."""
    return name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name


def in_expression(name: str) -> str:
    """How an expression names this column: as it is, or as `column("...")`."""
    if is_plain(name):
        return name
    # Escapes that Python's parser reads back, so that any name can be written on one line.
    return f"{QUOTED}({name!r})" if '"' in name else QUOTED + '("' + repr(name + "'")[1:-2] + '")'


class _Types:
    """Computes the type of each node. Raises ExpressionError at the node's position."""

    def __init__(self, scope: Mapping[str, str], contract: Contract, place: Place) -> None:
        self.scope = scope
        self.contract = contract
        self.place = place

    def of(self, node: ast.expr) -> str:
        """The type of `node`; its parts are checked, too."""
        match node:
            case ast.Constant(value=int() | float() as value):
                return self._constant(node, value)
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _ARITHMETIC):
                return self._arithmetic(node, op, self.of(left), self.of(right))
            case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
                return self._numbers([operand], "-" if isinstance(node.op, ast.USub) else "not")
            case ast.BoolOp(values=values):
                return self._numbers(values, "and / or")
            case ast.Compare(left=left, ops=[op], comparators=[right]) if isinstance(op, COMPARED):
                return self._comparison(node, op, left, right)
            case ast.Compare(ops=[_, _, *_]):
                self.place.fail(node, f"'{written(node)}' compares more than two values; join two comparisons by 'and'")
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(node, name, arguments)
        self.place.fail(node, f"'{written(node)}' is not part of the language; see docs/contract.md")

    def _constant(self, node: ast.expr, value: float) -> str:
        if isinstance(value, bool):
            self.place.fail(node, "write 1 for true and 0 for false")
        if not abs(value) <= sys.float_info.max:
            self.place.fail(node, "the number is too large; expected a finite number")
        return NUMBER

    def _name(self, node: ast.expr, name: str) -> str:
        if name in self.scope:
            return self.scope[name]
        column = self.contract.by_name.get(name)
        if column is not None:
            self.place.fail(node, f"column '{name}' ({column.kind}, role {column.role}) cannot be used here")
        hint = did_you_mean(name, self.scope)
        self.place.fail(node, f"unknown name '{name}'; {hint}known: {', '.join(sorted(self.scope))}")

    def _arithmetic(self, node: ast.expr, op: ast.operator, left: str, right: str) -> str:
        if left == right == NUMBER or (isinstance(op, ast.Sub) and left == right == DATE):
            return NUMBER
        if isinstance(op, ast.Add | ast.Sub) and (left, right) == (DATE, NUMBER):
            return DATE
        self.place.fail(node, f"cannot combine a {left} and a {right} in '{written(node)}'")

    def _comparison(self, node: ast.expr, op: ast.cmpop, left: ast.expr, right: ast.expr) -> str:
        if isinstance(right, ast.Constant) and isinstance(right.value, str):
            return self._against_text(node, op, left, right.value)
        types = self.of(left), self.of(right)
        if types not in ((NUMBER, NUMBER), (DATE, DATE)):
            self.place.fail(node, f"cannot compare a {types[0]} with a {types[1]}")
        return NUMBER

    def _against_text(self, node: ast.expr, op: ast.cmpop, left: ast.expr, text: str) -> str:
        type_ = self.of(left)
        if type_ == DATE and not is_date(text):
            self.place.fail(node, f"'{text}' is not a date; expected one such as 2014-01-20")
        if type_ != DATE:
            self._check_choice(node, op, left, type_, text)
        return NUMBER

    def _check_choice(self, node: ast.expr, op: ast.cmpop, left: ast.expr, type_: str, text: str) -> None:
        if not isinstance(left, ast.Name) or type_ != CATEGORY:
            self.place.fail(node, f"a {type_} is compared with text; expected a date or a category column")
        choices = self.contract.column(left.id).choices
        if text not in choices or not isinstance(op, ast.Eq | ast.NotEq):
            self.place.fail(node, f"compare '{left.id}' by == or != with one of: {', '.join(choices)}")

    def _call(self, node: ast.expr, name: str, arguments: list[ast.expr]) -> str:
        for argument, expected in zip(arguments, self._parameters(node, name, len(arguments)), strict=True):
            type_ = self.of(argument)
            if expected not in ("any", type_):
                self.place.fail(argument, f"'{written(argument)}' is a {type_}; {name} expects a {expected}")
        return NUMBER

    def _parameters(self, node: ast.expr, name: str, arguments: int) -> tuple[str, ...]:
        """The types of the function's parameters, as many as `arguments`."""
        if name not in FUNCTIONS:
            hint = did_you_mean(name, FUNCTIONS)
            self.place.fail(node, f"unknown function '{name}'; {hint}known: {', '.join(sorted(FUNCTIONS))}")
        parameters = FUNCTIONS[name]
        number = "two or more" if isinstance(parameters, str) else len(parameters)
        if isinstance(parameters, str):
            parameters = (parameters,) * max(2, arguments)
        if arguments != len(parameters):
            self.place.fail(node, f"the number of arguments of {name} is {arguments}; expected {number}")
        return parameters

    def _numbers(self, nodes: list[ast.expr], operator: str) -> str:
        for node in nodes:
            type_ = self.of(node)
            if type_ != NUMBER:
                self.place.fail(node, f"'{written(node)}' is a {type_}; {operator} expects a {NUMBER}")
        return NUMBER


def is_date(text: str) -> bool:
    """Whether `text` is a date written as 2014-01-20, which also sorts as text."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False

"""What the expression language knows: its types, its functions, and the check of one syntax tree."""

from __future__ import annotations

import ast
import copy
import datetime as dt
import difflib
import keyword
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from churn_assets.contract.model import Contract, Feature, Rule
from churn_assets.errors import ExpressionError

NUMBER, DATE, CATEGORY = "number", "date", "category"
AS_OF = "as_of"
LEARNT = ("typical", "accrued")  # their statistics are learnt, without labels, on training rows

# name -> (parameter types, or one type for any count of two and more; result)
FUNCTIONS: Mapping[str, tuple[tuple[str, ...] | str, str]] = {
    "days": ((NUMBER,), NUMBER),
    "log1p": ((NUMBER,), NUMBER),
    "sqrt": ((NUMBER,), NUMBER),
    "abs": ((NUMBER,), NUMBER),
    "floor": ((NUMBER,), NUMBER),
    "round": ((NUMBER,), NUMBER),
    "clip": ((NUMBER, NUMBER, NUMBER), NUMBER),
    "where": ((NUMBER, NUMBER, NUMBER), NUMBER),
    "fill": ((NUMBER, NUMBER), NUMBER),
    "isnull": (("any",), NUMBER),
    "min": (NUMBER, NUMBER),
    "max": (NUMBER, NUMBER),
    "month": ((DATE,), NUMBER),
    "weekday": ((DATE,), NUMBER),
    "typical": ((NUMBER, NUMBER), NUMBER),
    "accrued": ((NUMBER, NUMBER), NUMBER),
}

# column("Total Charges") names a column whose name is no word of the language.
QUOTED = "column"

_ONE_LINE = str.maketrans("\r\n\t\v\f", "     ")
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)


@dataclass(frozen=True)
class Place:
    """Where an expression stands, for messages."""

    file: str
    table: str
    owner: Feature | Rule

    @property
    def text(self) -> str:
        """The expression on one line, as it is parsed."""
        return self.owner.expression.translate(_ONE_LINE).strip()

    def fail(self, node: ast.expr | int, words: str) -> NoReturn:
        """Raise ExpressionError at `node`, or at a 1-based position."""
        text = self.text
        # The parser counts bytes, people count characters.
        column = node if isinstance(node, int) else len(text.encode()[: node.col_offset].decode()) + 1
        raise ExpressionError(
            f"{self.file}, {self.table} '{self.owner.name}', position {column} of \"{text}\": {words}"
        )


class _ResolveQuoted(ast.NodeTransformer):
    """Puts the bare name where `column("...")` stands: after it nothing else has to know of quotes."""

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


def resolve_quoted(tree: ast.expr, place: Place) -> ast.expr:
    """`tree` with each `column("name")` as that name. Raises ExpressionError for another use of `column`."""
    found: ast.expr = _ResolveQuoted(place).visit(tree)
    return found


def written(node: ast.expr) -> str:
    """`node` as it is written; two trees that differ are never written alike, whatever columns are called."""
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


class Types:
    """Gives each node its type, or fails at its position."""

    def __init__(self, scope: Mapping[str, str], contract: Contract, place: Place) -> None:
        self.scope = scope
        self.contract = contract
        self.place = place

    def of(self, node: ast.expr) -> str:
        """The type of `node`, its parts checked on the way."""
        match node:
            case ast.Constant(value=bool()):
                self.place.fail(node, "write 1 for true and 0 for false")
            case ast.Constant(value=int() | float() as value):
                if not _is_finite(value):
                    self.place.fail(node, "the number is too large")
                return NUMBER
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _ARITHMETIC):
                return self._arithmetic(node, op, self.of(left), self.of(right))
            case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
                return self._all(NUMBER, [operand], "-" if isinstance(node.op, ast.USub) else "not")
            case ast.BoolOp(values=values):
                return self._all(NUMBER, values, "and / or")
            case ast.Compare(left=left, ops=[op], comparators=[right]) if isinstance(op, _COMPARISONS):
                return self._comparison(node, op, left, right)
            case ast.Compare(ops=[_, _, *_]):
                self.place.fail(node, f"'{written(node)}' compares more than two; join two comparisons by 'and'")
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(node, name, arguments)
        self.place.fail(node, f"'{written(node)}' is not part of the language; see docs/contract.md")

    def _name(self, node: ast.expr, name: str) -> str:
        if name in self.scope:
            return self.scope[name]
        column = self.contract.by_name.get(name)
        if column is not None:
            self.place.fail(node, f"column '{name}' ({column.kind}, role {column.role}) cannot be used here")
        near = difflib.get_close_matches(name, self.scope, 1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        self.place.fail(node, f"unknown name '{name}'; {hint}known: {', '.join(sorted(self.scope))}")

    def _arithmetic(self, node: ast.expr, op: ast.operator, left: str, right: str) -> str:
        if left == right == NUMBER:
            return NUMBER
        if isinstance(op, ast.Sub) and left == right == DATE:
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
        found = self.of(left)
        if found == DATE:
            if not is_date(text):
                self.place.fail(node, f"'{text}' is no date such as 2014-01-20")
            return NUMBER
        if not isinstance(left, ast.Name) or found != CATEGORY:
            self.place.fail(node, f"only dates and category columns compare with text, this is a {found}")
        choices = self.contract.column(left.id).choices
        if text not in choices or not isinstance(op, ast.Eq | ast.NotEq):
            self.place.fail(node, f"compare '{left.id}' by == or != with one of: {', '.join(choices)}")
        return NUMBER

    def _call(self, node: ast.expr, name: str, arguments: list[ast.expr]) -> str:
        if name not in FUNCTIONS:
            near = difflib.get_close_matches(name, FUNCTIONS, 1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            self.place.fail(node, f"unknown function '{name}'; {hint}known: {', '.join(sorted(FUNCTIONS))}")
        parameters, result = FUNCTIONS[name]
        if isinstance(parameters, str):
            if len(arguments) < 2:
                self.place.fail(node, f"{name} takes two or more arguments, found {len(arguments)}")
            parameters = (parameters,) * len(arguments)
        if len(arguments) != len(parameters):
            self.place.fail(node, f"{name} takes {len(parameters)} arguments, found {len(arguments)}")
        for argument, wanted in zip(arguments, parameters, strict=True):
            found = self.of(argument)
            if wanted not in ("any", found):
                self.place.fail(argument, f"{name} wants a {wanted}, '{written(argument)}' is a {found}")
        return result

    def _all(self, wanted: str, nodes: list[ast.expr], what: str) -> str:
        for node in nodes:
            found = self.of(node)
            if found != wanted:
                self.place.fail(node, f"{what} wants a {wanted}, '{written(node)}' is a {found}")
        return wanted


def is_date(text: str) -> bool:
    """Whether `text` is a date written as 2014-01-20, which also sorts as text."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False

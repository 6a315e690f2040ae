"""The expression language once more, one row at a time in plain Python: slow, obvious, NumPy-free."""

import ast
import datetime as dt
import itertools
import math
from collections.abc import Mapping

from churn_assets.contract.model import Contract

NAN = math.nan
EPOCH = dt.date(1970, 1, 1).toordinal()
_FIRST, _LAST = dt.date.min.toordinal() - EPOCH, dt.date.max.toordinal() - EPOCH


class Interpreter:
    """Evaluates checked trees for one row; `row` has columns and earlier features, `as_of` in days."""

    def __init__(self, contract: Contract, row: Mapping[str, float], as_of: float, state: Mapping[str, dict]) -> None:
        self.contract = contract
        self.row = row
        self.as_of = as_of
        self.state = state

    def of(self, node: ast.expr) -> float:
        match node:
            case ast.Constant(value=value):
                return float(value)  # type: ignore[arg-type]
            case ast.Name(id="as_of"):
                return self.as_of
            case ast.Name(id=name):
                return self._name(name)
            case ast.BinOp(left=left, op=op, right=right):
                return _arithmetic(op, self.of(left), self.of(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.of(operand)
            case ast.UnaryOp(operand=operand):
                value = self.of(operand)
                return NAN if math.isnan(value) else float(value == 0)
            case ast.BoolOp(op=op, values=values):
                return _joined(isinstance(op, ast.And), [self.of(value) for value in values])
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return _compared(op, self.of(left), self._right(left, right))
            case ast.Call(func=ast.Name(id="typical" | "accrued"), args=[_, by]):
                return _between(self.state[ast.unparse(node)], self.of(by))
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return FUNCTIONS[name](*map(self.of, arguments))
        raise AssertionError(ast.dump(node))

    def _name(self, name: str) -> float:
        value = float(self.row[name])
        column = self.contract.by_name.get(name)
        return NAN if column is not None and column.choices and value < 0 else value

    def _right(self, left: ast.expr, right: ast.expr) -> float:
        if not (isinstance(right, ast.Constant) and isinstance(right.value, str)):
            return self.of(right)
        if isinstance(left, ast.Name) and left.id != "as_of" and self.contract.by_name[left.id].choices:
            return float(self.contract.by_name[left.id].choices.index(right.value))
        return float(dt.date.fromisoformat(right.value).toordinal() - EPOCH)


def _arithmetic(op: ast.operator, left: float, right: float) -> float:
    if isinstance(op, ast.Add):
        return left + right
    if isinstance(op, ast.Sub):
        return left - right
    if isinstance(op, ast.Mult):
        return left * right
    return NAN if right == 0 else left / right


def _compared(op: ast.cmpop, left: float, right: float) -> float:
    if math.isnan(left) or math.isnan(right):
        return NAN
    outcomes = {
        ast.Lt: left < right,
        ast.LtE: left <= right,
        ast.Gt: left > right,
        ast.GtE: left >= right,
        ast.Eq: left == right,
        ast.NotEq: left != right,
    }
    return float(outcomes[type(op)])


def _joined(is_and: bool, values: list[float]) -> float:
    """SQL's three-valued logic: what decides alone wins over missing."""
    decisive = [v for v in values if not math.isnan(v) and (v == 0) == is_and]
    if decisive:
        return 0.0 if is_and else 1.0
    return NAN if any(map(math.isnan, values)) else float(is_and)


def _between(knots: Mapping[str, list], by: float) -> float:
    points = [(x, NAN if y is None else y) for x, y in zip(knots["x"], knots["y"], strict=True)]
    if math.isnan(by):
        return NAN
    if by <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if by < x1:
            return y0 + (y1 - y0) * (by - x0) / (x1 - x0)
    return points[-1][1]


def _whole(function):
    return lambda value: value if math.isnan(value) or math.isinf(value) else float(function(value))


def _if_none_is_missing(function):
    return lambda *values: NAN if any(map(math.isnan, values)) else function(*values)


def _month(days: float) -> float:
    if math.isnan(days) or not _FIRST <= days < _LAST + 1:
        return NAN
    return float(dt.date.fromordinal(math.floor(days) + EPOCH).month)


def _weekday(days: float) -> float:
    return NAN if math.isnan(days) or math.isinf(days) else float((math.floor(days) + 3) % 7)


def _where(condition: float, then: float, otherwise: float) -> float:
    return NAN if math.isnan(condition) else then if condition != 0 else otherwise


FUNCTIONS = {
    "days": _whole(math.floor),
    "floor": _whole(math.floor),
    "round": _whole(round),
    "log1p": lambda value: NAN if math.isnan(value) or value <= -1 else math.log1p(value),
    "sqrt": lambda value: NAN if math.isnan(value) or value < 0 else math.sqrt(value),
    "abs": abs,
    "clip": _if_none_is_missing(lambda value, low, high: min(max(value, low), high)),
    "where": _where,
    "fill": lambda value, other: other if math.isnan(value) else value,
    "isnull": lambda value: float(math.isnan(value)),
    "min": _if_none_is_missing(min),
    "max": _if_none_is_missing(max),
    "month": _month,
    "weekday": _weekday,
}

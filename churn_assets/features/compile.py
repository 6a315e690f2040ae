"""The contract's expressions as one columnar NumPy function.

The function is generated as Python source from the checked syntax trees: a list of array operations, without
lookups while it runs. `features.scalar` runs the same source over floats for one row, so each feature is defined
once. Large inputs are computed in chunks that stay in the processor's cache, with the same operations, so that one
row and ten million rows agree bit for bit. By `python -m benchmarks.features` (benchmarks/RESULTS.md): 8,599,248
rows/s, 1.89 times pandas.
"""

from __future__ import annotations

import ast
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.expressions import (
    AS_OF,
    COMPARED,
    FITTED,
    Expression,
    parse_features,
    parse_rules,
    parse_value,
    written,
)
from churn_assets.contract.model import DIRECTIONS, Contract, Kind
from churn_assets.contract.values import iso_day, utc_day
from churn_assets.features import functions
from churn_assets.features.encode import Columns, days_since_epoch

Array = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
State = dict[str, functions.Statistic]

CHUNK_ROWS = 16_384
_STATISTIC_BINS = 40


@dataclass(frozen=True)
class FeatureSpec:
    """One column of the matrix: a number, or a category whose codes index `choices`.

    `monotone` is 1 where the contract says that risk rises with it, -1 where it falls, else 0.
    """

    name: str
    kind: str
    choices: tuple[str, ...] = ()
    monotone: int = 0


@dataclass(frozen=True)
class _Learner:
    """A statistic that `fit` learns: its key in the state, and functions of (columns, as_of, state) for its inputs."""

    key: str
    learn: Callable[[Array, Array, int], functions.Statistic]
    values: Callable[..., Array]
    by: Callable[..., Array]


@dataclass(frozen=True)
class FeatureProgram:
    """Computes the model's matrix from Columns and an instant.

    Calling it gives float32, shape (rows, features), C order; missing is NaN, categories are their
    codes. A program that learns (`typical`, `accrued`) must be fitted first (or given a state).
    """

    specs: tuple[FeatureSpec, ...]
    source: str
    state: State
    _run: Callable[..., None] = field(repr=False)
    _learners: tuple[_Learner, ...] = field(repr=False, default=())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the matrix's columns."""
        return tuple(spec.name for spec in self.specs)

    def __call__(self, columns: Columns, as_of: float | Array) -> Matrix:
        """The matrix for `columns`, with `as_of` in days since 1970-01-01 (one, or one a row)."""
        rows = _rows(columns)
        out = np.empty((rows, len(self.specs)), dtype=np.float32)
        instant = np.floor(as_of)
        with np.errstate(all="ignore"):
            for start in range(0, rows, CHUNK_ROWS):
                part = slice(start, start + CHUNK_ROWS)
                cut = columns if rows <= CHUNK_ROWS else {name: values[part] for name, values in columns.items()}
                self._run(cut, instant if np.ndim(instant) == 0 else instant[part], self.state, out[part])
                # A number beyond float32 becomes missing, which every model accepts.
                out[part][np.isinf(out[part])] = np.nan
        return out

    def fit(self, columns: Columns, as_of: float | Array) -> FeatureProgram:
        """The same program with its statistics fitted on `columns`, without labels."""
        state: State = {}
        with np.errstate(all="ignore"):
            for learner in self._learners:  # in the order of the source, so that one statistic may read another
                inputs = (columns, np.floor(as_of), state)
                state[learner.key] = learner.learn(learner.values(*inputs), learner.by(*inputs), _STATISTIC_BINS)
        return self.with_state(state)

    def with_state(self, state: State) -> FeatureProgram:
        """The same program with statistics fitted earlier."""
        return replace(self, state=state)


@dataclass(frozen=True)
class RuleProgram:
    """One rule of the contract; calling it gives a bool array that is True where a row breaks it."""

    name: str
    expression: str
    columns: tuple[str, ...]
    _run: Callable[..., Array] = field(repr=False)

    def __call__(self, columns: Columns, as_of: float | Array) -> npt.NDArray[np.bool_]:
        """True where a row breaks the rule; a row for which its value is missing keeps it."""
        with np.errstate(all="ignore"):
            value = np.broadcast_to(self._run(columns, np.floor(as_of), {}), (_rows(columns),))
        return np.asarray(value == 0.0)


def compile_features(contract: Contract) -> FeatureProgram:
    """Compile the contract's features; the matrix has the feature columns first, then the features."""
    writer = Writer(contract)
    body: list[str] = []
    learners = []
    for expression in parse_features(contract):
        head = "\n".join(["def run(columns, as_of, state):", *body])
        calls = [node for node in ast.walk(expression.tree) if isinstance(node, ast.Call)]
        for call in (c for c in reversed(calls) if ast.unparse(c.func) in FITTED):  # inner ones first
            values, by = (build(f"{head}\n    return {writer.write(argument)}", "run") for argument in call.args)
            learners.append(_Learner(written(call), functions.LEARNERS[ast.unparse(call.func)], values, by))
        body.append(writer.assignment(expression))
    raw, shown = contract.feature_columns, [f for f in contract.features if f.model]
    specs = tuple(
        [FeatureSpec(c.name, "category" if c.choices else "number", c.choices, DIRECTIONS[c.monotone]) for c in raw]
        + [FeatureSpec(f.name, "number", (), DIRECTIONS[f.monotone]) for f in shown]
    )
    reads = [f"codes(columns[{c.name!r}])" if c.choices else f"columns[{c.name!r}]" for c in raw]
    reads += [local_name(f.name) for f in shown]
    body += [f"    out[:, {index}] = {read}" for index, read in enumerate(reads)]
    source = "\n".join(["def run(columns, as_of, state, out):", *(body or ["    pass"])])
    return FeatureProgram(specs=specs, source=source, state={}, _run=build(source, "run"), _learners=tuple(learners))


def compile_rules(contract: Contract) -> tuple[RuleProgram, ...]:
    """Compile the contract's rules, in its order."""
    return tuple(
        RuleProgram(
            rule.name, rule.text, tuple(sorted(rule.names - {AS_OF})), build(rule_source(contract, rule), "run")
        )
        for rule in parse_rules(contract)
    )


def compile_value(contract: Contract) -> tuple[tuple[str, ...], Callable[[Columns, float | Array], Array]]:
    """The columns that `[value] value` reads, and a function of them and `as_of`: one amount a row, NaN if missing."""
    expression = parse_value(contract)
    run = build(rule_source(contract, expression), "run")

    def amounts(columns: Columns, as_of: float | Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(run(columns, np.floor(as_of), {}), dtype=np.float64)

    return tuple(sorted(expression.names - {AS_OF})), amounts


def rule_source(contract: Contract, rule: Expression) -> str:
    """The source of a function `run` that computes the rule."""
    return f"def run(columns, as_of, state):\n    return {Writer(contract).write(rule.tree)}"


def as_of_days(instant: dt.date | dt.datetime | str) -> float:
    """Whole days since 1970-01-01 (UTC) of a date, an instant, or an ISO text of either."""
    if isinstance(instant, str):
        day = iso_day(instant)
        if day is None:
            raise ValueError(f"{instant!r} is no day or instant in ISO 8601")
        instant = day
    return float(days_since_epoch(utc_day(instant) if isinstance(instant, dt.datetime) else instant))


def build(source: str, name: str, names: Mapping[str, Any] = functions.NAMESPACE) -> Callable[..., Any]:
    """The function `name` of generated source, which can use `names` and nothing else."""
    # The source is only what Writer wrote from checked trees, with the contract's names through repr().
    namespace: dict[str, Any] = {**names, "__builtins__": {}}
    exec(compile(source, "<contract>", "exec"), namespace)
    return namespace[name]  # type: ignore[no-any-return]  # the function that the source defines


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def local_name(name: str) -> str:
    """The name of a feature inside generated source."""
    return f"f_{name}"


class Writer:
    """Writes one checked tree as source that calls the functions of `features.functions` or `features.scalar`."""

    _OPERATORS: Mapping[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
    _COMPARISONS: Mapping[type, str] = dict(zip(COMPARED, functions.COMPARISONS, strict=True))

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._features = {feature.name for feature in contract.features}

    def assignment(self, feature: Expression) -> str:
        """The line of source that computes a feature, inside a function."""
        return f"    {local_name(feature.name)} = {self.write(feature.tree)}"

    def write(self, node: ast.expr) -> str:
        """The source of a checked tree."""
        match node:
            case ast.Constant(value=value):
                return repr(float(value))  # type: ignore[arg-type]  # texts are written by _compare
            case ast.Name(id=name):
                return name if name == AS_OF else local_name(name) if name in self._features else f"columns[{name!r}]"
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return f"divide({self.write(left)}, {self.write(right)})"
            case ast.BinOp(left=left, op=op, right=right):
                return f"({self.write(left)} {self._OPERATORS[type(op)]} {self.write(right)})"
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"(-{self.write(operand)})"
            case ast.UnaryOp(operand=operand):
                return f"negate({self.write(operand)})"
            case ast.BoolOp(op=op, values=values):
                name = "both" if isinstance(op, ast.And) else "either"
                return f"{name}({', '.join(map(self.write, values))})"
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self._compare(left, op, right)
            case ast.Call(func=ast.Name(id=name), args=[_, by]) if name in FITTED:
                return f"lookup(state[{written(node)!r}], {self.write(by)})"
            case ast.Call(func=ast.Name(id="isnull"), args=[ast.Name(id=name)]) if self._is_category(name):
                return f"isnull_(codes(columns[{name!r}]))"
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return f"{name}_({', '.join(map(self.write, arguments))})"
        raise AssertionError(f"the checker let {ast.dump(node)} through")

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> str:
        name = self._COMPARISONS[type(op)]
        if isinstance(right, ast.Constant) and isinstance(right.value, str):
            if isinstance(left, ast.Name) and self._is_category(left.id):
                code = self._contract.column(left.id).choices.index(right.value)
                return f"{name}(codes(columns[{left.id!r}]), {code}.0)"
            right = ast.Constant(float(days_since_epoch(dt.date.fromisoformat(right.value))))
        return f"{name}({self.write(left)}, {self.write(right)})"

    def _is_category(self, name: str) -> bool:
        column = self._contract.by_name.get(name)
        return column is not None and column.kind is Kind.CATEGORY

"""The contract's expressions as one columnar NumPy function.

The function is generated as Python source from the checked syntax trees: a list of array operations, without
lookups while it runs. `features.scalar` runs the same source over floats for one row, so each feature is defined
once. Large inputs go through in chunks that stay in the processor's cache, with the same operations, so that one row
and ten million rows agree bit for bit. By `python -m benchmarks.features` (benchmarks/RESULTS.md): 8,599,248 rows/s,
1.89 times pandas.
"""

from __future__ import annotations

import ast
import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.expressions import AS_OF, FITTED, Expression, parse_features, parse_rules, written
from churn_assets.contract.model import DIRECTIONS, Contract, Kind
from churn_assets.features import functions
from churn_assets.features.encode import Columns, days_since_epoch

Array = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
State = dict[str, functions.Statistic]

Learner = tuple[str, Callable[[Array, Array, int], functions.Statistic], Callable[..., Array], Callable[..., Array]]

CHUNK_ROWS = 16_384
TYPICAL_BINS = 40


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
class FeatureProgram:
    """Turns Columns and an instant into the model's matrix.

    Calling it gives float32, shape (rows, features), C order; missing is NaN, categories are their
    codes. A program that learns (`typical`, `accrued`) must be fitted first (or given a state).
    """

    specs: tuple[FeatureSpec, ...]
    source: str
    state: State
    fingerprint: str
    _run: Callable[..., None] = field(repr=False)
    _learn: tuple[Learner, ...] = field(repr=False, default=())

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
                # Beyond float32 a number is unusable; missing is honest, and every model takes it.
                out[part][np.isinf(out[part])] = np.nan
        return out

    def fit(self, columns: Columns, as_of: float | Array) -> FeatureProgram:
        """The same program with its label-free statistics learned on `columns`."""
        state: State = {}
        with np.errstate(all="ignore"):
            for key, learn, of, by in self._learn:
                # In the order of the source, so that one statistic may read another.
                values, position = of(columns, np.floor(as_of), state), by(columns, np.floor(as_of), state)
                state[key] = learn(values, position, TYPICAL_BINS)
        return self.with_state(state)

    def with_state(self, state: State) -> FeatureProgram:
        """The same program with statistics learned before."""
        return replace(self, state=state)


@dataclass(frozen=True)
class RuleProgram:
    """One rule of the contract; calling it gives a bool array that is True where a row breaks it."""

    name: str
    expression: str
    columns: tuple[str, ...]
    _run: Callable[..., Array] = field(repr=False)

    def __call__(self, columns: Columns, as_of: float | Array) -> npt.NDArray[np.bool_]:
        """True where a row breaks the rule; a row for which the rule is missing passes."""
        with np.errstate(all="ignore"):
            held = np.broadcast_to(self._run(columns, np.floor(as_of), {}), (_rows(columns),))
        return np.asarray(held == 0.0)


def compile_features(contract: Contract) -> FeatureProgram:
    """Compile the contract's features; the matrix has the feature columns first, then the features."""
    expressions = parse_features(contract)
    writer = Writer(contract)
    body = [f"    {local_name(e.name)} = {writer.write(e.tree)}" for e in expressions]
    shown = [f for f in contract.features if f.model]
    raw = [
        FeatureSpec(c.name, "category" if c.choices else "number", c.choices, DIRECTIONS[c.monotone])
        for c in contract.feature_columns
    ]
    specs = (*raw, *(FeatureSpec(f.name, "number", (), DIRECTIONS[f.monotone]) for f in shown))
    for index, spec in enumerate(raw):
        read = f"codes(columns[{spec.name!r}])" if spec.choices else f"columns[{spec.name!r}]"
        body.append(f"    out[:, {index}] = {read}")
    body += [f"    out[:, {index}] = {local_name(f.name)}" for index, f in enumerate(shown, start=len(raw))]
    source = "\n".join(["def run(columns, as_of, state, out):", *(body or ["    pass"])])
    return FeatureProgram(
        specs=specs,
        source=source,
        state={},
        fingerprint=hashlib.sha256(source.encode()).hexdigest(),
        _run=build(source, "run"),
        _learn=_learners(writer, expressions),
    )


def compile_rules(contract: Contract) -> tuple[RuleProgram, ...]:
    """Compile the contract's rules, in its order."""
    writer = Writer(contract)
    programs = []
    for expression in parse_rules(contract):
        source = f"def run(columns, as_of, state):\n    return {writer.write(expression.tree)}"
        columns = tuple(sorted(expression.names - {AS_OF}))
        programs.append(RuleProgram(expression.name, expression.text, columns, build(source, "run")))
    return tuple(programs)


def as_of_days(instant: dt.date | dt.datetime | str) -> float:
    """Whole days since 1970-01-01 (UTC) of a date, an instant, or an ISO text of either."""
    if isinstance(instant, str):
        instant = dt.datetime.fromisoformat(instant)
    if isinstance(instant, dt.datetime) and instant.tzinfo is not None:
        instant = instant.astimezone(dt.UTC)
    return float(days_since_epoch(instant))


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def build(source: str, name: str, known: Mapping[str, Any] = functions.NAMESPACE) -> Callable[..., Any]:
    """The function `name` of generated source, which sees the functions `known` and nothing else."""
    # The source holds nothing but what Writer wrote from checked trees, with names through repr().
    namespace: dict[str, Any] = {**known, "__builtins__": {}}
    exec(compile(source, "<contract>", "exec"), namespace)
    return namespace[name]  # type: ignore[no-any-return]  # what the source defines


def _learners(writer: Writer, expressions: tuple[Expression, ...]) -> tuple[Learner, ...]:
    learners = []
    before: list[str] = []
    for expression in expressions:
        for key, learn, of, by in writer.statistics_in(expression.tree):
            head = "\n".join(["def run(columns, as_of, state):", *before])
            read_of, read_by = (build(f"{head}\n    return {source}", "run") for source in (of, by))
            learners.append((key, functions.LEARNERS[learn], read_of, read_by))
        before.append(f"    {local_name(expression.name)} = {writer.write(expression.tree)}")
    return tuple(learners)


def local_name(name: str) -> str:
    """The name of a feature inside generated source."""
    return f"f_{name}"


class Writer:
    """Writes one checked tree as source over the functions of `features.functions`, or of `features.scalar`."""

    _OPERATORS: Mapping[type, str] = {
        ast.Add: "+",
        ast.Sub: "-",
        ast.Mult: "*",
    }
    _COMPARISONS: Mapping[type, str] = {
        ast.Lt: "less",
        ast.LtE: "less_equal",
        ast.Gt: "greater",
        ast.GtE: "greater_equal",
        ast.Eq: "equal",
        ast.NotEq: "not_equal",
    }

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.features = {feature.name for feature in contract.features}

    def write(self, node: ast.expr) -> str:
        """The source of a checked tree."""
        match node:
            case ast.Constant(value=value):
                return repr(float(value))  # type: ignore[arg-type]  # texts are written by _compare
            case ast.Name(id=name):
                return name if name == AS_OF else local_name(name) if name in self.features else f"columns[{name!r}]"
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
                return f"isnull(codes(columns[{name!r}]))"
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return f"{name}_({', '.join(map(self.write, arguments))})"
        raise AssertionError(f"the checker let {ast.dump(node)} through")

    def statistics_in(self, tree: ast.expr) -> list[tuple[str, str, str, str]]:
        """(key, learning function, source of the values, source of what they are binned by), inner first."""
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) in FITTED]
        return [
            (written(n), ast.unparse(n.func), self.write(n.args[0]), self.write(n.args[1])) for n in reversed(calls)
        ]

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> str:
        name = self._COMPARISONS[type(op)]
        if isinstance(right, ast.Constant) and isinstance(right.value, str):
            if isinstance(left, ast.Name) and self._is_category(left.id):
                code = self.contract.column(left.id).choices.index(right.value)
                return f"{name}(codes(columns[{left.id!r}]), {code}.0)"
            right = ast.Constant(float(days_since_epoch(dt.date.fromisoformat(right.value))))
        return f"{name}({self.write(left)}, {self.write(right)})"

    def _is_category(self, name: str) -> bool:
        column = self.contract.by_name.get(name)
        return column is not None and column.kind is Kind.CATEGORY

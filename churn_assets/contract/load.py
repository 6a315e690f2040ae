"""Reads a contract from TOML. A mistake is a ContractError of one line, with file, table and key."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from churn_assets.contract.check import check_contract, fail
from churn_assets.contract.limits import Audit, Monitoring, Quality, Release, SaveRates, Share, Split, Value
from churn_assets.contract.model import Column, Contract, Feature, Label, Rule, Source, Time
from churn_assets.contract.values import canonical_text
from churn_assets.errors import ContractError, ExpressionError, did_you_mean

T = TypeVar("T")

_TOP = tuple(
    field.name for field in dataclasses.fields(Contract) if field.name not in ("dropped", "unread", "text", "path")
)
_REQUIRED = ("name", "label", "columns", "value")
_LIMITS: Mapping[str, type]
_LIMITS = {"split": Split, "quality": Quality, "audit": Audit, "monitoring": Monitoring, "release": Release}
_AS_TEXT = ("churned_when", "kept_when", "as_of")  # keys whose value is the text that a cell of the table would have


def load_contract(path: Path) -> Contract:
    """Read the contract at `path`. Raises ContractError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _no_contract(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(
            f"{path} cannot be read: {type(error).__name__}; expected UTF-8 text; save it as UTF-8"
        ) from None
    return parse_contract(text, str(path), path)


def _no_contract(path: Path) -> ContractError:
    contracts = sorted(p.name for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
    in_folder = f"contracts there: {', '.join(contracts)}" if contracts else "that folder has no .toml file"
    return ContractError(f"no contract at {path}; {in_folder}; set CHURN_CONTRACT or --contract")


def parse_contract(text: str, name: str = "contract.toml", path: Path | None = None) -> Contract:
    """Parse and check a contract; `name` is the file in messages. Raises ContractError."""
    document = _document(text, name)
    try:
        return check_contract(_contract(document, text, path), name)
    except ExpressionError:
        raise
    except ContractError as error:
        raise ContractError(f"{name}, {error}") from None


def _document(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError; the others come from huge numbers or deep nesting
        raise ContractError(f"{name} is not TOML: {' '.join(str(error).split())}; correct that line") from None


def _contract(document: Mapping[str, Any], text: str, path: Path | None) -> Contract:
    _known("the top level", document, _TOP)
    _has("the top level", document, _REQUIRED)
    return Contract(
        name=_value("the top level", "name", document["name"], str),
        title=_value("the top level", "title", document.get("title", document["name"]), str),
        source=_table("[source]", document.get("source", {}), Source),
        label=_table("[label]", document["label"], Label),
        time=_table("[time]", document.get("time", {}), Time),
        columns=_columns(document["columns"]),
        features=_features(document.get("features", {})),
        rules=_rules(document.get("rules", [])),
        value=_money(document["value"]),
        **{name: _table(f"[{name}]", document.get(name, {}), type_) for name, type_ in _LIMITS.items()},
        text=text,
        path=path,
    )


def _known(place: str, table: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in table:
        if key not in keys:
            fail(place, f"unknown key '{key}'; {did_you_mean(key, keys)}allowed: {', '.join(keys)}")


def _has(place: str, table: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        if key not in table:
            fail(place, f"key '{key}' is missing; required: {', '.join(keys)}")


def _table(place: str, table: object, cls: type[T]) -> T:
    if not isinstance(table, Mapping):
        fail(place, f"found {_describe(table)}; expected a table")
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # every cls here is a dataclass
    _known(place, table, [f.name for f in fields])
    _has(place, table, [f.name for f in fields if f.default is dataclasses.MISSING])
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    read = {key: _cell if key in _AS_TEXT else _value for key in table}
    return cls(**{key: read[key](place, key, value, hints[key]) for key, value in table.items()})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields; there are a dozen classes, and a table for every column and rule."""
    return typing.get_type_hints(cls, include_extras=True)


def _cell(place: str, key: str, value: object, hint: Any) -> str | tuple[str, ...]:
    """`value` as the text of a cell; a list of several as a tuple if `hint` has one."""
    takes_list = hint is not str
    if takes_list and isinstance(value, list) and value and not any(isinstance(v, dict | list) for v in value):
        texts = tuple(map(canonical_text, value))
        return texts if len(texts) > 1 else texts[0]  # a list of one has the fingerprint of its value
    if isinstance(value, dict | list):
        expected = "one text, number, date, true or false" + (", or a list of them" if takes_list else "")
        fail(place, f"key '{key}' is {_describe(value)}; expected {expected}")
    return canonical_text(value)


def _columns(tables: object) -> tuple[Column, ...]:
    if not isinstance(tables, list) or not tables:
        fail("[[columns]]", f"found {_describe(tables)}; expected one [[columns]] table for each column")
    names = [f" '{table['name']}'" if isinstance(table, dict) and "name" in table else "" for table in tables]
    named = enumerate(zip(names, tables, strict=True), start=1)
    return tuple(_table(f"[[columns]] #{number}{name}", table, Column) for number, (name, table) in named)


def _features(table: object) -> tuple[Feature, ...]:
    if not isinstance(table, Mapping):
        fail("[features]", f'found {_describe(table)}; expected name = "expression" lines')
    return tuple(_feature(f"[features] '{name}'", name, value) for name, value in table.items())


def _feature(place: str, name: str, value: object) -> Feature:
    body = {"expression": value} if isinstance(value, str) else value
    if not isinstance(body, Mapping):
        fail(place, f"found {_describe(value)}; expected an expression in quotes")
    _known(place, body, [f.name for f in dataclasses.fields(Feature) if f.name != "name"])
    return _table(place, {"name": name, **body}, Feature)


def _rules(tables: object) -> tuple[Rule, ...]:
    if not isinstance(tables, list):
        fail("[[rules]]", f"found {_describe(tables)}; expected [[rules]] tables")
    return tuple(_table(f"[[rules]] #{n}", table, Rule) for n, table in enumerate(tables, start=1))


def _money(table: object) -> Value:
    """`[value]`, in which `value` may be an expression and `save_rate` a column, or a rate for each value of one."""
    place = "[value]"
    if not isinstance(table, Mapping):
        fail(place, f"found {_describe(table)}; expected a table")
    _known(place, table, [f.name for f in dataclasses.fields(Value) if f.name != "save_rates"])
    plain, rates = dict(table), None
    expression = plain.get("value", "-")
    if not isinstance(expression, str) or not expression.strip():
        expected = 'expected an expression over columns in quotes, such as "price * 12"'
        fail(place, f"key 'value' is {_describe(expression)}; {expected}; for a constant, monthly_value and months")
    if "value" in plain:  # the constant is then what a customer without a value counts as
        plain = {"monthly_value": 0.0, "months": 1, **plain}
    rate = plain.get("save_rate", 0.0)
    if isinstance(rate, str | Mapping):
        plain["save_rate"], rates = _save_rates(rate)
    elif isinstance(rate, bool) or not isinstance(rate, int | float):
        expected = "expected a number, the name of a column, or a table with column, default and rates"
        fail(place, f"key 'save_rate' is {_describe(rate)}; {expected}; correct it")
    return dataclasses.replace(_table(place, plain, Value), save_rates=rates)


def _save_rates(given: str | Mapping[str, object]) -> tuple[object, SaveRates]:
    """The rate where no other is known, and those by a column."""
    if isinstance(given, str):
        return 0.0, SaveRates(given)
    place = "[value] save_rate"
    _has(place, given, ("column", "default"))
    by = {name: _value(place, name, rate, Share) for name, rate in given.items() if name not in ("column", "default")}
    default = _value(place, "default", given["default"], Share)
    return default, SaveRates(_value(place, "column", given["column"], str), tuple(sorted(by.items())))


def _value(place: str, key: str, value: object, hint: Any) -> Any:
    """`value` as the type `hint`, one of those that the dataclasses use, within its limits; or ContractError."""
    plain, *limits = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
    options = typing.get_args(plain) if isinstance(plain, types.UnionType) else (plain,)
    fitted = next((fit for option in options if (fit := _fit(place, key, value, option)) is not None), None)
    if fitted is None:
        fail(place, f"key '{key}' is {_describe(value)}; expected {' or '.join(map(_hint_name, options))}")
    for limit in limits:
        _check_limit(place, key, fitted, limit)
    return fitted


def _check_limit(place: str, key: str, value: Any, limit: Any) -> None:
    if value < limit.ge or (limit.le is not None and value > limit.le):
        allowed = f"at least {limit.ge}" if limit.le is None else f"{limit.ge} to {limit.le}"
        fail(place, f"key '{key}' is {value}; expected {allowed}; correct it")


def _fit(place: str, key: str, value: object, hint: Any) -> Any:
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list) or any(isinstance(item, dict | list) for item in value):
            return None
        item_type = typing.get_args(hint)[0]
        if item_type is float:
            numbers = [_fit(place, key, item, float) for item in value]
            return None if None in numbers else tuple(numbers)
        return tuple(map(canonical_text, value))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(_among(place, key, value, list(hint)))
    if typing.get_origin(hint) is typing.Literal:
        return _among(place, key, value, typing.get_args(hint))
    if hint is float:
        whole_or_real = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if whole_or_real and math.isfinite(value) else None  # type: ignore[arg-type]  # a number, checked
    if hint is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    if hint is str:
        return value.isoformat() if isinstance(value, dt.date) else value if isinstance(value, str) else None
    return value if hint is bool and isinstance(value, bool) else None


def _among(place: str, key: str, value: object, allowed: Sequence[Any]) -> Any:
    if value in allowed:
        return value
    similar = did_you_mean(value, allowed) if isinstance(value, str) else ""
    texts = ", ".join(filter(None, allowed))
    fail(place, f"key '{key}' is {_describe(value)}; {similar}expected one of: {texts}")


def _hint_name(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return "a list of numbers" if typing.get_args(hint)[0] is float else "a list of texts"
    names = {str: "text", float: "a finite number", int: "a whole number", bool: "true or false"}
    return names.get(hint, "nothing")


def _describe(value: object) -> str:
    if isinstance(value, str):
        return repr(value)  # with line breaks escaped: a message is one line
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else canonical_text(value)

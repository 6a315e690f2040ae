"""The JSON form of the monitoring reports: written in one version, read in that one and in the form of release 0.1.

A report is a frozen dataclass. Its JSON has the same fields, and `version`. Files without a version were written
by release 0.1; `parse_report` is the only place that knows their words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from churn_assets.errors import WindowUnreadable
from churn_assets.storage.files import read_json_object, write_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

VERSION = 2

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What every report has: `message` says in one or two sentences what `status` means here."""

    status: str
    message: str
    version: int = VERSION


def to_json(report: DataclassInstance) -> dict[str, Any]:
    """A report as plain JSON values."""
    # Not of the report itself: msgspec leaves out the defaults of a value that it has parsed.
    values: dict[str, Any] = msgspec.to_builtins(asdict(report))
    return values


def parse_report(value: object, kind: type[R]) -> R:
    """A report from its JSON, of this version or of release 0.1. Raises ValueError for anything else."""
    if isinstance(value, Mapping) and (version := value.get("version", 1)) != VERSION:
        if version != 1:
            raise ValueError(
                f"its version is {version!r}, expected at most {VERSION}; it was written by a later release"
            )
        value = _from_release_0_1(value)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


_AGAIN = "remove its folder and those after it, and run `monitor`: they are made again from the log"


def read_report(path: Path, kind: type[R], remedy: str = _AGAIN) -> R | None:
    """The report in a file, None without a file. Raises WindowUnreadable, which says `remedy`."""
    try:
        return parse_report(read_json_object(path), kind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise unreadable(path, error, remedy) from error


def write_report(path: Path, report: DataclassInstance) -> None:
    """Replace the report in a file. Raises OSError, and ValueError for NaN."""
    write_json(path, to_json(report))


def unreadable(path: Path, error: Exception, remedy: str = _AGAIN) -> WindowUnreadable:
    """The error for a report or window that cannot be read."""
    reason = " ".join(str(error).split())[:160]
    return WindowUnreadable(f"{path}: cannot be read ({reason}), expected a report of this package; {remedy}")


# -- release 0.1 ---------------------------------------------------------------------------------------

_BY_NAME = frozenset({"missing", "refused", "left_out"})  # their keys are names of columns and causes
_INTERVALS = ("pr_auc", "roc_auc", "log_loss", "brier")
_CHECKS = {"outside": "outside_range", "not in the reference": "not_in_reference"}


def _from_release_0_1(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_release_0_1(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    new: dict[str, Any] = {
        key: item if key in _BY_NAME and isinstance(item, Mapping) else _from_release_0_1(item)
        for key, item in value.items()
    }
    if "words" in new:
        text = new.pop("words")
        new["messages" if isinstance(text, list) else "message"] = text
    if "what" in new and "found" in new:
        check, _, cause = new.pop("what").partition(": ")
        new["check"] = _CHECKS.get(check, check.replace(" ", "_"))
        new["cause"], new["actual"] = cause, new.pop("found")
    if "drifts" in new:
        new["status"] = {True: "drift", False: "stable"}.get(new.pop("drifts"), "unknown")
        new["check"] = new.pop("test")
    if "measured" in new:
        new["realized"] = new.pop("measured")
    if "as_it_was" in new:
        new["unweighted"] = new.pop("as_it_was")
    if "off" in new and "held" in new:
        new["error"], new["estimated"] = new.pop("off"), _interval(new, "estimated")
    elif "pr_auc_low" in new:
        new["metrics"] = _metrics(new)
        new.setdefault("message", "")
    return new


def _metrics(flat: Mapping[str, Any]) -> dict[str, Any]:
    intervals = {name: _interval(flat, name) for name in _INTERVALS if f"{name}_low" in flat}
    others = ("churned_share", "ece", "ece_by_chance", "calibration", "at_capacity")
    return {**intervals, **{name: flat[name] for name in others if name in flat}}


def _interval(flat: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"value": flat[name], "low": flat[f"{name}_low"], "high": flat[f"{name}_high"]}

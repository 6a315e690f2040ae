"""The end of `churn run`: how good, whom to call, what to doubt, where things are, what next.

Everything is taken from the report's figures, the registration and the call list; nothing is computed again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from churn_assets.errors import AssetStale, one_line
from churn_assets.promotion.registration import Registration
from churn_assets.promotion.status import read_registration, report_folder, report_version
from churn_assets.reporting.model.collect import MATERIAL_TWINS, METRICS
from churn_assets.reporting.model.facts import Estimate, Report, Side, untested_newest
from churn_assets.scoring.list_money import amount
from churn_assets.scoring.scorer import Discount
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

MOST_DOUBTS = 5
FEW_CHURNERS = 30  # among test customers: fewer, and a figure depends on which few they are
NOBODY = "nobody: the model is no better than a random list."
_RATES_APART = 1.5  # churn rates of two groups, one over the other, from which on they are called different
_ECE_LIMIT = 0.03
_FLATTERING = 0.01  # of the possible lift
_REJECTED_SHARE = 0.01


@dataclass(frozen=True)
class Calls:
    """Who is to be called: of `listed` customers `contacts`, with the money that this is expected to bring, in the
    contract's currency. `version` is the model that made the list. `control` more are left alone, and not `listed`."""

    contacts: int
    listed: int
    expected_profit: float
    version: str
    control: int = 0

    @classmethod
    def of(cls, risk_list: pa.Table) -> Calls:
        """The calls of a ranked list (`scoring.call_list.SCHEMA`)."""
        import pyarrow.compute as pc

        contacts = risk_list.filter(risk_list["contact"])
        version = risk_list["model_version"][0].as_py() if risk_list.num_rows else ""
        profit = pc.sum(contacts["expected_value"]).as_py() or 0.0
        # A list of an earlier release has no control group.
        control = (pc.sum(risk_list["control"]).as_py() or 0) if "control" in risk_list.column_names else 0
        return cls(contacts.num_rows, risk_list.num_rows - control, float(profit), version, control)


@dataclass(frozen=True)
class RunSummary:
    """What a person reads when a run has ended: sentences, paths by name, and commands with what they do.

    A part that the run did not make is empty.
    """

    how_good: str = ""
    whom_to_call: str = ""
    left_out: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    places: Mapping[str, Path] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """The parts under their headings, ready to print."""
        lines = [f"How good: {self.how_good}"] if self.how_good else []
        lines += [f"Whom to call: {self.whom_to_call}"] if self.whom_to_call else []
        lines += ["What was left out:", *(f"  - {sentence}" for sentence in self.left_out)] if self.left_out else []
        lines += ["What to doubt:", *(f"  - {doubt}" for doubt in self.doubts)] if self.doubts else []
        width = max(map(len, self.places), default=0)
        lines += ["Where things are:"] if self.places else []
        lines += [f"  {name:<{width}}  {path}" for name, path in self.places.items()]
        width = max(map(len, self.commands), default=0)
        lines += ["Next:"] if self.commands else []
        return lines + [f"  {command:<{width}}   {purpose}" for command, purpose in self.commands.items()]


def read_run_summary(settings: Settings) -> RunSummary:
    """The end of the last run of this home: of the model that it registered, or of the champion if that has changed
    since. Raises AssetStale for figures of another version."""
    registration = read_registration(settings)
    report = read_report(settings, registration.version if registration else None)
    listed = settings.assets_dir / "risk_list.parquet"
    calls = None
    if listed.is_file():
        import pyarrow.parquet as pq

        columns = {"contact", "control", "expected_value", "model_version"} & set(pq.read_schema(listed).names)
        calls = Calls.of(pq.read_table(listed, columns=sorted(columns)))
    places = {
        "call list": settings.reports_dir / "call_list.xlsx",
        "report": _folder(settings, registration.version if registration else None) / "model_report.html",
        "everything else": settings.home,
    }
    return summarize(report, registration, calls, {name: path for name, path in places.items() if path.exists()})


def _folder(settings: Settings, version: str | None) -> Path:
    """Where the report of a version is: in `reports/` if it is the champion's, and where no version is named."""
    if version is None or report_version(settings) == version:
        return settings.reports_dir
    return report_folder(settings, version)


def read_report(settings: Settings, version: str | None = None) -> Report | None:
    """The figures of the report of a version (None: the one in `reports/`), None without one. Raises AssetStale."""
    path = _folder(settings, version) / METRICS
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AssetStale(
            f"{path}: cannot be read ({one_line(error, 120)}), expected the figures of a report of this version; "
            "make it again: churn run"
        ) from error


def summarize(
    report: Report | None, registration: Registration | None, calls: Calls | None, places: Mapping[str, Path]
) -> RunSummary:
    """The parts of the summary; a part whose figures are None is empty."""
    challenger = registration is not None and registration.alias == "challenger"
    commands = {
        "churn score FILE --calls CALLS.xlsx": "a call list for another table",
        "churn serve": "answer requests, on port 3000",
    }
    if challenger:
        commands = {"churn status": "what the challenger waits for", **commands}
    return RunSummary(
        how_good=describe_quality(report) if report else "",
        whom_to_call=_whom_to_call(report, calls),
        left_out=report.ladder.left_out_sentences if report and report.ladder else (),
        doubts=tuple(describe_doubts(report, registration)[:MOST_DOUBTS]),
        places=places,
        commands=dict(list(commands.items())[:2]),
    )


def _whom_to_call(report: Report | None, calls: Calls | None) -> str:
    if report and report.model.no_signal:
        return NOBODY
    return describe_calls(calls, report.profit.discount if report and report.profit else None) if calls else ""


def describe_quality(report: Report) -> str:
    """One honest sentence: the figure for newer customers beside the one for customers drawn at random, which is called
    flattering where it is further from a random list."""
    random, newest = report.sides["test"], report.sides.get("oot")
    if random.shortage:
        return _untested(report, newest)
    if newest is None or newest.shortage:
        why = untested_newest(report)
        return (
            f"PR-AUC {_figure(random)} on customers drawn at random; how well newer customers are ranked is not "
            f"known: {why} (1 is perfect)."
        )
    better = _lift(random) > _lift(newest) + _FLATTERING
    other = (
        "the flattering figure, on customers drawn at random, is" if better else "on customers drawn at random it is"
    )
    return (
        f"PR-AUC {_figure(newest)} on the newest customers by a model trained on older ones; {other} {_figure(random)} "
        "(1 is perfect)."
    )


def _untested(report: Report, newest: Side | None) -> str:
    """What is known where too few customers of a class were drawn to test with."""
    known, out_of_fold = [], report.out_of_fold
    if newest is not None and not newest.shortage:
        known.append(f"PR-AUC {_figure(newest)} on the newest customers by a model trained on older ones")
    if out_of_fold is not None:
        base_rate = out_of_fold.churners / out_of_fold.rows
        known.append(
            f"out of fold, on the {out_of_fold.rows:,} training customers, {out_of_fold.churners:,} churned, PR-AUC is "
            f"{_with_interval(out_of_fold.pr_auc, base_rate)}"
        )
    newer = untested_newest(report)
    few = f", {newer} among the newest" if newer and report.data.cohort else ""
    end = f"; {'; '.join(known)} (1 is perfect)" if known else ""
    return f"not tested, {report.sides['test'].shortage} among the test customers{few}{end}."


def describe_calls(calls: Calls, discount: Discount | None = None) -> str:
    """How many customers to call and what that is expected to bring, with the share of predicted churners it counts."""
    share = discount.share if discount else 1.0
    basis = (
        "probabilities" if share == 1.0 else f"{share:.0%} of the predicted churners, as measured on test customers,"
    )
    customers = f"{calls.listed:,} active customers" + " outside the control group" * bool(calls.control)
    if not calls.contacts:
        return f"nobody: no call to one of {customers} is expected to pay for itself."
    return (
        f"the first {calls.contacts:,} of {customers}; expected profit {amount(calls.expected_profit)}, "
        f"if {basis} and the contract's [value] hold."
    )


def describe_doubts(report: Report | None, registration: Registration | None) -> list[str]:
    """What limits the trust in this model, the gravest first, a sentence each."""
    if report is None:
        return []
    doubts = [
        "These customers are generated, not real: every figure describes a simulation." * report.data.generated,
        _no_better_than_random(report),
        _twins(report),
        *_suspects(report),
        _few_churners(report),
        _cohorts_apart(report),
        _calibration(report),
        _rejected(report),
    ]
    if registration is not None and registration.alias == "challenger":
        doubts.append(f"The call list is of champion {registration.champion}; this model is a challenger.")
    return [doubt for doubt in doubts if doubt]


def _lift(side: Side) -> float:
    """How far a side's PR-AUC is from a random list's, 0, to a perfect one's, 1: rates of churn differ by side."""
    base_rate = side.curves.base_rate
    return (side.metrics["pr_auc"].value - base_rate) / max(1.0 - base_rate, 1e-9)


def _figure(side: Side) -> str:
    """A PR-AUC, its interval and what a random list reaches."""
    return _with_interval(side.metrics["pr_auc"], side.curves.base_rate)


def _with_interval(figure: Estimate, base_rate: float) -> str:
    ends = f"{figure.low:.2f} to {figure.high:.2f}, " if figure.low < figure.high else ""
    return f"{figure.value:.2f} ({ends}a random list {base_rate:.2f})"


def _no_better_than_random(report: Report) -> str:
    names = {"test": "customers drawn at random", "oot": "the newest customers"}
    weak = [
        names[name]
        for name, side in report.sides.items()
        if not side.shortage and side.metrics["pr_auc"].low <= side.curves.base_rate
    ]
    return f"On {' and on '.join(weak)} the model may be no better than a random list." if weak else ""


def _twins(report: Report) -> str:
    share = report.sides["test"].twin_share
    return (
        f"{share:.0%} of the test customers equal a training customer in every feature: expect less for customers "
        "unlike any before."
        if share >= MATERIAL_TWINS
        else ""
    )


def _suspects(report: Report) -> list[str]:
    """Columns that may be consequences of churn, who attests them, and what the model reaches without them."""
    without = {}
    refitted = report.ladder.refitted if report.ladder else None
    for rung in report.ladder.rungs if report.ladder else ():
        reached = f"{rung.random.pr_auc:.2f}" if rung.random else ""
        text = f"A quick refit reaches PR-AUC {refitted.pr_auc:.2f} with it, {reached} without." if refitted else ""
        if len(rung.left_out) == 1:
            without[rung.left_out[0]] = f" {text or f'Without it PR-AUC is {reached}.'}" if rung.random else ""
    over = {finding.column: finding.attested for finding in (report.ladder.read if report.ladder else ())}
    attested = {suspect.column: suspect.attested for suspect in report.suspects} | over
    sentences = []
    for column, who in attested.items():
        trust = f"that it is not is attested by {re.split('[,:]', who)[0]}" if who else "nobody attests that it is not"
        sentences.append(f"'{column}' may be a consequence of churn; {trust}.{without.get(column, '')}")
    return sentences


def _few_churners(report: Report) -> str:
    few = {"test": "test customers", "oot": "newest customers"}
    parts = [
        f"{side.churners:,} of {side.rows:,} {few[name]}"
        for name, side in report.sides.items()
        if side.churners < FEW_CHURNERS and not side.shortage
    ]
    return f"Few churned, {' and '.join(parts)}: these figures may be chance." if parts else ""


def _cohorts_apart(report: Report) -> str:
    side, few, all_rate = report.sides.get("oot"), report.newest, report.data.churn_rate
    if side is None and few is None:
        return ""
    newest = side.curves.base_rate if side is not None else few.churn_rate if few is not None else all_rate
    low, high = sorted((newest, all_rate))
    if low > 0 and high / low < _RATES_APART:
        return ""
    return f"Newer customers are different: {newest:.1%} of them churned, {all_rate:.1%} of all."


def _calibration(report: Report) -> str:
    name = "test" if untested_newest(report) else "oot"
    if report.sides[name].shortage:
        return ""
    ece = report.sides[name].metrics["ece"].value
    whom = {"oot": "the newest customers", "test": "test customers"}[name]
    return (
        f"Probabilities of {whom} are off by {ece:.0%} on average: read money as an order of magnitude."
        if ece > _ECE_LIMIT
        else ""
    )


def _rejected(report: Report) -> str:
    validation = report.validation
    if validation is None or validation.rejected_share < _REJECTED_SHARE:
        return ""
    return f"{validation.rows_rejected:,} of {validation.rows_in:,} rows break the contract and were left out."

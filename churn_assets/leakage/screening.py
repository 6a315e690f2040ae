"""Which columns may be consequences of churn, judged before any candidate is trained.

docs/audit.md describes the limits. No test row is read. A column that is over a limit, adds a material part of the
lift, and is attested by nobody is left out of the model (`[audit] accused = "exclude"`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from churn_assets.contract.edit import remedy
from churn_assets.contract.limits import Audit as Limits
from churn_assets.contract.model import Contract, Kind
from churn_assets.errors import TrainingError
from churn_assets.features.encode import Columns, encode_table
from churn_assets.leakage.column_tests import (
    ColumnSignal,
    EchoTest,
    Index,
    Labels,
    best_pair,
    features_of,
    measure_columns,
    others_are_tied,
)
from churn_assets.leakage.ladder import Figure
from churn_assets.leakage.probe import MOST_REFITS, Loss, Probe
from churn_assets.training.feature_table import feature_table, training_data

if TYPE_CHECKING:
    import pyarrow as pa

SEED = 42
MATERIAL = 0.03  # lift; a column that adds less is no danger
STRONG = 0.6  # lift that a column must carry before its share of the model's lift is a sign of anything
PAIRED = 14  # columns whose pairs are tried, those first that matter most
TOGETHER = 0.2  # lift that a pair must reach beyond the better of the two
_PAIRED_KINDS = (Kind.NUMBER, Kind.INTEGER, Kind.DATE)
MOST_ROUNDS = 5  # columns that are accused in pairs and because of the headline, one after the other


class Finding(msgspec.Struct, frozen=True, rename={"value": "found", "description": "words"}):
    """A column over a limit of `[audit]`: `limit` is its key, `value` is over `allowed`, `description` is a clause that
    has the column as its subject. `attested` is who attests it, '' if nobody does."""

    column: str
    limit: str
    value: float
    allowed: float
    description: str
    attested: str


class LabelTest(msgspec.Struct, frozen=True):
    """How far the label alone explains a column's values (`EchoTest`); None where other columns do not predict it."""

    roc_auc: float
    tied: float
    by_label: float | None
    by_label_error: float | None


class SingleColumn(msgspec.Struct, frozen=True):
    """One column: what it reaches alone on test rows by split (empty if no feature is its own, or before a ladder is
    made), the share of the lift that is lost without it, and its signal (`ColumnSignal`)."""

    alone: dict[str, Figure]
    headline_loss_when_removed: float
    single_column_pr_auc_lift: float
    isolated_churner_share: float
    isolated_by: str
    values: LabelTest
    gaps: LabelTest | None
    repeats: tuple[str, ...]


class Screening(msgspec.Struct, frozen=True):
    """What is known of the columns before training: `left_out` are those that no candidate reads because nobody attests
    them, beside the ones that the contract excludes. Its JSON form is the asset `column_audit`."""

    columns: dict[str, SingleColumn]
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...]
    fingerprint: str = ""


def screen(contract: Contract, customers: pa.Table, splits: pa.Table, seed: int = SEED) -> Screening:
    """Judge the columns of a validated table. Raises TrainingError if every column would be left out."""
    everything = contract.whole
    data = training_data(everything, feature_table(everything, customers, splits), splits)
    view, columns = data.views["random"], encode_table(everything, customers)
    rows = np.concatenate([view.split.train, view.split.validation])
    signals = measure_columns(everything, columns, view.matrix, view.program.specs, data.churned, rows, seed)
    probe = Probe(data, features_of(everything, view.program.specs), seed)
    judge = _Judge(contract, probe, signals, columns, data.churned, rows)
    losses = judge.losses()
    findings = judge.material(collect_findings(contract, signals, judge.names))
    findings += judge.together([finding.column for finding in findings])
    findings += judge.carriers(losses, {finding.column for finding in findings})
    order = list(contract.by_name)
    findings = tuple(sorted(findings, key=lambda finding: order.index(finding.column)))
    return Screening(
        columns={name: _single(signal, losses.get(name)) for name, signal in signals.items()},
        findings=findings,
        left_out=_left_out(contract, findings),
        fingerprint=contract.fingerprint,
    )


def collect_findings(
    contract: Contract, signals: Mapping[str, ColumnSignal], names: Collection[str]
) -> tuple[Finding, ...]:
    """Every one of `names` over every limit that concerns a column alone; columns in the contract's order."""
    findings = []
    for name in (name for name in signals if name in names):
        for limit, value, text in _over(contract.audit, signals, name):
            allowed = getattr(contract.audit, limit)
            description = text if limit == "echo_roc_auc" else f"{text} (limit {allowed:.0%})"
            findings.append(Finding(name, limit, value, allowed, description, contract.column(name).attested))
    return tuple(findings)


class _Judge:
    """The steps that need a model; columns that the contract excludes are not judged."""

    def __init__(
        self,
        contract: Contract,
        probe: Probe,
        signals: Mapping[str, ColumnSignal],
        columns: Columns,
        churned: Labels,
        rows: Index,
    ) -> None:
        self.contract, self.probe, self.signals = contract, probe, signals
        self.columns, self.churned, self.rows = columns, churned, rows
        self.excluded = [c.name for c in contract.columns if c.excluded and c.name in signals]
        self.names = [name for name in signals if name not in self.excluded]
        self.by_weight = probe.by_shuffling(self.kept(), self.names)

    def kept(self, without: Collection[str] = ()) -> tuple[int, ...]:
        """Features of the columns that are judged, but for some."""
        return self.probe.features((*self.excluded, *without))

    def losses(self, gone: Collection[str] = ()) -> dict[str, Loss]:
        """The loss without each column, beside all but `gone`; 0 for those that do not matter when shuffled."""
        complete, nothing = self.kept(gone), Loss(0.0, 0.0, 0.0, 0.0)
        names = [name for name in self.names if name not in gone]
        most = self.probe.by_shuffling(complete, names)[:MOST_REFITS] if gone else self.by_weight[:MOST_REFITS]
        refitted = {name: self.probe.loss(complete, self.kept([*gone, name]), least=STRONG) for name in most}
        return {name: refitted.get(name, nothing) for name in names}

    def material(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """The findings about columns that add a material part of the lift to those that nobody accuses."""
        names = list(dict.fromkeys(finding.column for finding in findings))
        honest = self.kept(names)
        gains = {
            name: self.probe.loss(self.kept([other for other in names if other != name]), honest) for name in names
        }
        return tuple(f for f in findings if gains[f.column].low > 0.0 and gains[f.column].lift >= MATERIAL)

    def together(self, gone: list[str]) -> tuple[Finding, ...]:
        """Columns that tell the label in pairs, and those without which the remaining ones no longer reach a lift that
        is too good to be true; `gone` are accused already."""
        findings: list[Finding] = []
        for _ in range(MOST_ROUNDS):
            names = [name for name in self.by_weight if name not in gone]
            finding = self._of_pair(names, gone) or self._of_headline(names, gone)
            if finding is None:
                break
            findings.append(finding)
            gone = [*gone, finding.column]
        return tuple(findings)

    def carriers(self, losses: Mapping[str, Loss], accused: Collection[str]) -> tuple[Finding, ...]:
        """Columns that carry most of a strong model, by more than they reach alone. They are judged without those
        `accused`, beside which a carrier costs little and a partner much; `losses` are those beside all columns."""
        limit = self.contract.audit.headline_loss_when_removed
        if accused:
            losses = self.losses(accused) if self.probe.lift(self.kept(accused)) > STRONG else {}
        strong = {n: max(STRONG, self.signals[n].pr_auc_lift + TOGETHER) for n in losses}
        over = {n: loss for n, loss in losses.items() if loss.share_low > limit and loss.lift > strong[n]}
        return tuple(
            self._finding(
                *(name, "headline_loss_when_removed", loss.share),
                f"accounts for {loss.share:.0%} of the model's PR-AUC lift (limit {limit:.0%})",
            )
            for name, loss in over.items()
        )

    def _of_pair(self, names: Sequence[str], gone: Sequence[str]) -> Finding | None:
        numbers = [name for name in names if self.contract.column(name).kind in _PAIRED_KINDS][:PAIRED]
        pair, limit = best_pair(self.columns, numbers, self.churned, self.rows), self.contract.audit.pair_pr_auc_lift
        if pair is None or pair.low <= limit:
            return None
        alone = max(self.signals[name].pr_auc_lift for name in (pair.first, pair.second))
        if pair.lift - alone < TOGETHER:
            return None
        name, other = self._later((pair.first, pair.second), gone)
        text = f"reaches {pair.lift:.0%} of the possible PR-AUC lift together with '{other}', by {pair.quantity}"
        text += f" (limit {limit:.0%}; alone {alone:.0%} at most)"
        return self._finding(name, "pair_pr_auc_lift", pair.lift, text)

    def _of_headline(self, names: Sequence[str], gone: Sequence[str]) -> Finding | None:
        limit, complete = self.contract.audit.headline_pr_auc_lift, self.kept(gone)
        headline = self.probe.headline(complete)
        if not names or headline <= limit:
            return None
        name = min(names[:MOST_REFITS], key=lambda column: self.probe.lift(self.kept([*gone, column])))
        text = (
            f"contributes most to a model that reaches {headline:.1%} of the possible PR-AUC lift (limit {limit:.0%}), "
        )
        return self._finding(name, "headline_pr_auc_lift", headline, f"{text}which is too good to be true")

    def _finding(self, name: str, limit: str, value: float, text: str) -> Finding:
        allowed, attested = getattr(self.contract.audit, limit), self.contract.column(name).attested
        return Finding(name, limit, value, allowed, text, attested)

    def _later(self, pair: tuple[str, ...], gone: Sequence[str]) -> tuple[str, str]:
        """The column of a pair that is left out, and the other: a start is known from the start on, so a date or the
        cohort stays; else that one goes without which less remains."""
        lift = {name: self.probe.lift(self.kept([*gone, name])) for name in pair}
        later, other = sorted(pair, key=lambda name: (self._is_start(name), lift[name]))
        return later, other

    def _is_start(self, name: str) -> bool:
        return self.contract.column(name).kind is Kind.DATE or name == self.contract.time.cohort


def _left_out(contract: Contract, findings: Sequence[Finding]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(finding.column for finding in findings if not finding.attested))
    if contract.audit.accused == "refuse" or not names:
        return ()
    inputs = [column.name for column in contract.scoring_columns if not column.excluded and column.name not in names]
    if not inputs:
        raise TrainingError(
            f"the audit accuses every column that a model could read ({', '.join(names)}); expected at least one that "
            f"is known before churn; add such columns to the table, or attest one: {remedy(names[0], contract)}"
        )
    return names


def _over(limits: Limits, signals: Mapping[str, ColumnSignal], name: str) -> Iterator[tuple[str, float, str]]:
    """Each limit that the column alone is over, its value, and a clause about that."""
    signal = signals[name]
    if signal.pr_auc_lift_low > limits.single_column_pr_auc_lift:
        text = f"alone reaches {signal.pr_auc_lift:.0%} of the possible PR-AUC lift over a random list"
        yield "single_column_pr_auc_lift", signal.pr_auc_lift, text
    if (share := signal.isolated_share) > limits.isolated_churner_share:
        text = f"separates {share:.0%} of the churners by values that no kept customer has, mainly {signal.isolated_by}"
        yield "isolated_churner_share", share, text
    if others_are_tied(signals, name):
        yield from _echoes(limits, signal.values, signal.gaps)


def _echoes(limits: Limits, values: EchoTest, gaps: EchoTest | None) -> Iterator[tuple[str, float, str]]:
    if values.is_echo(limits.echo_roc_auc):
        text = (
            f"depends on the label (ROC AUC alone {values.roc_auc:.2f}) and on nothing else that is known about "
            "a customer, like a value that is written after the outcome"
        )
        yield "echo_roc_auc", values.roc_auc, text
    elif gaps is not None and gaps.is_echo(limits.echo_roc_auc):
        text = (
            f"is missing depending on the label (ROC AUC of that alone {gaps.roc_auc:.2f}) and on nothing else "
            "that is known about a customer, like a field that is filled after the outcome"
        )
        yield "echo_roc_auc", gaps.roc_auc, text


def _single(signal: ColumnSignal, loss: Loss | None) -> SingleColumn:
    return SingleColumn(
        {},
        max(0.0, loss.share) if loss else 0.0,
        signal.pr_auc_lift,
        signal.isolated_share,
        signal.isolated_by,
        _label_test(signal.values),
        _label_test(signal.gaps) if signal.gaps else None,
        signal.repeats,
    )


def _label_test(echo: EchoTest) -> LabelTest:
    by_label = (echo.by_label, echo.by_label_error) if np.isfinite(echo.by_label_error) else (None, None)
    return LabelTest(echo.roc_auc, echo.tied, *by_label)

"""The leakage audit: how much a model's headline depends on columns that may be consequences of churn.

docs/audit.md describes how each figure is computed and its sources. Limits are checked on training and validation
rows; the figures shown are of test rows, which are read for reporting only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from churn_assets.contract.limits import Audit as Limits
from churn_assets.contract.model import Contract
from churn_assets.data.customers import TableOrigin, reported_rows
from churn_assets.features.encode import Columns, encode_table
from churn_assets.leakage.column_tests import ColumnSignal, EchoTest, companions, features_of, measure_columns
from churn_assets.leakage.ladder import AgeBand, Figure, Ladder, Loss, age_bands
from churn_assets.training.candidate import Parameters
from churn_assets.training.feature_table import as_of_of, training_data
from churn_assets.training.select import TEST_PREFIXES

if TYPE_CHECKING:
    import pyarrow as pa

MOST_SUSPECTS = 8  # rungs of single suspects; more are hard to read
SEED = 42
_CARD_FIGURES = {"pr_auc": "pr_auc", "low": "pr_auc_low", "high": "pr_auc_high"}


class Finding(msgspec.Struct, frozen=True, rename={"value": "found", "description": "words"}):
    """A column over a limit of `[audit]`: `limit` is its key, `value` is over `allowed`, `description` is a clause that
    has the column as its subject. `attested` is who attests it, '' if nobody does."""

    column: str
    limit: str
    value: float
    allowed: float
    description: str
    attested: str


class Rung(msgspec.Struct, frozen=True, omit_defaults=True, rename={"label": "words"}):
    """The recipe without the columns `left_out`."""

    label: str
    left_out: tuple[str, ...]
    random: Figure
    out_of_time: Figure | None = None

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by split."""
        newest = {} if self.out_of_time is None else {"out_of_time": self.out_of_time}
        return {"random": self.random, **newest}


class LabelTest(msgspec.Struct, frozen=True):
    """How far the label alone explains a column's values (`EchoTest`); None where other columns do not predict it."""

    roc_auc: float
    tied: float
    by_label: float | None
    by_label_error: float | None


class SingleColumn(msgspec.Struct, frozen=True):
    """One column: what it reaches alone on test rows by split (empty if no feature is its own), the share of the
    model's lift that is lost without it (validation rows), and its signal (`ColumnSignal`)."""

    alone: dict[str, Figure]
    headline_loss_when_removed: float
    single_column_pr_auc_lift: float
    isolated_churner_share: float
    isolated_by: str
    values: LabelTest
    gaps: LabelTest | None
    repeats: tuple[str, ...]


class Audit(msgspec.Struct, frozen=True, omit_defaults=True):
    """The ladder of one table; its JSON form is the asset `leakage_audit` and the ladder beside a bundle. `recipe`
    describes what was fitted at each rung; `model` and `chosen` are the version and the name of the audited model, ''
    if the table was audited on its own."""

    recipe: str
    sentences: tuple[str, ...]
    rungs: tuple[Rung, ...]
    bands: tuple[AgeBand, ...]
    columns: dict[str, SingleColumn]
    findings: tuple[Finding, ...]
    suspects: tuple[str, ...]
    rows: int
    churners: int
    source: str
    model: str = ""
    chosen: str = ""

    @property
    def unattested(self) -> tuple[Finding, ...]:
        """Findings about columns that nobody attests: they keep a model out of the registry."""
        return tuple(finding for finding in self.findings if not finding.attested)


def audit(
    contract: Contract,
    customers: pa.Table,
    features: pa.Table,
    splits: pa.Table,
    chosen: str = "",
    params: Mapping[str, Parameters] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Audit:
    """The audit of a validated table.

    `chosen` is the name of the chosen model, a recipe or several joined by ' + ' ('' if none is chosen; see
    `audited_recipe`); `params` are the parameters of each recipe by name. `metrics` are the chosen model's own
    (`Choice.metrics`): they are the first rung, which is refitted without them. Raises TrainingError if a recipe
    cannot be fitted.
    """
    recipe, description = audited_recipe(chosen)
    data = training_data(contract, features, splits)
    ladder = Ladder(data, recipe, (params or {}).get(recipe, {}), SEED)
    columns = encode_table(contract, customers)
    signals, losses, findings = _examine(contract, columns, ladder)
    own = features_of(contract, data.views["random"].program.specs, own=True)
    single = {
        name: SingleColumn(
            {split: ladder.alone(split, own[name]) for split in data.views} if own[name] else {},
            losses[name].share,
            signal.pr_auc_lift,
            signal.isolated_share,
            signal.isolated_by,
            _label_test(signal.values),
            _label_test(signal.gaps) if signal.gaps else None,
            signal.repeats,
        )
        for name, signal in signals.items()
    }
    over = {finding.column for finding in findings}
    suspects = tuple(c.name for c in contract.scoring_columns if c.suspect or c.name in over)
    rungs = _rungs(contract, ladder, suspects or _most_important(losses))
    if metrics is not None:
        description += _describe_refit(rungs[0])
        rungs = (_chosen_rung(rungs[0], metrics), *rungs[1:])
    bands = age_bands(contract, columns, as_of_of(customers), ladder, reported_rows(customers))
    return Audit(
        recipe=description,
        sentences=(_describe_headline(rungs[0], bands), _describe_columns(contract, rungs, losses, findings)),
        rungs=rungs,
        bands=bands,
        columns=single,
        findings=findings,
        suspects=suspects,
        rows=customers.num_rows,
        churners=int(data.churned.sum()),
        source=TableOrigin.of(customers).source,
    )


def leakage_findings(
    contract: Contract, customers: pa.Table, features: pa.Table, splits: pa.Table
) -> tuple[Finding, ...]:
    """The findings of `audit` by boosted trees without its ladder, for auditing many tables."""
    ladder = Ladder(training_data(contract, features, splits), "boosted", {}, SEED)
    return _examine(contract, encode_table(contract, customers), ladder)[2]


def _examine(
    contract: Contract, columns: Columns, ladder: Ladder
) -> tuple[dict[str, ColumnSignal], dict[str, Loss], tuple[Finding, ...]]:
    """Signals, losses and findings of all columns; no test row is read."""
    data = ladder.data
    view = data.views["random"]
    rows = np.concatenate([view.split.train, view.split.validation])
    signals = measure_columns(contract, columns, view.matrix, view.program.specs, data.churned, rows, ladder.seed)
    reads = features_of(contract, view.program.specs)
    limit = contract.audit.headline_loss_when_removed
    losses = {name: ladder.loss(reads[name], limit) for name in signals}
    return signals, losses, collect_findings(contract, signals, losses)


def audit_source(contract: Contract, source: str, description: str = "") -> Audit:
    """Read, repair, validate and audit a table on its own, by boosted trees. Raises what any of these raises."""
    from churn_assets.data.readers.read import read_table
    from churn_assets.data.repairs.repairs import apply_repairs
    from churn_assets.data.validation.validate import validate
    from churn_assets.training.feature_table import feature_table
    from churn_assets.training.split import split_table

    raw = read_table(source, contract)
    repaired, _ = apply_repairs(raw, contract)
    validated = validate(contract, repaired, raw=raw, source=description or source)
    validated.report.stop_if_over_limit()
    customers = validated.customers
    splits = split_table(contract, customers)
    return audit(contract, customers, feature_table(contract, customers, splits), splits)


def audited_recipe(chosen: str) -> tuple[str, str]:
    """The recipe that is refitted at each rung, and its description. A ladder needs dozens of fits: a blend is
    represented by its boosted part, and a network by boosted trees, whose headline lies within its interval."""
    if chosen == "logistic":
        return "logistic", "logistic regression, as chosen"
    if chosen in ("", "boosted"):
        why = ", as chosen" if chosen else ""
    elif "boosted" in chosen.split(" + "):
        why = f", the part of '{chosen}' that can be refitted quickly"
    else:
        why = f" in place of '{chosen}', which takes too long to refit at each rung"
    return "boosted", f"boosted trees{why}, in fewer, larger steps than in training"


def collect_findings(
    contract: Contract, signals: Mapping[str, ColumnSignal], losses: Mapping[str, Loss]
) -> tuple[Finding, ...]:
    """Every column over every limit; columns in the contract's order."""
    findings = []
    for name, signal in signals.items():
        for limit, value, text in _over(contract.audit, signal, losses[name]):
            allowed = getattr(contract.audit, limit)
            description = text if limit == "echo_roc_auc" else f"{text} (limit {allowed:.0%})"
            findings.append(Finding(name, limit, value, allowed, description, contract.column(name).attested))
    return tuple(findings)


def _over(limits: Limits, signal: ColumnSignal, loss: Loss) -> Iterator[tuple[str, float, str]]:
    """Each limit that the column is over, its value, and a clause about that."""
    if signal.pr_auc_lift > limits.single_column_pr_auc_lift:
        text = f"alone reaches {signal.pr_auc_lift:.0%} of the possible PR-AUC lift over a random list"
        yield "single_column_pr_auc_lift", signal.pr_auc_lift, text
    if (share := signal.isolated_share) > limits.isolated_churner_share:
        text = f"separates {share:.0%} of the churners by values that no kept customer has, mainly {signal.isolated_by}"
        yield "isolated_churner_share", share, text
    if loss.low > limits.headline_loss_when_removed:
        yield "headline_loss_when_removed", loss.share, f"accounts for {loss.share:.0%} of the model's PR-AUC lift"
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


def _describe_headline(complete: Rung, bands: Sequence[AgeBand]) -> str:
    """The headline under weaker assumptions."""
    random, newest = complete.random, complete.out_of_time
    text = (
        f"On customers drawn at random the model reaches a PR-AUC of {random}; "
        f"1 is perfect, a random list reaches {random.base_rate:.3f}; "
    )
    if newest is not None:
        text += f"on the newest customers, trained on older ones, {newest}, a random list {newest.base_rate:.3f}"
    else:
        text += "performance on newer customers is not known, because the table has no cohorts"
    return f"{text}{_describe_ages(bands)}."


def _describe_ages(bands: Sequence[AgeBand]) -> str:
    by_age = {band.label: band.pr_auc for band in bands if band.pr_auc is not None}
    if len(by_age) < 2:
        return ""
    worst, best = min(by_age, key=by_age.__getitem__), max(by_age, key=by_age.__getitem__)
    return f"; by age it ranges from {by_age[worst]:.2f} ({worst}) to {by_age[best]:.2f} ({best})"


def _describe_columns(
    contract: Contract, rungs: Sequence[Rung], losses: Mapping[str, Loss], findings: Sequence[Finding]
) -> str:
    """The columns that the headline depends on."""
    names = list(dict.fromkeys(finding.column for finding in findings))
    if not names:
        return _describe_most_important(losses)
    clauses = [f"'{name}' {_listed([f.description for f in findings if f.column == name])}" for name in names[:3]]
    more = f"; {len(names) - 3} more columns are over a limit" if len(names) > 3 else ""
    last = rungs[-1]
    remaining = f"{last.label} PR-AUC is {last.random.pr_auc:.3f}"
    return f"{'; '.join(clauses)}{more}; {remaining}, and {_describe_attestation(contract, names)}."


def _describe_most_important(losses: Mapping[str, Loss]) -> str:
    text = "No column is over the contract's limits for possible consequences of churn"
    most = max(losses, key=lambda name: losses[name].share, default="")
    if not most:
        return f"{text}."
    return f"{text}; '{most}' is the most important, with {losses[most].share:.0%} of the model's PR-AUC lift."


def _describe_attestation(contract: Contract, names: Sequence[str]) -> str:
    unattested = [name for name in names if not contract.column(name).attested]
    single = len(unattested or names) == 1
    if unattested:
        return f"nobody attests that {_quoted_list(unattested)} {'is' if single else 'are'} known before churn"
    return f"only the contract's attestation says that {'it is' if single else 'they are'} known before churn"


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts[:-1]) + " and " + texts[-1] if len(texts) > 1 else texts[0]


def _quoted_list(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names[:5]]
    return f"{', '.join(quoted)} and {len(names) - 5} more" if len(names) > 5 else _listed(quoted)


def _most_important(losses: Mapping[str, Loss]) -> tuple[str, ...]:
    """Without a suspect, the most important column shows how far the figure depends on a single one."""
    return (max(losses, key=lambda name: losses[name].share),) if len(losses) > 1 else ()


def _rungs(contract: Contract, ladder: Ladder, suspects: Sequence[str]) -> tuple[Rung, ...]:
    reads = features_of(contract, ladder.data.views["random"].program.specs)
    rungs = []
    for names, label in _left_out_sets(contract, suspects).items():
        left_out = sorted({index for name in names for index in reads[name]})
        rungs.append(Rung(label, names, **{split: ladder.test(split, left_out) for split in ladder.data.views}))
    return tuple(rungs)


def _chosen_rung(refitted: Rung, metrics: Mapping[str, float]) -> Rung:
    """The rung of the chosen model itself: the figures of its card, on the test rows of the refitted one."""
    figures = {
        split: msgspec.structs.replace(
            figure, **{name: metrics[f"{TEST_PREFIXES[split]}_{key}"] for name, key in _CARD_FIGURES.items()}
        )
        for split, figure in refitted.figures.items()
    }
    return Rung(refitted.label, (), **figures)


def _describe_refit(refitted: Rung) -> str:
    """How far the refits are from the chosen model: a clause, to compare the rungs below the first with."""
    figures = ", ".join(f"{split.replace('_', ' ')} {figure.pr_auc:.3f}" for split, figure in refitted.figures.items())
    return f"; the first rung is the chosen model itself, refitted in this way it reaches {figures}"


def _left_out_sets(contract: Contract, suspects: Sequence[str]) -> dict[tuple[str, ...], str]:
    """The columns that each rung leaves out, and its label."""
    sets: dict[tuple[str, ...], str] = {(): "everything"}
    for name in suspects[:MOST_SUSPECTS]:
        sets.setdefault((name,), f"without {name}")
    if len(suspects) > 1:
        sets.setdefault(tuple(suspects), f"without {', '.join(suspects)}")
    related = [c for name in suspects for c in companions(contract, name) if c not in suspects]
    wider = (*suspects, *dict.fromkeys(related))
    if related:
        sets.setdefault(wider, f"without {', '.join(wider)}")
    return sets


def _label_test(echo: EchoTest) -> LabelTest:
    by_label = (echo.by_label, echo.by_label_error) if np.isfinite(echo.by_label_error) else (None, None)
    return LabelTest(echo.roc_auc, echo.tied, *by_label)

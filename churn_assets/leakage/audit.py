"""The honest-number ladder: what a model's headline rests on, and which columns must be vouched for.

See docs/audit.md for how each rung is computed and where it comes from. Limits are checked on training
and validation rows; the figures shown are of test rows, which are read for reporting only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from churn_assets.contract.model import Contract
from churn_assets.data.customers import reported_rows
from churn_assets.features.encode import Columns, encode_table
from churn_assets.leakage.column_groups import companions, features_of, own_features
from churn_assets.leakage.column_tests import Alone, Echo, look_at_columns
from churn_assets.leakage.ladder import Band, Figure, Ladder, Loss, bands
from churn_assets.training.feature_table import as_of_of, training_data

if TYPE_CHECKING:
    import pyarrow as pa
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from churn_assets.leakage.ladder import Band, Loss


@dataclass(frozen=True)
class Finding:
    """A column over a limit of `[audit]`: `limit` is its key, `found` and `allowed` numbers, `words` a
    clause that has the column as its subject. `attested` is who vouches for it, '' if nobody does."""

    column: str
    limit: str
    found: float
    allowed: float
    words: str
    attested: str

    def to_json(self) -> dict[str, Any]:
        """As a small JSON value."""
        return asdict(self)


def findings_of(contract: Contract, seen: Mapping[str, Alone], losses: Mapping[str, Loss]) -> tuple[Finding, ...]:
    """Every column over every limit; columns in the contract's order."""
    found = []
    for name, alone in seen.items():
        for limit, value, words in _over(contract, alone, losses[name]):
            allowed = getattr(contract.audit, limit)
            found.append(Finding(name, limit, value, allowed, words, contract.column(name).attested))
    return tuple(found)


def _over(contract: Contract, alone: Alone, loss: Loss) -> list[tuple[str, float, str]]:
    limits = contract.audit
    over = []
    if alone.pr_auc_lift > limits.single_column_pr_auc_lift:
        words = (
            f"alone gets {alone.pr_auc_lift:.0%} of the way from a random list to a perfect one "
            f"(allowed {limits.single_column_pr_auc_lift:.0%})"
        )
        over.append(("single_column_pr_auc_lift", alone.pr_auc_lift, words))
    if alone.isolated_share > limits.isolated_churner_share:
        words = (
            f"sets apart {alone.isolated_share:.0%} of the churners by values no kept customer has, above all "
            f"{alone.isolated_by} (allowed {limits.isolated_churner_share:.0%})"
        )
        over.append(("isolated_churner_share", alone.isolated_share, words))
    if loss.low > limits.headline_loss_when_removed:
        words = f"carries {loss.share:.0%} of what the model is worth (allowed {limits.headline_loss_when_removed:.0%})"
        over.append(("headline_loss_when_removed", loss.share, words))
    if alone.values.is_echo(limits.echo_roc_auc):
        words = (
            f"follows the label (ROC AUC alone {alone.values.roc_auc:.2f}) and nothing else known about a customer, "
            "as a value does that is written after the outcome"
        )
        over.append(("echo_roc_auc", alone.values.roc_auc, words))
    elif alone.gaps is not None and alone.gaps.is_echo(limits.echo_roc_auc):
        words = (
            f"is missing or filled by the label (ROC AUC of that alone {alone.gaps.roc_auc:.2f}) and by nothing else "
            "known about a customer, as a field is that is filled after the outcome"
        )
        over.append(("echo_roc_auc", alone.gaps.roc_auc, words))
    return over


def two_sentences(
    contract: Contract,
    rungs: Sequence[Rung],
    losses: Mapping[str, Loss],
    findings: Sequence[Finding],
    ages: Sequence[Band],
) -> tuple[str, str]:
    """What is left of the headline, and what carries it."""
    return _what_is_left(rungs[0], ages), _what_carries(contract, rungs, losses, findings)


def _what_is_left(whole: Rung, ages: Sequence[Band]) -> str:
    drawn = whole.figures["random"]
    words = (
        f"Customers drawn at random are ranked with a PR-AUC of {drawn}, "
        f"where 1 is perfect and a random list gets {drawn.base_rate:.3f}"
    )
    later = whole.figures.get("out_of_time")
    if later is not None:
        words += f"; the newest customers, learnt from older ones, with {later}, a random list {later.base_rate:.3f}"
    else:
        words += "; how it does on newer customers cannot be said, for the table has no cohorts to tell them by"
    told = [(band.figure.pr_auc, band) for band in ages if band.figure is not None]
    if len(told) > 1:
        (worst, low), (best, high) = min(told, key=lambda t: t[0]), max(told, key=lambda t: t[0])
        words += f"; by age it runs from {worst:.2f} ({low.words}) to {best:.2f} ({high.words})"
    return words + "."


def _what_carries(
    contract: Contract, rungs: Sequence[Rung], losses: Mapping[str, Loss], findings: Sequence[Finding]
) -> str:
    named = list(dict.fromkeys(finding.column for finding in findings))
    if not named:
        most = max(losses, key=lambda name: losses[name].share, default="")
        words = "No column is over the contract's limits for what may be a consequence of churn"
        return (
            f"{words}; '{most}' carries most, {losses[most].share:.0%} of what the model is worth."
            if most
            else f"{words}."
        )
    clauses = [f"'{name}' {_all_words(name, findings)}" for name in named[:3]]
    more = f"; {len(named) - 3} more columns are over a limit" if len(named) > 3 else ""
    last = rungs[-1]
    left = f"{last.words} a PR-AUC of {last.figures['random'].pr_auc:.3f} is left"
    open_ = [name for name in named if not contract.column(name).attested]
    one = len(open_ or named) == 1
    if open_:
        vouched = f"nobody attests that {_listed(open_)} {'is' if one else 'are'} known before churn"
    else:
        vouched = f"that {'it is' if one else 'they are'} known before churn rests on the contract's word alone"
    return f"{'; '.join(clauses)}{more}; {left}, and {vouched}."


def _all_words(name: str, findings: Sequence[Finding]) -> str:
    said = [finding.words for finding in findings if finding.column == name]
    return ", ".join(said[:-1]) + " and " + said[-1] if len(said) > 1 else said[0]


def _listed(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names[:5]]
    if len(names) > 5:
        return f"{', '.join(quoted)} and {len(names) - 5} more"
    return ", ".join(quoted[:-1]) + " and " + quoted[-1] if len(quoted) > 1 else quoted[0]


MOST_FAMILIES = 8  # rungs a person still reads


@dataclass(frozen=True)
class Rung:
    """The recipe without some columns: `figures` by split ('random', 'out_of_time')."""

    words: str
    left_out: tuple[str, ...]
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class ColumnFigures:
    """One column: what it reaches alone on test rows by split (empty if no feature is its own), the
    share of the model's lift that goes with it (validation rows), and what was seen of it."""

    alone: Mapping[str, Figure]
    loss: Loss
    seen: Alone


@dataclass(frozen=True)
class Audit:
    """The ladder of one table. `recipe` says in words what was fitted at each rung."""

    recipe: str
    rungs: tuple[Rung, ...]
    bands: tuple[Band, ...]
    columns: Mapping[str, ColumnFigures]
    findings: tuple[Finding, ...]
    suspects: tuple[str, ...]
    sentences: tuple[str, str]
    rows: int
    churners: int
    source: str

    @property
    def unattested(self) -> tuple[Finding, ...]:
        """Findings about columns nobody vouches for: they keep a model out of the registry."""
        return tuple(finding for finding in self.findings if not finding.attested)

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "recipe": self.recipe,
            "sentences": list(self.sentences),
            "rungs": [
                {"words": r.words, "left_out": list(r.left_out), **{s: f.to_json() for s, f in r.figures.items()}}
                for r in self.rungs
            ],
            "bands": [
                {"words": b.words, "rows": b.rows, "churners": b.churners, **(b.figure.to_json() if b.figure else {})}
                for b in self.bands
            ],
            "columns": {name: _column_json(figures) for name, figures in self.columns.items()},
            "findings": [finding.to_json() for finding in self.findings],
            "suspects": list(self.suspects),
            "rows": self.rows,
            "churners": self.churners,
            "source": self.source,
        }


def audit(
    contract: Contract,
    customers: pa.Table,
    features: pa.Table,
    splits: pa.Table,
    chosen: str = "",
    params: Mapping[str, Any] | None = None,
    seed: int = 42,
) -> Audit:
    """Climb the ladder for a validated table.

    `chosen` is the name of the chosen model, a recipe or several joined by ' + ' ('' if none is chosen);
    `params` are the parameters of each recipe by name. A blend is audited by its boosted part, a
    network by boosted trees (see `audited_recipe`). Raises TrainingError if a recipe cannot be fitted.
    """
    recipe, words = audited_recipe(chosen)
    data = training_data(contract, features, splits)
    ladder = Ladder(data, recipe, (params or {}).get(recipe, {}), seed)
    columns = encode_table(contract, customers)
    seen, losses, findings = _examine(contract, columns, ladder)
    specs = data.views["random"].program.specs
    reads, own = features_of(contract, specs), own_features(contract, specs)
    figures = {
        name: ColumnFigures(
            {split: ladder.alone(split, own[name]) for split in ladder.splits} if own[name] else {},
            losses[name],
            alone,
        )
        for name, alone in seen.items()
    }
    suspects = _suspects(contract, findings)
    rungs = _rungs(contract, ladder, suspects or _heaviest(losses), reads)
    told = bands(contract, columns, as_of_of(customers), ladder, reported_rows(customers))
    ages = tuple(band for band in told if band.figure is not None)
    return Audit(
        recipe=words,
        rungs=rungs,
        bands=told,
        columns=figures,
        findings=findings,
        suspects=suspects,
        sentences=two_sentences(contract, rungs, losses, findings, ages),
        rows=customers.num_rows,
        churners=int(data.churned.sum()),
        source=(customers.schema.metadata or {}).get(b"churn_source", b"").decode(),
    )


def accuse(
    contract: Contract, customers: pa.Table, features: pa.Table, splits: pa.Table, seed: int = 42
) -> tuple[Finding, ...]:
    """The findings of `audit` by boosted trees without its ladder, for those who audit many tables."""
    ladder = Ladder(training_data(contract, features, splits), "boosted", {}, seed)
    return _examine(contract, encode_table(contract, customers), ladder)[2]


def _examine(
    contract: Contract, columns: Columns, ladder: Ladder
) -> tuple[dict[str, Alone], dict[str, Loss], tuple[Finding, ...]]:
    """What each column shows, what goes with it, and who is over a limit; no test row is read."""
    data = ladder.data
    view = data.views["random"]
    learnt_from = np.concatenate([view.split.train, view.split.validation])
    seen = look_at_columns(contract, columns, view.matrix, view.program.specs, data.churned, learnt_from, ladder.seed)
    reads = features_of(contract, view.program.specs)
    limit = contract.audit.headline_loss_when_removed
    losses = {name: ladder.loss(reads[name], limit) for name in seen}
    return seen, losses, findings_of(contract, seen, losses)


def audit_source(contract: Contract, source: str, words: str = "", seed: int = 42) -> Audit:
    """Read, repair, validate and audit a table on its own, by boosted trees. Raises what any of these raises."""
    from churn_assets.data.readers.read import read_table
    from churn_assets.data.repairs.repairs import apply_repairs
    from churn_assets.data.validation.validate import validate
    from churn_assets.training.feature_table import feature_table
    from churn_assets.training.split import split_table

    raw = read_table(source, contract)
    repaired, _ = apply_repairs(raw, contract)
    found = validate(contract, repaired, found=raw, source=words or source)
    found.report.stop_if_over_limit()
    splits = split_table(contract, found.customers, seed)
    return audit(contract, found.customers, feature_table(contract, found.customers, splits), splits, seed=seed)


def audited_recipe(chosen: str) -> tuple[str, str]:
    """Which recipe is refitted at each rung, and that in words.

    A ladder needs dozens of fits: of a blend the boosted part stands for the whole, and boosted trees
    stand for a network, whose headline on these tables lies within its interval.
    """
    parts = chosen.split(" + ")
    fast = "fewer, larger steps than in training"
    if parts == ["logistic"]:
        return "logistic", "logistic regression, as chosen"
    if parts == [""]:
        return "boosted", f"boosted trees, in {fast}"
    if parts == ["boosted"]:
        return "boosted", f"boosted trees, as chosen, in {fast}"
    if "boosted" in parts:
        return "boosted", f"boosted trees, the part of '{chosen}' that can be refitted quickly, in {fast}"
    return "boosted", f"boosted trees in place of '{chosen}', which takes too long to refit at each rung, in {fast}"


def _suspects(contract: Contract, findings: Sequence[Finding]) -> tuple[str, ...]:
    named = {finding.column for finding in findings}
    return tuple(c.name for c in contract.scoring_columns if c.suspect or c.name in named)


def _heaviest(losses: Mapping[str, Loss]) -> tuple[str, ...]:
    """Where nothing is suspect, the column that carries most shows how far the figure rests on one."""
    most = max(losses, key=lambda name: losses[name].share, default=None)
    return () if most is None or len(losses) < 2 else (most,)


def _rungs(
    contract: Contract, ladder: Ladder, suspects: Sequence[str], reads: Mapping[str, Sequence[int]]
) -> tuple[Rung, ...]:
    sets: dict[tuple[str, ...], str] = {(): "everything"}
    for name in suspects[:MOST_FAMILIES]:
        sets.setdefault((name,), f"without {name}")
    if len(suspects) > 1:
        sets.setdefault(tuple(suspects), f"without {', '.join(suspects)}")
    around = [c for name in suspects for c in companions(contract, name) if c not in suspects]
    wider = (*suspects, *dict.fromkeys(around))
    if around:
        sets.setdefault(wider, f"without {', '.join(wider)}")
    found = []
    for names, words in sets.items():
        left_out = sorted({index for name in names for index in reads[name]})
        found.append(Rung(words, names, {split: ladder.test(split, left_out) for split in ladder.splits}))
    return tuple(found)


def _column_json(figures: ColumnFigures) -> dict[str, Any]:
    seen = figures.seen
    return {
        "alone": {split: figure.to_json() for split, figure in figures.alone.items()},
        "headline_loss_when_removed": figures.loss.share,
        "single_column_pr_auc_lift": seen.pr_auc_lift,
        "isolated_churner_share": seen.isolated_share,
        "isolated_by": seen.isolated_by,
        "values": _echo_json(seen.values),
        "gaps": _echo_json(seen.gaps) if seen.gaps else None,
        "repeats": list(seen.repeats),
    }


def _echo_json(echo: Echo) -> dict[str, float | None]:
    told = np.isfinite(echo.by_label_error)
    return {
        "roc_auc": echo.roc_auc,
        "tied": echo.tied,
        "by_label": echo.by_label if told else None,
        "by_label_error": echo.by_label_error if told else None,
    }

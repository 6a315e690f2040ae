"""Which columns are over the contract's limits, in words, and what a manager should know in two sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from churn_assets.contract.model import Contract
from churn_assets.training.leaks import Alone

if TYPE_CHECKING:
    from churn_assets.training.audit import Rung
    from churn_assets.training.ladder import Band, Loss


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

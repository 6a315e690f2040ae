"""Whether labels are a fair sample of the predictions whose days are over.

Metrics of labelled customers speak of all of them only if the label is missing at random. Two ways in which it is not
show in the log: customers with a label have other scores than those without one (only the list was followed up), and,
beside that, so many of the labelled churned that churners are likely to be reported sooner or more often than those
who stay. Neither proves it; both are reason enough to conclude nothing (Rubin, Biometrika 1976).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from churn_assets.monitoring.performance.realized import Outcomes

LEAST = 30  # predictions with a label, and without one: of fewer nothing is said
COMPLETE = 0.9  # share of labels from which those that are missing can move no conclusion by much
SCORES_APART = 0.1  # of the probability, from 0.5, that a labelled customer has the higher score
ODDS = 1.5  # of labelled to expected churn
_SIGMA = 4.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matured:
    """The last prediction of each customer by one model whose days are over, in the order of the log: (n,) each."""

    seq: npt.NDArray[np.int64]
    score: Floats


def describe_selection(matured: Matured, labelled: Outcomes) -> str:
    """Why the labels are no fair sample of the predictions, from the first labelled one to the last; "" if nothing
    shows that. A customer counts once, by the last prediction: who churned at last has no label for those before."""
    labelled = labelled.take(np.isin(labelled.seq, matured.seq))
    if not len(labelled):
        return ""
    span = (matured.seq >= labelled.seq.min()) & (matured.seq <= labelled.seq.max())
    seq, score = matured.seq[span], matured.score[span]
    has_label = np.isin(seq, labelled.seq)
    known, unknown = int(has_label.sum()), int((~has_label).sum())
    if min(known, unknown) < LEAST or known >= COMPLETE * len(seq):
        return ""
    share = f"{known:,} of {len(seq):,} predictions whose days are over have a label"
    reason = _describe(score, has_label, labelled)
    return f"{share}, and {reason}; nothing is concluded from them" if reason else ""


def _describe(score: Floats, has_label: npt.NDArray[np.bool_], labelled: Outcomes) -> str:
    """What is unlike chance. A label that depends on the outcome depends on the score as well, if the model ranks;
    where it does not, another share of churners is a change of the customers."""
    apart, noise = _apart(score, has_label)
    if abs(apart) <= noise:
        return ""
    churned, expected = float(np.sum(labelled.churned)), float(np.sum(labelled.score))
    total, missing = float(np.sum(score)), len(score) - len(labelled)
    counts = f"{churned:,.0f} of these churned where their scores expect {expected:,.0f}"
    if apart > 0 and _exceeds(churned, labelled.score) and churned <= total + _noise(score):
        return (
            f"{counts}: churners seem to be reported sooner or more often; report also which of the {missing:,} others "
            "stayed"
        )
    kept, stay = len(labelled) - churned, len(score) - total
    if apart < 0 and _exceeds(kept, 1.0 - labelled.score) and kept <= stay + _noise(score):
        return (
            f"{counts}: those who stay seem to be reported more often; report also which of the {missing:,} others "
            "churned"
        )
    if abs(apart) <= SCORES_APART:
        return ""
    return (
        f"their scores are {'higher' if apart > 0 else 'lower'} than those of the others in {0.5 + abs(apart):.0%} of "
        "pairs: report what became of the others too"
    )


def _apart(score: Floats, has_label: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The probability that a labelled row has the higher score than another one, less 0.5 (Mann and Whitney's U, ties
    half), and what it stays below by chance."""
    others, known = np.sort(score[~has_label]), score[has_label]
    below, up_to = (np.searchsorted(others, known, side=side) for side in ("left", "right"))
    higher = float(np.mean(below + up_to) / (2 * len(others)))
    return higher - 0.5, _SIGMA * float(np.sqrt((len(score) + 1) / (12.0 * len(known) * len(others))))


def _exceeds(count: float, probability: Floats) -> bool:
    """Whether a count is beyond what independent events of these probabilities give, by odds and by noise."""
    expected, rows = float(np.sum(probability)), len(probability)
    return count - expected > _noise(probability) and _odds(count, rows) > ODDS * _odds(expected, rows)


def _noise(probability: Floats) -> float:
    return _SIGMA * float(np.sqrt(np.sum(probability * (1.0 - probability))))


def _odds(count: float, rows: int) -> float:
    return count / max(rows - count, 1e-9)

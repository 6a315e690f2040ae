"""Thresholds set on validation rows; expected profit on test rows, and the assumption it depends on most.

Contacting a customer costs `offer_cost`; a churner among them stays with probability `save_rate` and is then worth
`customer_value` (Verbeke et al., "New insights into churn prediction in the telecommunication sector: a
profit driven data mining approach", EJOR 2012). Every figure is per customer of the table, in the
contract's currency, with the 95 % bootstrap interval over test rows; the assumptions themselves are not
measured by any table, so they are varied one at a time instead (`tornado`). The bootstrap draws rows
regardless of label, because the number of churners in a table is part of the uncertainty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.limits import Value
from churn_assets.evaluation.bootstrap import DRAWS, interval, intervals, samples
from churn_assets.evaluation.metrics import Ranking
from churn_assets.scoring.card import Assumptions, BreakEven, ProfitPoint, ProfitReport, Swing

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]

POINTS = 60  # of the curve: enough to draw, few enough to keep in the card
VARIED_BY = 0.5  # an assumption is varied by half of its value, down and up
LIST_SHARES = (0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30, 0.50)


@dataclass(frozen=True)
class Ranked:
    """Test rows, riskiest first, under each bootstrap draw.

    `contacts` and `churners` are (draws, cuts): rows contacted and churners among them, as shares of the draw,
    if the list ends after each of `ends` rows; `point` is the same (2, cuts) for the rows without resampling.
    """

    ends: npt.NDArray[np.int64]
    contacts: Floats
    churners: Floats
    point: Floats

    @classmethod
    def of(cls, churned: Labels, probability: Floats, weights: Floats, ends: Sequence[int]) -> Ranked:
        """Rank rows (n,) by probability and cut the list after each of `ends` rows, 0 for nobody."""
        order = np.argsort(-probability, kind="stable")
        label = np.asarray(churned, dtype=np.float64)[order]
        cuts = np.asarray(ends, dtype=np.int64)
        drawn = weights[:, order]
        rows = float(len(order))

        def share_at_cuts(values: Floats) -> Floats:
            summed = np.cumsum(values, axis=-1)
            return np.asarray(np.where(cuts > 0, summed[..., cuts - 1], 0.0) / rows)

        point = np.stack([share_at_cuts(np.ones_like(label)), share_at_cuts(label)])
        return cls(cuts, share_at_cuts(drawn), share_at_cuts(drawn * label), point)

    def profit(self, value: Value) -> tuple[Floats, Floats]:
        """Profit per customer of the table at each cut: of the rows (cuts,), and by draw (draws, cuts)."""
        gain = value.save_rate * value.customer_value
        return (
            self.point[1] * gain - self.point[0] * value.offer_cost,
            self.churners * gain - self.contacts * value.offer_cost,
        )


def choose_thresholds(churned: Labels, probability: Floats, value: Value, customers: int) -> dict[str, float]:
    """`f1`, `profit` and, if the contract has a capacity, `capacity`.

    `customers` is the size of the table a call list is made from: capacity is a share of it.
    """
    thresholds = {"f1": f1_threshold(churned, probability), "profit": profit_threshold(value)}
    if value.capacity is not None:
        thresholds["capacity"] = capacity_threshold(probability, min(1.0, value.capacity / customers))
    return thresholds


def f1_threshold(churned: Labels, probability: Floats) -> float:
    """The threshold with the largest F1; customers of equal probability are predicted alike."""
    ranking = Ranking(churned, probability)
    predicted, true_positives = ranking.counts()
    return float(ranking.cuts[np.argmax(2 * true_positives / (predicted + np.sum(churned)))])


def profit_threshold(value: Value) -> float:
    """The probability from which on a contact is expected to pay: offer_cost over save_rate x customer_value
    (Elkan, 2001); 1 if no contact can pay.

    It is exact for calibrated probabilities and the threshold of the call list. The best cut on validation rows
    would follow their noise instead.
    """
    gain = value.save_rate * value.customer_value
    return min(1.0, value.offer_cost / gain) if gain > 0 else 1.0


def capacity_threshold(probability: Floats, share: float) -> float:
    """The probability that `share` of the customers reach."""
    return float(np.quantile(probability, 1.0 - share, method="higher"))


def profit_report(
    churned: Labels, probability: Floats, value: Value, thresholds: Mapping[str, float], seed: int = 42
) -> ProfitReport:
    """Profit on test rows `churned` (n,) and `probability` (n,); the same for equal rows and seed."""
    rows = len(probability)
    drawn = samples(rows, DRAWS, seed)
    chosen = int(np.sum(probability >= thresholds[value.decide_by]))
    ends = np.unique(np.linspace(0, rows, POINTS + 1).astype(np.int64)).tolist()
    sizes = [max(1, round(share * rows)) for share in LIST_SHARES]
    ranked = Ranked.of(churned, probability, drawn, [*ends, *sizes, chosen])
    points = _points(ranked, value)
    curve, lists, operating = points[: len(ends)], points[len(ends) : -1], points[-1]
    swings, limits = _tornado(ranked, value), _break_even(ranked, value)
    return ProfitReport(
        decide_by=value.decide_by,
        threshold=thresholds[value.decide_by],
        values=Assumptions(value.save_rate, value.offer_cost, value.customer_value),
        curve=curve,
        chosen=operating,
        best=max(curve, key=lambda point: point.profit),
        tornado=swings,
        break_even=limits,
        list_sizes=lists,
        card_sentence=_card_sentence(operating, swings, limits),
    )


def describe_profit(report: ProfitReport) -> str:
    """The chosen operating point and the assumption that matters most, as sentences."""
    chosen = report.chosen
    if not chosen.contacted_share:
        return "Under the contract's values no contact is expected to pay: nobody is contacted, and the profit is 0."
    swing, names = _largest_assumption(report.tornado)
    limit = getattr(report.break_even, swing.assumption)
    end = "" if limit is None else f"; the profit is zero at a {_spaced(swing.assumption)} of {limit:.3g}"
    sampling = (
        "" if report.tornado[0] is swing else " The choice of test customers matters more than any single assumption."
    )
    return (
        f"Contact the riskiest {chosen.contacted_share:.1%}; expected profit per customer: {chosen.profit:.2f} "
        f"(95 % interval {chosen.low:.2f} to {chosen.high:.2f}). It depends most on the {names}: "
        f"{VARIED_BY:.0%} less or more changes it to {swing.profit_low:.2f} or {swing.profit_high:.2f} "
        f"(assumed {swing.assumed:.4g}{end}).{sampling}"
    )


def _card_sentence(chosen: ProfitPoint, swings: Sequence[Swing], limits: BreakEven) -> str:
    """`describe_profit` in the words of bundles made so far: other words would be another bundle version."""
    if not chosen.contacted_share:
        return (
            "Under the contract's values no contact is expected to pay, so nobody is contacted and nothing is earned."
        )
    swing, names = _largest_assumption(swings)
    limit = getattr(limits, swing.assumption)
    end = "" if limit is None else f"; the list earns nothing at a {_spaced(swing.assumption)} of {limit:.3g}"
    sampling = "" if swings[0] is swing else " The test rows' own chance weighs more than any assumption."
    return (
        f"Contacting the riskiest {chosen.contacted_share:.1%} earns {chosen.profit:.2f} a customer of the table "
        f"(95 % {chosen.low:.2f} to {chosen.high:.2f}). What matters most is the {names}: "
        f"{VARIED_BY:.0%} lower or higher, alone, moves that to {swing.profit_low:.2f} or {swing.profit_high:.2f} "
        f"(assumed {swing.assumed:.4g}{end}).{sampling}"
    )


def _largest_assumption(swings: Sequence[Swing]) -> tuple[Swing, str]:
    """The assumption with the largest swing, and the names of all whose swing equals it."""
    assumed = [swing for swing in swings if swing.assumed is not None]
    largest = assumed[0]
    equal = [s.assumption for s in assumed if abs(s.swing - largest.swing) <= 1e-9 * abs(largest.swing)]
    return largest, " and ".join(_spaced(name) for name in equal)


def _tornado(ranked: Ranked, value: Value) -> list[Swing]:
    """Profit at the last cut when one assumption is `VARIED_BY` lower or higher and the list stays the same.

    One row is the 95 % interval of the test customers themselves. The largest swing comes first.
    """
    swings = []
    for name in ("save_rate", "offer_cost", "customer_value"):
        profits = tuple(_profit_with(ranked, value, name, 1.0 + sign * VARIED_BY) for sign in (-1, 1))
        assumed = float(getattr(value, name))
        ends = (assumed * (1.0 - VARIED_BY), _capped(name, assumed * (1.0 + VARIED_BY)))
        swings.append(_swing(name, assumed, ends, profits))
    _, drawn = ranked.profit(value)
    swings.append(_swing("which customers were tested", None, (None, None), interval(drawn[:, -1])))
    return sorted(swings, key=lambda swing: -swing.swing)


def _break_even(ranked: Ranked, value: Value) -> BreakEven:
    contacts, churners = ranked.point[:, -1]
    gain = value.save_rate * value.customer_value
    cost = contacts * value.offer_cost
    return BreakEven(
        save_rate=_ratio(cost, churners * value.customer_value),
        offer_cost=_ratio(churners * gain, contacts),
        customer_value=_ratio(cost, churners * value.save_rate),
    )


def _points(ranked: Ranked, value: Value) -> list[ProfitPoint]:
    point, drawn = ranked.profit(value)
    low, high = intervals(drawn)
    contacted_share, churners_share = ranked.point
    rows = np.column_stack([contacted_share, churners_share, point, low, high])
    return [ProfitPoint(*row) for row in rows.tolist()]


def _profit_with(ranked: Ranked, value: Value, name: str, factor: float) -> float:
    numbers = {"save_rate": value.save_rate, "offer_cost": value.offer_cost, "customer_value": value.customer_value}
    numbers[name] = _capped(name, numbers[name] * factor)
    contacts, churners = ranked.point[:, -1]
    return float(churners * numbers["save_rate"] * numbers["customer_value"] - contacts * numbers["offer_cost"])


def _capped(name: str, number: float) -> float:
    return min(1.0, number) if name == "save_rate" else number


def _swing(
    name: str, assumed: float | None, ends: tuple[float | None, float | None], profits: tuple[float, ...]
) -> Swing:
    low, high = min(profits), max(profits)
    return Swing(name, assumed, ends[0], ends[1], low, high, abs(profits[1] - profits[0]))


def _ratio(over: float, under: float) -> float | None:
    return float(over / under) if under > 0.0 else None


def _spaced(name: str) -> str:
    return name.replace("_", " ")

"""What the model earns on test rows under the contract's values, and which assumption that hangs on.

Contacting a customer costs `offer_cost`; a churner among them stays with `save_rate` and is then worth
`customer_value` (Verbeke et al., "New insights into churn prediction in the telecommunication sector: a
profit driven data mining approach", EJOR 2012). Every figure is per customer of the table, in the
contract's currency, with the 95 % bootstrap interval over test rows; the assumptions themselves are not
measured by any table, so they are varied one at a time instead (`tornado`). The bootstrap draws rows
regardless of label: how many churners a table holds is part of what money depends on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.policy import Value
from churn_assets.evaluation.bootstrap import DRAWS, interval, intervals, samples

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]

POINTS = 60  # of the curve: enough to draw, few enough to keep in a card
VARIED_BY = 0.5  # an assumption is taken half as large, and half again as large
LIST_SHARES = (0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30, 0.50)


@dataclass(frozen=True)
class Ranked:
    """Test rows, riskiest first, under each bootstrap draw.

    `contacts` and `saved` are (draws, cuts): rows contacted and churners among them, as shares of the draw,
    if the list ends at each of `ends`; `point` is the same (2, cuts) for the rows as they are.
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

        def up_to(values: Floats) -> Floats:
            summed = np.cumsum(values, axis=-1)
            return np.asarray(np.where(cuts > 0, summed[..., cuts - 1], 0.0) / rows)

        return cls(cuts, up_to(drawn), up_to(drawn * label), np.stack([up_to(np.ones_like(label)), up_to(label)]))

    def profit(self, value: Value) -> tuple[Floats, Floats]:
        """Profit a customer of the table at each cut: as it is (cuts,), and by draw (draws, cuts)."""
        gain = value.save_rate * value.customer_value
        return (
            self.point[1] * gain - self.point[0] * value.offer_cost,
            self.churners * gain - self.contacts * value.offer_cost,
        )


def profit_report(
    churned: Labels, probability: Floats, value: Value, thresholds: Mapping[str, float], seed: int = 42
) -> dict[str, Any]:
    """Everything about money, as JSON; the same for equal rows and seed.

    Keys: `curve` (rows of the profit curve), `chosen` (the operating point of `value.decide_by`), `best` (the
    cut that would have been best on these rows, which hindsight flatters), `tornado`, `break_even`,
    `list_sizes` and `words`.
    """
    rows = len(probability)
    drawn = samples(rows, DRAWS, seed)
    chosen = int(np.sum(probability >= thresholds[value.decide_by]))
    ends = np.unique(np.linspace(0, rows, POINTS + 1).astype(np.int64)).tolist()
    sizes = [max(1, round(share * rows)) for share in LIST_SHARES]
    ranked = Ranked.of(churned, probability, drawn, [*ends, *sizes, chosen])
    table = _points(ranked, value)
    curve, lists, operating = table[: len(ends)], table[len(ends) : -1], table[-1]
    swings = tornado(ranked, value)
    limits = break_even(ranked, value)
    return {
        "decide_by": value.decide_by,
        "threshold": thresholds[value.decide_by],
        "values": {
            "save_rate": value.save_rate,
            "offer_cost": value.offer_cost,
            "customer_value": value.customer_value,
        },
        "curve": curve,
        "chosen": operating,
        "best": max(curve, key=lambda row: float(row["profit"])),
        "tornado": swings,
        "break_even": limits,
        "list_sizes": lists,
        "words": in_words(operating, swings, limits),
    }


def tornado(ranked: Ranked, value: Value) -> list[dict[str, Any]]:
    """Profit a customer at the last cut when one assumption is `VARIED_BY` lower or higher and the list stays.

    The last row is the data's own uncertainty: the 95 % interval. The largest swing comes first.
    """
    rows = []
    for name in ("save_rate", "offer_cost", "customer_value"):
        low, high = (_profit_with(ranked, value, name, 1.0 + sign * VARIED_BY) for sign in (-1, 1))
        assumed = float(getattr(value, name))
        ends = (assumed * (1.0 - VARIED_BY), _highest(name, assumed * (1.0 + VARIED_BY)))
        rows.append(_swing(name, assumed, ends, (low, high)))
    _, drawn = ranked.profit(value)
    rows.append(_swing("which customers were tested", None, (None, None), interval(drawn[:, -1])))
    return sorted(rows, key=lambda row: -float(row["swing"]))


def break_even(ranked: Ranked, value: Value) -> dict[str, float | None]:
    """For each assumption the value at which the list of the last cut earns nothing, the others as assumed.

    None where there is none: nobody is contacted, or no churner is among them.
    """
    contacts, churners = ranked.point[:, -1]
    gain = value.save_rate * value.customer_value
    cost = contacts * value.offer_cost
    return {
        "save_rate": _ratio(cost, churners * value.customer_value),
        "offer_cost": _ratio(churners * gain, contacts),
        "customer_value": _ratio(cost, churners * value.save_rate),
    }


def in_words(chosen: Mapping[str, Any], swings: Sequence[Mapping[str, Any]], limits: Mapping[str, float | None]) -> str:
    """The chosen point and the assumption that matters most, as sentences of figures."""
    if not chosen["contacted_share"]:
        return (
            "Under the contract's values no contact is expected to pay, so nobody is contacted and nothing is earned."
        )
    first, assumed = swings[0], [row for row in swings if row["assumed"] is not None]
    most = assumed[0]
    equals = [row["assumption"] for row in assumed if abs(row["swing"] - most["swing"]) <= 1e-9 * abs(most["swing"])]
    which = " and ".join(name.replace("_", " ") for name in equals)
    limit = limits[most["assumption"]]
    end = "" if limit is None else f"; the list earns nothing at a {_words(most['assumption'])} of {limit:.3g}"
    chance = "" if first is most else " The test rows' own chance weighs more than any assumption."
    return (
        f"Contacting the riskiest {chosen['contacted_share']:.1%} earns {chosen['profit']:.2f} a customer of the table "
        f"(95 % {chosen['low']:.2f} to {chosen['high']:.2f}). What matters most is the {which}: "
        f"{VARIED_BY:.0%} lower or higher, alone, moves that to {most['profit_low']:.2f} or {most['profit_high']:.2f} "
        f"(assumed {most['assumed']:.4g}{end}).{chance}"
    )


def _points(ranked: Ranked, value: Value) -> list[dict[str, float]]:
    point, drawn = ranked.profit(value)
    low, high = intervals(drawn)
    return [
        {
            "contacted_share": float(ranked.point[0, i]),
            "churners_share": float(ranked.point[1, i]),
            "profit": float(point[i]),
            "low": float(low[i]),
            "high": float(high[i]),
        }
        for i in range(len(point))
    ]


def _profit_with(ranked: Ranked, value: Value, name: str, factor: float) -> float:
    numbers = {"save_rate": value.save_rate, "offer_cost": value.offer_cost, "customer_value": value.customer_value}
    numbers[name] = _highest(name, numbers[name] * factor)
    contacts, churners = ranked.point[:, -1]
    return float(churners * numbers["save_rate"] * numbers["customer_value"] - contacts * numbers["offer_cost"])


def _highest(name: str, number: float) -> float:
    return min(1.0, number) if name == "save_rate" else number


def _swing(
    name: str, assumed: float | None, ends: tuple[float | None, float | None], profits: tuple[float, float]
) -> dict[str, Any]:
    low, high = profits
    return {
        "assumption": name,
        "assumed": assumed,
        "from": ends[0],
        "to": ends[1],
        "profit_low": min(low, high),
        "profit_high": max(low, high),
        "swing": abs(high - low),
    }


def _ratio(over: float, under: float) -> float | None:
    return float(over / under) if under > 0.0 else None


def _words(name: str) -> str:
    return name.replace("_", " ")

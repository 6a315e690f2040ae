"""The pictures of a choice: candidates on validation rows, the chosen model on test rows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from churn_assets.defs import plots
from churn_assets.evaluation.curves import Curves, evenly_spaced

if TYPE_CHECKING:
    from churn_assets.training.candidate import Candidate
    from churn_assets.training.select import Choice

POINTS = 400  # of a curve that is drawn 500 pixels wide


def choice_plots(
    choice: "Choice",
    candidates: Sequence["Candidate"],
    features: pa.Table,
    splits: pa.Table,
) -> dict[str, bytes]:
    """PNGs by name: candidates, chosen model at random and out of time, calibration."""
    from churn_assets.evaluation.calibration import calibration_bins
    from churn_assets.training.split import read_split

    split = read_split(splits, "random")
    assert split is not None  # only the split by time may be absent
    label = features["churned"].to_numpy()[split.validation]
    curves = {c.name: recall_precision(label, c.fitted["random"].validation_margin) for c in candidates}
    churned, probability = choice.test["random"]
    tested = {name.replace("_", " "): recall_precision(*scored) for name, scored in choice.test.items()}
    said, came, _ = calibration_bins(churned, probability)
    return {
        "candidates": plots.precision_recall(curves, float(label.mean()), "candidates, validation rows"),
        "precision_and_recall": plots.precision_recall(tested, float(churned.mean()), f"{choice.name}, test rows"),
        "calibration": plots.calibration(said.tolist(), came.tolist(), f"{choice.name}, test rows"),
    }


def profit_plots(profit: Mapping[str, Any]) -> dict[str, bytes]:
    """PNGs by name from a card's `profit`: the curve with its interval, and what the assumptions move."""
    share, value, low, high = (
        [row[key] for row in profit["curve"]] for key in ("contacted_share", "profit", "low", "high")
    )
    swings = {row["assumption"].replace("_", " "): (row["profit_low"], row["profit_high"]) for row in profit["tornado"]}
    return {
        "profit": plots.profit(share, value, low, high, profit["chosen"]["contacted_share"]),
        "profit_assumptions": plots.tornado(
            swings, profit["chosen"]["profit"], "one assumption halved, or half again as large"
        ),
    }


def recall_precision(churned: Any, score: Any) -> plots.Curve:
    """Recall and precision at each cut of the ranking, thinned for drawing."""
    curves = Curves.of(churned, score)
    points = evenly_spaced(curves.recall, POINTS)
    return curves.recall[points].tolist(), curves.precision[points].tolist()

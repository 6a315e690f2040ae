"""Why a customer's score is high: the few columns that raise it most, in the contract's words.

Contributions are Shapley values of the features (`contributions`), summed by topic: a column together
with the features that belong to it (`contract.wording.topics`), so that five features made of one column
are one reason. Within a topic the feature that raises the score most is the one that speaks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from churn_assets.contract.wording import Typical, Wording, topics
from churn_assets.errors import BundleMismatch
from churn_assets.features.compile import FeatureSpec
from churn_assets.features.encode import Columns, encode_table
from churn_assets.scoring.explain.shapley import Contributions, contributions, is_exact, reference
from churn_assets.scoring.models.base import Model
from churn_assets.scoring.scorer import AsOf, Scorer, days

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[np.float64]
REASONS = 3
_CHUNK = 4096


@dataclass(frozen=True)
class Reason:
    """One topic that raises a customer's log-odds by `contribution` (> 0), said by its `feature`."""

    topic: str
    feature: str
    words: str
    contribution: float


def background(model: Model, specs: Sequence[FeatureSpec], matrix: npt.NDArray[np.float32]) -> dict[str, Any]:
    """What explaining needs of the training rows (n, k), as JSON: it goes into the bundle."""
    typical = {}
    for j, spec in enumerate(specs):
        present = matrix[:, j][np.isfinite(matrix[:, j])].astype(np.float64)
        if len(present):
            usual = np.bincount(present.astype(np.int64)).argmax() if spec.kind == "category" else np.median(present)
            typical[spec.name] = [float(usual), float(present.mean())]
    return {"typical": typical, "reference": reference(model, matrix)}


class Explainer:
    """Explains the scores of one Scorer; made once, safe to call from any thread.

    Raises BundleMismatch for a scorer of a bundle without `explain.json`.
    """

    def __init__(self, scorer: Scorer) -> None:
        known: Mapping[str, Any] = scorer.background
        if not known:
            raise BundleMismatch(
                f"bundle {scorer.version or 'in memory'}: has no explain.json, expected one for giving reasons; "
                "it was made before reasons were: train again and promote the new model"
            )
        self.scorer = scorer
        self._reference = known["reference"]
        self._typical = {name: Typical(*pair) for name, pair in known["typical"].items()}
        self._wording = Wording(scorer.contract)
        of_name = topics(scorer.contract)
        self.exact = is_exact(scorer.model)
        self.topics = tuple(dict.fromkeys(of_name.values()))
        self._members = [
            np.array([j for j, name in enumerate(scorer.program.names) if of_name[name] == topic], dtype=np.intp)
            for topic in self.topics
        ]

    def contributions(self, matrix: npt.NDArray[np.float32]) -> Contributions:
        """Contributions of the features of rows (n, k)."""
        return contributions(self.scorer.model, matrix, self._reference, [m.tolist() for m in self._members])

    def by_topic(self, values: Array) -> Array:
        """Contributions (n, k) of features, summed by topic: (n, topics)."""
        parts = [values[:, members].sum(axis=1) for members in self._members]
        return np.stack(parts, axis=1) if parts else np.zeros((len(values), 0))

    def explain(self, columns: Columns, as_of: AsOf, count: int = REASONS) -> list[tuple[Reason, ...]]:
        """Up to `count` reasons for each row, the strongest first; fewer where fewer topics raise the score."""
        matrix = self.scorer.program(columns, days(as_of))
        found: list[tuple[Reason, ...]] = []
        for start in range(0, len(matrix), _CHUNK):
            part = matrix[start : start + _CHUNK]
            values = self.contributions(part).values
            found += [self._reasons(*row, count) for row in zip(part, values, self.by_topic(values), strict=True)]
        return found

    def explain_table(self, table: pa.Table, as_of: AsOf, count: int = REASONS) -> list[tuple[Reason, ...]]:
        """The same for a typed table, in its order."""
        wanted = [column.name for column in self.scorer.contract.scoring_columns]
        return self.explain(encode_table(self.scorer.contract, table.select(wanted)), as_of, count)

    def _reasons(self, row: npt.NDArray[np.float32], values: Array, totals: Array, count: int) -> tuple[Reason, ...]:
        strongest = [t for t in np.argsort(-totals, kind="stable")[:count] if totals[t] > 0.0]
        return tuple(self._reason(row, values, int(t), float(totals[t])) for t in strongest)

    def _reason(self, row: npt.NDArray[np.float32], values: Array, topic: int, total: float) -> Reason:
        members = self._members[topic]
        speaks = int(members[np.argmax(values[members])])
        name = self.scorer.program.names[speaks]
        words = self._wording.say(name, float(row[speaks]), self._typical.get(name))
        return Reason(self.topics[topic], name, words, total)

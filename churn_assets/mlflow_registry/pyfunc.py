"""The bundle as an MLflow model, saved as code: nothing is pickled.

MLflow runs this file to make the model, so that `mlflow models serve` and our own service answer with
the same Scorer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd  # MLflow reads the hint of `predict` at run time, and has imported pandas itself
from mlflow.pyfunc import PythonModel

if TYPE_CHECKING:
    from churn_assets.scoring.scorer import Scorer

AS_OF = "as_of"


class ChurnModel(PythonModel):  # type: ignore[misc]  # mlflow has no types
    """Scores a data frame with the contract's columns, and optionally the parameter `as_of`."""

    scorer: Scorer

    def load_context(self, context: Any) -> None:
        """Load and verify the bundle; MLflow gives its folder as the artifact `bundle`."""
        from churn_assets.scoring.bundle import load_bundle

        self.scorer = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> list[float]:
        """Churn probability of each row; `params["as_of"]` is an ISO date, the day the columns were true, by default
        today (UTC). Raises RowsRejected with row, column, found and expected."""
        as_of = (params or {}).get(AS_OF) or datetime.now(UTC).date().isoformat()
        rows: Sequence[Mapping[str, object]] = [
            {str(name): plain(cell) for name, cell in row.items()} for row in model_input.to_dict(orient="records")
        ]
        return [float(p) for p in self.scorer.score_rows(rows, as_of).probability]


def plain(cell: object) -> object:
    """A data frame's cell as JSON would have it: missing (None, NaN, NaT, NA) is None, NumPy scalars are Python's."""
    if isinstance(cell, np.datetime64):
        cell = pd.Timestamp(cell)
    value = cell.item() if isinstance(cell, np.generic) else cell
    return None if value is None or value is pd.NA or value != value else value


# MLflow runs the file under a name of its own; imported as a module of this package, it declares nothing.
if __name__ != "churn_assets.mlflow_registry.pyfunc":
    from mlflow.models import set_model

    set_model(ChurnModel())

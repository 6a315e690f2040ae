"""Predictions of a batch as rows of the prediction log, for `churn score --log`."""

from __future__ import annotations

import datetime as dt
import os

from churn_assets.prediction_log.records import Prediction, encode_line
from churn_assets.prediction_log.segment import Segment
from churn_assets.scoring.batch.passes import Part
from churn_assets.scoring.scorer import Scorer

BATCH = "batch"  # arm and policy of what no request asked for


class BatchLog:
    """Puts each batch on disk as it is scored; `close` hands the segment over. Raises LogUnavailable."""

    def __init__(self, scorer: Scorer, segment: Segment) -> None:
        self._scorer, self._segment = scorer, segment
        self._run = os.urandom(8).hex()
        self.rows = 0

    def __call__(self, part: Part) -> None:
        """Log a batch; its customers are as they were after repair."""
        contract, threshold = self._scorer.contract, self._scorer.thresholds.value
        key, now = contract.key.name, dt.datetime.now(dt.UTC).isoformat()
        lines = []
        answers = part.scored.select(["customer_id", "churn_probability", "risk_band", "as_of"]).to_pylist()
        for customer, answer in zip(part.checked.customers.to_pylist(), answers, strict=True):
            row = Prediction(
                prediction_id=os.urandom(12).hex(),
                request_id=self._run,
                customer_id=answer["customer_id"],
                as_of=answer["as_of"].isoformat(),
                scored_at=now,
                score=answer["churn_probability"],
                margin=None,
                decision=answer["churn_probability"] >= threshold,
                threshold=threshold,
                risk_band=answer["risk_band"],
                model_version=self._scorer.version,
                contract=contract.name,
                fingerprint=contract.fingerprint,
                arm=BATCH,
                policy=BATCH,
                status="ok",
                latency_us=None,
                warnings=[],
                features={name: cell for name, cell in customer.items() if name != key},
            )
            lines.append(encode_line(row))
        if lines:
            self._segment.append(b"".join(lines))
        self.rows += len(lines)

    def close(self) -> None:
        """Hand the segment over."""
        self._segment.hand_over()

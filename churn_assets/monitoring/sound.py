"""Labelled predictions that may be learnt from and judged by: not those of a window whose data was broken.

Their labels are true and their columns are not: a model that learns from them learns the fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from churn_assets.monitoring.windows import QUALITY_JSON, read_report, read_windows
from churn_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

BROKEN = "broken"


def sound_rows(settings: Settings, fingerprint: str, labelled: pa.Table) -> tuple[pa.Table, int]:
    """The rows of `labelled_predictions` that lie in no broken window of a contract, and how many do.

    A window that was not judged is not held to be broken. Raises WindowUnreadable.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    spans = [
        (window.from_seq, window.to_seq)
        for window in read_windows(settings, fingerprint)
        if (read_report(settings, window, QUALITY_JSON) or {}).get("status") == BROKEN
    ]
    theirs = pc.equal(labelled["fingerprint"], fingerprint).to_numpy().astype(bool)
    keep = outside(labelled["seq"].to_numpy(), spans) | ~theirs
    return labelled.filter(pa.array(keep)), int(np.sum(~keep))


def outside(seq: npt.NDArray[np.int64], spans: Iterable[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """True (n,) for rows of the log that lie in none of these stretches, both ends included."""
    keep = np.ones(len(seq), dtype=np.bool_)
    for first, last in spans:
        keep &= (seq < first) | (seq > last)
    return keep

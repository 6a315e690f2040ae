"""The kernel two-sample test: maximum mean discrepancy with a permutation p-value (Gretton et al., JMLR 2012).

It asks what the domain classifier asks, whether window and reference are of one distribution, by the distance of their
means in the feature space of a Gaussian kernel. The width is the median distance of the pooled rows, as in that paper.
Numbers are normal scores of their ranks in the reference, so that no unit decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from churn_assets.contract.model import Kind
from churn_assets.monitoring.drift.multivariate import encode
from churn_assets.monitoring.faults.basis import fit_basis

if TYPE_CHECKING:
    import pyarrow as pa

ROWS, PERMUTATIONS = 1000, 1000
_FEWEST = 100
_NUMBERS = frozenset({Kind.NUMBER, Kind.INTEGER})


@dataclass(frozen=True)
class KernelTest:
    """The biased estimate of the squared discrepancy, its permutation `p_value`, and `rows` of both sides.

    None where it was not computed, and `message` says why. The least p-value is 1 / (permutations + 1).
    """

    message: str
    mmd2: float | None = None
    p_value: float | None = None
    rows: int = 0


def kernel_test(
    reference: pa.Table,
    current: pa.Table,
    kinds: Mapping[str, Kind],
    *,
    rows: int = ROWS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> KernelTest:
    """Test two samples on the columns of `kinds` that both have, on at most `rows` rows a side."""
    shared = {n: k for n, k in kinds.items() if n in reference.column_names and n in current.column_names}
    if not shared or min(reference.num_rows, current.num_rows) < _FEWEST:
        return KernelTest(f"not computed: fewer than {_FEWEST} rows on one side, or no column on both")
    random = np.random.default_rng(seed)
    both = encode(reference, current, shared)
    sides = [
        side[np.sort(random.permutation(len(side))[:rows])]
        for side in (both[: reference.num_rows], both[reference.num_rows :])
    ]
    basis = fit_basis(both[: reference.num_rows], [kind in _NUMBERS for kind in shared.values()], simple=True)
    pooled, first = basis.of(np.vstack(sides)), len(sides[0])
    squares = np.sum(pooled**2, axis=1)
    distances = np.maximum(squares[:, None] + squares - 2.0 * pooled @ pooled.T, 0.0)
    width = float(np.median(distances[np.triu_indices(len(pooled), 1)])) or 1.0
    kernel = np.exp(-distances / width)
    # Each column is a labelling of the rows: 1 / n for one side, -1 / m for the other; the first is the real one.
    labels = np.where(np.arange(len(pooled)) < first, 1.0 / first, -1.0 / (len(pooled) - first))
    labellings = np.column_stack([labels, *(random.permutation(labels) for _ in range(permutations))])
    statistics = np.sum(labellings * (kernel @ labellings), axis=0)
    p_value = float(np.mean(statistics >= statistics[0] - 1e-12))
    verdict = "differ" if p_value <= 0.01 else "do not differ"
    message = (
        f"window and reference {verdict} by the kernel test: MMD2 {statistics[0]:.2g}, p {p_value:.2g} "
        f"({permutations:,} permutations, {len(pooled):,} rows)"
    )
    return KernelTest(message, float(statistics[0]), p_value, len(pooled))

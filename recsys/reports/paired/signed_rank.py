"""Wilcoxon's signed-rank test of paired differences, and Holm's correction for several tests.

References: Wilcoxon, Biometrics Bulletin 1945; Holm, Scandinavian Journal of Statistics 1979;
Smucker, Allan and Carterette, CIKM 2007, on tests of retrieval figures.
Shape legend: U users, T tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import Float64
from recsys.extras import extra


def signed_rank(differences: Float64) -> float:
    """The two-sided p-value: how often ranks of differences `[U]` lie so, were there none.

    Users without a difference are left out, as Wilcoxon did; where no user has one, it is 1.

    Raises:
        InstallationError: scipy is not installed.
    """
    found = differences[differences != 0]
    if not len(found):
        return 1.0
    with extra("train", "Wilcoxon's signed-rank test"):
        from scipy.stats import wilcoxon
    return float(wilcoxon(found).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values `[T]` of tests that are read together, so that the chance of any false find is kept.

    The smallest is multiplied by T, the next by T - 1, and so on; none falls below one before it.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(values[order] * factors).clip(max=1)
    return [float(value) for value in adjusted]

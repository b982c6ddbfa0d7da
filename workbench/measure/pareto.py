"""The Pareto front of measured settings: those that no other setting beats in both figures at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pareto_front(x: ArrayLike, y: ArrayLike, *, higher: tuple[bool, bool] = (False, True)) -> NDArray[np.int64]:
    """Return the indices of the front's settings, by rising ``x``.

    ``x`` and ``y`` ``(n,)`` are two figures of each setting; ``higher`` says of each whether more is
    better. Of settings equal in both figures only the first is named, and one whose figure is NaN is
    never on the front.

    >>> pareto_front([40, 30, 50, 30], [0.90, 0.80, 0.85, 0.80]).tolist()
    [1, 0]
    """
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    known = np.flatnonzero(np.isfinite(first) & np.isfinite(second))
    cost = np.where(higher[0], -first, first)[known], np.where(higher[1], -second, second)[known]
    order = np.lexsort((cost[1], cost[0]))  # stable: of equal settings the first stays first
    best = np.minimum.accumulate(cost[1][order])
    better = np.r_[True, cost[1][order][1:] < best[:-1]] if len(order) else np.zeros(0, bool)
    front = known[order[better]]
    return np.asarray(front[np.argsort(first[front], kind="stable")], np.int64)

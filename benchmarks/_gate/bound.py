"""What no test can exceed: an upper bound on the power of any sequential test of one edit.

Let a test see up to N paired items, each better (u), worse (d) or equal; let it accept a null edit (q, q) with probability at
most `level` and use at most `null_items` items on average on the null edit (.1, .1). Then for all lambda, mu >= 0

    power <= V(lambda, mu) + lambda * level + mu * null_items,
    V = sup over all stopping rules of  P_real(accept) - lambda * P_q(accept) - mu * E_null[items]

(weak duality). V is an optimal stopping problem on the counts of better and worse items, solved backwards exactly. Any lambda
and mu give a valid bound; the search only tightens it. q = .1475 is about the symmetric null that is hardest to tell from (.2, .1).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

HARDEST_NULL = 0.1475


def power_bound(
    level: float,
    null_items: float,
    *,
    items: int = 350,
    real: tuple[float, float] = (0.20, 0.10),
    null: tuple[float, float] = (0.10, 0.10),
) -> float:
    """The bound for one test at `level` (a probability), in [0, 1]. About half a minute."""

    def bound(log_lambda: float, log_mu: float) -> float:
        lam, mu = math.exp(log_lambda), math.exp(log_mu)
        return _value(lam, mu, items, real, null) + lam * level + mu * null_items

    return _lowest(bound, (-math.log(15 * level), math.log(9e-4)))


def _value(lam: float, mu: float, items: int, real: tuple[float, float], null: tuple[float, float]) -> float:
    """V(lambda, mu): probabilities of single paths, not of counts, so that each step back is a sum over the three next items."""
    values: NDArray[np.float64] = np.zeros(0)
    for n in range(items, -1, -1):
        accepted = np.maximum(_path(n, *real) - lam * _path(n, HARDEST_NULL, HARDEST_NULL), 0.0)
        if n == items:
            values = accepted
            continue
        going_on = values[1:, :-1] + values[:-1, 1:] + values[:-1, :-1] - mu * _path(n, *null)
        values = np.maximum(accepted, going_on) if n else going_on
        better, worse = np.ogrid[: n + 1, : n + 1]
        values = np.where(better + worse <= n, values, 0.0)
    return float(values[0, 0])


def _path(n: int, up: float, down: float) -> NDArray[np.float64]:
    """P(one path of n items with so many better and worse), shape (n + 1, n + 1); 0 where there are more than n."""
    better, worse = np.ogrid[: n + 1, : n + 1]
    equal = n - better - worse
    logs = better * math.log(up) + worse * math.log(down) + np.maximum(equal, 0) * math.log(1 - up - down)
    return np.where(equal >= 0, np.exp(logs), 0.0)


def _lowest(bound: Callable[[float, float], float], start: tuple[float, float]) -> float:
    """A pattern search: steps along each axis, halved where none helps."""
    place, best, step = list(start), bound(*start), 0.4
    while step > 0.04:
        moved = False
        for axis in (0, 1):
            for sign in (1, -1):
                tried = list(place)
                tried[axis] += sign * step
                value = bound(tried[0], tried[1])
                if value < best - 1e-5:
                    place, best, moved = tried, value, True
        step = step if moved else step / 2
    return best

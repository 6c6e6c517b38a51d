"""The sums over units that all estimates are made of: no more than eleven numbers an arm, a metric and a look.

A unit's values are x (the metric's numerator), y (its denominator) and c (the same unit before the experiment, for
CUPED). Arrays carry any leading axes: arms, looks, simulated runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

COLUMNS = ("n", "active", "x", "y", "c", "xx", "yy", "cc", "xy", "xc", "yc")
_AT = {name: number for number, name in enumerate(COLUMNS)}


def _each(x: Array, y: Array, c: Array) -> Iterator[Array]:
    yield np.ones_like(x)
    yield (x != 0).astype(np.float64)
    yield from (x, y, c)
    for one, other in ((x, x), (y, y), (c, c), (x, y), (x, c), (y, c)):
        yield one * other


def terms(x: Array, y: Array, c: Array) -> Array:
    """What each unit adds to the sums: (..., 11) from values of any one shape."""
    return np.stack(list(_each(x, y, c)), axis=-1)


@dataclass(frozen=True)
class Moments:
    """Sums (..., 11) in the order of `COLUMNS`."""

    sums: Array

    @classmethod
    def of(cls, x: Array, y: Array | None = None, c: Array | None = None) -> Moments:
        """From the values of units, along the last axis; y is 1 and c is 0 where not given."""
        y = np.ones_like(x) if y is None else y
        c = np.zeros_like(x) if c is None else np.broadcast_to(c, x.shape)
        return cls(np.stack([term.sum(axis=-1) for term in _each(x, y, c)], axis=-1))

    def total(self, name: str) -> Array:
        """One of the sums."""
        return self.sums[..., _AT[name]]

    def mean(self, name: str) -> Array:
        """Mean over units of x, y or c."""
        return self.total(name) / self.total("n")

    def covariance(self, one: str, other: str) -> Array:
        """Sample covariance over units, of n - 1 degrees of freedom."""
        n = self.total("n")
        product = self.total(one + other) if one + other in _AT else self.total(other + one)
        return (product - self.total(one) * self.total(other) / n) / np.maximum(n - 1, 1)

    @property
    def rate(self) -> Array:
        """The metric: sum of x over sum of y."""
        return self.total("x") / self.total("y")

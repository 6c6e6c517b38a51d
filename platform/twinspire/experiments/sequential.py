"""Intervals and p-values that hold at every look, so that looking early, and stopping on what is seen, is safe.

The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021, "Time-uniform central limit
theory and asymptotic confidence sequences", theorem 2.2), whose p-value is that of the mixture sequential test of
Johari, Pekelis and Walsh (2015, "Always valid inference"). Its clock is the variance gathered so far, not the count of
units: units that come back add to what is known without being new. Values of one unit on several days go together,
which makes looks more alike than the theorem supposes, so that errors become rarer (Slepian's inequality).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from twinspire.experiments.moments import Array

ALPHA = 0.05


def narrowest_at(alpha: float = ALPHA) -> float:
    """The time at which an interval of the sequence is narrowest, in units of its own scale (their equation 10)."""
    return float(-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1))


def times(clock: Array, planned: float) -> Array:
    """Scale a clock (..., looks) so that the sequence is narrowest when the experiment is planned to end.

    `planned` is how many times the first look's length the experiment is to last. The scale depends on the first look
    that has an estimate and on nothing later, as it must for the looks after it.
    """
    known = ~np.isnan(clock)
    first = np.argmax(known, axis=-1)[..., None]
    scale = np.take_along_axis(clock, first, -1)
    lasting = np.maximum(planned / (first + 1), 1.0)
    grown = np.fmax.accumulate(clock, axis=-1)
    return np.where(known, np.maximum(narrowest_at() * grown / (scale * lasting), 1e-9), np.nan)


def boundary(time: Array | float, alpha: float = ALPHA) -> Array:
    """How many standard errors wide each side of the interval is, at a time of `times`."""
    time = np.asarray(time, np.float64)
    return np.asarray(np.sqrt(2 * (time + 1) / time * (0.5 * np.log1p(time) - np.log(alpha))))


def p_value(z: Array, time: Array) -> Array:
    """Always valid, two-sided: below alpha exactly where |z| is beyond `boundary`."""
    exponent = 0.5 * np.log1p(time) - z**2 * time / (2 * (1 + time))
    return np.asarray(np.exp(np.minimum(exponent, 0.0)))


def growth_until_clear(z: float, time: float, alpha: float = ALPHA) -> float | None:
    """How many times as much must be seen until the interval leaves out zero, if the estimate stays; None if not soon.

    `z` is the estimate in standard errors, which grows with the root of what is seen.
    """
    growth = np.geomspace(1, 50, 500)
    clear = np.abs(z) * np.sqrt(growth) > boundary(time * growth, alpha)
    return float(growth[clear.argmax()]) if clear.any() else None

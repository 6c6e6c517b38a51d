"""Array types, random streams and the two draws that every part of the simulation uses."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Bools = NDArray[np.bool_]


def stream(seed: int, name: str, block: int = 0) -> np.random.Generator:
    """An independent random stream for one named part of the simulation (and one block of it)."""
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode()), block]))


def choose(rng: np.random.Generator, weights: NDArray[np.floating], size: int) -> Ints:
    """`size` draws of an index, with chances proportional to `weights` (n,)."""
    ends = np.cumsum(weights, dtype=np.float64)
    return search(ends, rng.random(size) * ends[-1])


def search(ends: Doubles, points: Doubles) -> Ints:
    """The index of the interval of the running sum `ends` that each point falls in."""
    found = np.searchsorted(ends, points, side="right")
    return np.minimum(found, len(ends) - 1).astype(np.int32)


def choose_rows(rng: np.random.Generator, weights: NDArray[np.floating]) -> Ints:
    """One draw a row of `weights` (n, m): the index chosen by the row's chances."""
    ends = np.cumsum(weights, axis=1)
    points = rng.random(len(weights))[:, None] * ends[:, -1:]
    found = (ends <= points).sum(axis=1)
    row: Ints = np.minimum(found, weights.shape[1] - 1).astype(np.int32)
    return row


def gumbel(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Gumbel noise: the largest of (log weight + noise) is a draw by weight."""
    uniform = rng.random(shape, dtype=np.float32)
    np.maximum(uniform, np.float32(1e-12), out=uniform)
    noise: Floats = -np.log(-np.log(uniform) + np.float32(1e-12))
    return noise

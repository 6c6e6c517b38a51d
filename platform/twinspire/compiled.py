"""Compiled loops: `@compiled` is Numba's njit without the GIL, its machine code kept on disk for the next process.

Numba's cache is not made for processes that compile at the same time, as workers and replicas of a first start do: two
that save different signatures of a function choose the same file, and the index of the one may name the code of the
other. Here saving waits its turn, and the index names only what is written.
"""

from __future__ import annotations

import fcntl
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numba
from numba.core.caching import IndexDataCacheFile

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")


@overload
def compiled(function: Function, /) -> Function: ...
@overload
def compiled(**options: Any) -> Callable[[Function], Function]: ...
def compiled(function: Function | None = None, /, **options: Any) -> Any:
    """`@compiled`, or `@compiled(fastmath=True)` and whatever else njit takes."""
    made = numba.njit(**{"cache": True, "nogil": True} | options)
    return made if function is None else made(function)


def _save(self: Any, key: Any, data: Any) -> None:
    """In place of numba's own method."""
    with Path(f"{self._index_path}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        overloads = self._load_index()
        taken = set(overloads.values())
        free = (name for number in itertools.count(1) if (name := self._data_name(number)) not in taken)
        name = overloads.get(key) or next(free)
        self._save_data(name, data)
        self._save_index({**overloads, key: name})


IndexDataCacheFile.save = _save

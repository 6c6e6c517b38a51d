"""Processes that compile the same functions at once leave a cache in which each signature has its own code."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from numba.core.caching import IndexDataCacheFile

import twinspire.compiled  # noqa: F401 - which changes how it saves

MODULE = """
import numpy as np
from twinspire.compiled import compiled

@compiled
def double(values):
    return values + values
"""
# Each process compiles other signatures first, all at the same moment.
ASK = """
import sys, time
import numpy as np
from kept import double
kinds = [np.int8, np.int16, np.int32, np.int64, np.float32, np.float64]
first = int(sys.argv[1])
time.sleep(max(0, float(sys.argv[2]) - time.time()))
for kind in kinds[first:] + kinds[:first]:
    found = double(np.arange(5, dtype=kind))
    assert found.dtype == kind and found.tolist() == [0, 2, 4, 6, 8], (kind, found)
print(sum(double.stats.cache_hits.values()))
"""


class Slow(IndexDataCacheFile):
    """Others have time to look at the index before this one has written it."""

    def _load_index(self):
        found = super()._load_index()
        time.sleep(0.2)
        return found


def test_two_that_save_at_once_do_not_take_the_same_file(tmp_path: Path) -> None:
    cache = [Slow(str(tmp_path), "double", "stamp") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: cache[n].save(("signature", n), f"code {n}"), range(2)))
    assert [cache[0].load(("signature", n)) for n in range(2)] == ["code 0", "code 1"]
    cache[0].save(("signature", 0), "the same again")
    assert [cache[1].load(("signature", n)) for n in range(2)] == ["the same again", "code 1"]


def test_a_cache_that_many_fill_at_once_is_whole(tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text(MODULE)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}

    def start(number: int, at: float) -> subprocess.Popen:
        command = [sys.executable, "-c", ASK, str(number), str(at)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    moment = time.time() + 3
    for process in [start(number, moment) for number in range(6)]:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    out, error = start(0, 0).communicate(timeout=120)
    assert out.strip() == "6", f"all six signatures are in the cache: {out} {error}"

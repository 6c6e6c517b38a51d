"""The limit: encode and search in a loop, one thread: `python -m benchmarks.over_http.bare BUNDLE BODIES K ...`.

Prints queries a second at each batch size as JSON.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import faiss
import orjson
import torch

from serving.schema import SearchRequest
from serving.service import to_shopper
from twinspire.bundle import Bundle
from twinspire.features.query import Query

if TYPE_CHECKING:
    from collections.abc import Sequence


def measure(bundle: Path, bodies: Path, k: int, batches: Sequence[int], seconds: float) -> dict[int, float]:
    """Queries a second at each batch size, in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, str(bundle), str(bodies), str(k), str(seconds), *map(str, batches)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {int(batch): speed for batch, speed in json.loads(told.splitlines()[-1]).items()}


def main(folder: str, bodies: str, k: int, seconds: float, batches: list[int]) -> None:
    """Measure each batch size in turn."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    bundle = Bundle.load(folder, verify=False)
    asked = [SearchRequest.model_validate_json(line) for line in Path(bodies).read_bytes().splitlines()]
    queries = [Query(request.query, to_shopper(request.user)) for request in asked]
    figures = {batch: _speed(bundle, queries, k, batch, seconds) for batch in batches}
    print(orjson.dumps(figures, option=orjson.OPT_NON_STR_KEYS).decode())


def _speed(bundle: Bundle, queries: list[Query], k: int, batch: int, seconds: float) -> float:
    endless = itertools.cycle(queries)
    for _ in range(20):
        bundle.search(list(itertools.islice(endless, batch)), k)
    started = time.perf_counter()
    answered = 0
    while time.perf_counter() - started < seconds:
        bundle.search(list(itertools.islice(endless, batch)), k)
        answered += batch
    return answered / (time.perf_counter() - started)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), [int(batch) for batch in sys.argv[5:]])

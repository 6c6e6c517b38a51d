"""Indexes on a GPU: `python -m benchmarks.gpu --items 15000000 --items 1000000`.

Build time, memory, latency and queries a second of IVF-PQ and CAGRA, tuned to recall@100 of 0.95, and of all vectors in
half precision, at 64 dimensions; recall against exact search on the same GPU, on queries that the tuning did not see.
Queries are on the GPU, as a query tower leaves them, and rows and scores end in the host's memory. The paper (Table 6)
has for 15 million items on a P40: build 499 s, 0.74 ms, 1,422 queries a second.

Vectors are a bundle's (`--bundle`, the first of them) or drawn around centres, which is harder than learnt ones. CAGRA
needs twinspire[gpu-cuvs].
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
import faiss
import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report
from twinspire.errors import TwinspireError
from twinspire.index import gpu
from twinspire.index.families import CAGRA, at_size, new_index, trained
from twinspire.index.on_device import DeviceIndex
from twinspire.index.tune import BLOCK_ROWS, recall_at, tune
from twinspire.index.vectors import VectorIndex
from twinspire.index.whole import WholeCatalogue

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

K = 100
TARGET = 0.95
ALONE = 1000  # queries asked one by one
BATCHES = (16, 64, 256, 1024)
SECONDS = 3.0  # of each batch size
CENTRES = 20_000
SPREAD = 0.6  # of a vector around its centre, whose length is 1
WHOLE = "exact, half precision"


def drawn(count: int, queries: int, dim: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Unit vectors of items (n, D) and queries (Q, D) around common centres, some with more items than others."""
    rng = np.random.default_rng(seed)
    centres = _unit(rng.standard_normal((min(CENTRES, max(count // 50, 1)), dim), np.float32))
    shares = 1 / np.arange(1, len(centres) + 1) ** 0.5

    def around(size: int) -> Floats:
        parts = []
        for first in range(0, size, BLOCK_ROWS):
            rows = rng.choice(len(centres), min(BLOCK_ROWS, size - first), p=shares / shares.sum())
            noise = rng.standard_normal((len(rows), dim), np.float32)
            parts.append(_unit(centres[rows] + np.float32(SPREAD * dim**-0.5) * noise))
        return np.concatenate(parts)

    return around(count), around(queries)


def kinds(device: torch.device) -> list[str]:
    """What can be built here."""
    return ["IVF-PQ", *([CAGRA] if device.type == "cuda" and hasattr(faiss, "GpuIndexCagra") else []), WHOLE]


def built(kind: str, vectors: Floats, device: torch.device) -> tuple[Any, str]:
    """An index of all vectors on the device, and its factory string."""
    count, dim = vectors.shape
    factory = CAGRA if kind == CAGRA else at_size(f"IVF{{lists}},PQ{gpu.code_bytes(dim)}", count, "cuda")
    index = trained(new_index(factory, dim, device.type), vectors)
    for first in range(index.ntotal, count, BLOCK_ROWS):
        index.add(vectors[first : first + BLOCK_ROWS])
    return index, factory


def figures(kind: str, vectors: Floats, queries: Floats, device: torch.device, seconds: float) -> dict[str, Any]:
    """Build one kind, tune it on half of the queries (Q, D), measure it with the others."""
    truth = exact(vectors, queries, device)
    half, free = len(queries) // 2, gpu.free_bytes(device)
    started = time.perf_counter()
    if kind == WHOLE:
        index, factory = faiss.IndexFlatIP(vectors.shape[1]), "Flat"
        index.add(vectors)
        started = time.perf_counter()  # from the host's memory to the device's
        searched = DeviceIndex(VectorIndex(index, "", vectors), device, gpu.Placement(False, torch.float16, 0))
        took = time.perf_counter() - started
    else:
        index, factory = built(kind, vectors, device)
        took = time.perf_counter() - started
        tuned, _ = tune(index, factory, vectors, queries[:half, None], truth[:half], TARGET)
        searched = DeviceIndex(tuned, device, gpu.Placement(True, None, 0))
    asked = torch.from_numpy(queries[half:, None]).to(device)
    found = np.concatenate([searched.search(part, K)[1] for part in batches(asked, 64)])
    return {
        "kind": kind,
        "items": len(vectors),
        "factory": factory,
        "parameters": searched.parameters,
        "build_s": round(took, 1),
        "gib": round((free - gpu.free_bytes(device)) / gpu.GIB, 2),
        "recall_at_100": round(recall_at(found, truth[half:]), 4),
        "alone_ms": alone(searched, asked),
        "queries_a_second": {str(size): rate(searched, asked, size, seconds) for size in BATCHES},
    }


def exact(vectors: Floats, queries: Floats, device: torch.device) -> NDArray[np.int64]:
    """Rows (Q, K) of the best items."""
    whole = WholeCatalogue(vectors, device, torch.float32)
    parts = batches(torch.from_numpy(queries).to(device), 64)
    return np.concatenate([whole.search(part, min(K, len(vectors)))[1].cpu().numpy() for part in parts])


def batches(queries: torch.Tensor, size: int) -> list[torch.Tensor]:
    """`size` queries at once, the last of them perhaps fewer."""
    return [queries[first : first + size] for first in range(0, len(queries), size)]


def alone(searched: VectorIndex, queries: torch.Tensor) -> dict[str, float]:
    """Milliseconds of queries (Q, 1, D) that come one by one."""
    for query in batches(queries[:10], 1):
        searched.search(query, K)
    times = []
    for place in range(ALONE):
        query = queries[place % len(queries)][None]
        started = time.perf_counter()
        searched.search(query, K)
        times.append((time.perf_counter() - started) * 1000)
    return {f"p{share}": round(float(np.percentile(times, share)), 3) for share in (50, 99)}


def rate(searched: VectorIndex, queries: torch.Tensor, size: int, seconds: float) -> float:
    """Queries a second in batches of `size`, for `seconds`."""
    batch = queries[torch.arange(size, device=queries.device) % len(queries)]
    searched.search(batch, K)
    started, asked = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds or asked == 0:
        searched.search(batch, K)
        asked += size
    return round(asked / passed, 1) if passed else 0.0


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """As a table."""
    table = Table("items", "index", "recall@100", "build s", "GPU GiB", "alone ms p50", "p99", box=box.SIMPLE)
    for size in BATCHES:
        table.add_column(f"q/s, batch {size}", justify="right")
    for row in rows:
        rates = [f"{row['queries_a_second'][str(size)]:,.0f}" for size in BATCHES]
        told = (f"{row['recall_at_100']:.3f}", f"{row['build_s']:,.1f}", f"{row['gib']:.2f}")
        times = (f"{row['alone_ms']['p50']:.2f}", f"{row['alone_ms']['p99']:.2f}")
        table.add_row(f"{row['items']:,}", row["kind"], *told, *times, *rates)
    console.print(table)
    console.print("paper, 15 million items on a P40: build 499 s, 0.74 ms, 1,422 queries a second")


def _unit(vectors: Floats) -> Floats:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@click.command()
@click.option("--items", multiple=True, default=(1_000_000,), type=click.IntRange(1000), help="Repeatable.")
@click.option("--queries", default=2000, show_default=True, type=click.IntRange(100))
@click.option("--dim", default=64, show_default=True, type=click.IntRange(2), help="Of drawn vectors.")
@click.option("--bundle", help="Take its vectors, of items and of its most frequent queries, in place of drawn ones.")
@click.option("--seconds", default=SECONDS, show_default=True, help="Of each batch size.")
def main(items: tuple[int, ...], queries: int, dim: int, bundle: str | None, seconds: float) -> None:
    """Measure indexes on this machine's first GPU."""
    try:
        gpu.require_faiss()
    except TwinspireError as error:
        raise click.ClickException(str(error)) from None
    device, console, rows = torch.device("cuda"), Console(), []
    for count in items:
        vectors, asked = _of_bundle(bundle, count, queries) if bundle else drawn(count, queries, dim)
        for kind in kinds(device):
            rows.append(figures(kind, vectors, asked, device, seconds))
            show(rows[-1:], console)
    told = {"gpu": torch.cuda.get_device_name(device), "vectors": "learnt" if bundle else "drawn", "rows": rows}
    console.print(report.write("gpu", told))
    show(rows, console)


def _of_bundle(folder: str, count: int, queries: int) -> tuple[Floats, Floats]:
    from twinspire.bundle import Bundle, frequent_queries
    from twinspire.features.query import Query

    bundle = Bundle.load(folder, verify=False)
    texts = frequent_queries(bundle.folder).head(queries).to_list()
    parts = [bundle.embed([Query(text) for text in texts[at : at + 512]])[:, 0] for at in range(0, len(texts), 512)]
    return np.ascontiguousarray(bundle.item_vectors[:count]), np.concatenate(parts)


if __name__ == "__main__":
    main()

"""The search alone against hnswlib, usearch, LanceDB and Milvus Lite: `python -m benchmarks.libraries --bundle BUNDLE`.

The same vectors, a bundle's; the same queries, of its log, of which half are looked at to choose each system's search
parameters (the cheapest with recall@100 of at least 0.95 on them) and half are measured; one thread, each system in a
process of its own, one after the other, and round after round. A query alone is what a shopper waits for; queries in
batches of 64 are what a loaded server does. Needs `pip install 'twinspire[bench]'`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

K = 100
TARGET = 0.95
BATCH = 64
ALONE = 500  # queries asked one by one


class System(Protocol):
    """A library: built from item vectors (n, D), searched with queries (Q, D) at one of its `settings`."""

    settings: Sequence[Any]

    def __init__(self, vectors: Floats, folder: Path) -> None: ...
    def search(self, queries: Floats, setting: Any) -> NDArray[np.integer]:
        """Rows (Q, K)."""
        ...


class Twinspire:
    """A bundle's own index, as tuned when it was built."""

    settings: Sequence[Any] = ("tuned",)

    def __init__(self, vectors: Floats, folder: Path) -> None:
        from twinspire.bundle import Bundle

        self._index = Bundle.load(os.environ["BUNDLE"], verify=False).index.vectors

    def search(self, queries: Floats, setting: Any) -> NDArray[np.integer]:  # noqa: D102
        return self._index.search(queries[:, None], K)[1]


class Hnswlib:
    """HNSW over full vectors."""

    settings: Sequence[Any] = (100, 120, 150, 200, 300, 400, 600, 800)

    def __init__(self, vectors: Floats, folder: Path) -> None:
        import hnswlib

        self._index = hnswlib.Index("ip", vectors.shape[1])
        self._index.init_index(len(vectors), ef_construction=200, M=16)
        self._index.add_items(vectors, num_threads=os.cpu_count())

    def search(self, queries: Floats, setting: Any) -> NDArray[np.integer]:  # noqa: D102
        self._index.set_ef(setting)
        return np.asarray(self._index.knn_query(queries, K, num_threads=1)[0])


class Usearch:
    """HNSW over vectors of half precision."""

    settings: Sequence[Any] = (100, 128, 160, 200, 300, 400, 600, 800)

    def __init__(self, vectors: Floats, folder: Path) -> None:
        from usearch.index import Index

        self._index = Index(ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=16, expansion_add=128)
        self._index.add(np.arange(len(vectors)), vectors, threads=os.cpu_count() or 1)

    def search(self, queries: Floats, setting: Any) -> NDArray[np.integer]:  # noqa: D102
        self._index.expansion_search = setting
        return np.asarray(self._index.search(queries, K, threads=1).keys).reshape(len(queries), -1)


class LanceDb:
    """IVF + PQ on disk, refined; its searches use all cores."""

    settings: Sequence[Any] = tuple((probes, refine) for probes in (5, 10, 20, 40, 80) for refine in (2, 5, 10))

    def __init__(self, vectors: Floats, folder: Path) -> None:
        import lancedb
        import pyarrow as pa

        dim = vectors.shape[1]
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
        table = pa.table({"row": pa.array(np.arange(len(vectors))), "vector": column})
        self._table = lancedb.connect(folder).create_table("items", table)
        self._table.create_index(
            metric="dot", vector_column_name="vector", index_type="IVF_PQ", num_sub_vectors=dim // 4
        )

    def search(self, queries: Floats, setting: Any) -> NDArray[np.integer]:  # noqa: D102
        probes, refine = setting
        rows = np.full((len(queries), K), -1, np.int64)
        for row, query in zip(rows, queries, strict=True):
            asked = self._table.search(query).distance_type("dot").nprobes(probes).refine_factor(refine)
            found = asked.limit(K).select(["row"]).to_arrow()["row"].to_numpy()
            row[: len(found)] = found
        return rows


class MilvusLite:
    """HNSW in a server of its own inside the process; its searches use all cores."""

    settings: Sequence[Any] = (100, 150, 200, 300, 400, 600, 800)

    def __init__(self, vectors: Floats, folder: Path) -> None:
        from pymilvus import DataType, MilvusClient

        self._client = MilvusClient(str(folder / "milvus.db"))
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        index = self._client.prepare_index_params()
        how = {"M": 16, "efConstruction": 200}
        index.add_index("vector", index_type="HNSW", metric_type="IP", params=how)
        self._client.create_collection("items", schema=schema, index_params=index)
        for first in range(0, len(vectors), 10_000):
            part = vectors[first : first + 10_000]
            self._client.insert("items", [{"row": first + n, "vector": vector} for n, vector in enumerate(part)])
        self._client.flush("items")
        self._client.load_collection("items")

    def search(self, queries: Floats, setting: Any) -> NDArray[np.integer]:  # noqa: D102
        found = self._client.search("items", data=list(queries), limit=K, search_params={"params": {"ef": setting}})
        return np.array([[one["row"] for one in hits] + [-1] * (K - len(hits)) for hits in found])


SYSTEMS: dict[str, type[Any]] = {
    "twinspire": Twinspire,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "LanceDB": LanceDb,
    "Milvus Lite": MilvusLite,
}


def recall(found: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    return float(np.mean([np.isin(want, have).mean() for have, want in zip(found, truth, strict=True)]))


def run(name: str, data: Path, answers: Any) -> None:
    """In a process of its own: build, choose the setting, measure."""
    os.environ["LANCE_LOG"] = "error"
    for variable in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS", "TOKIO_WORKER_THREADS"):
        os.environ[variable] = "1" if name == "twinspire" else str(os.cpu_count())
    vectors = np.load(data / "vectors.npy", mmap_mode="r")
    queries, truth = np.load(data / "queries.npy"), np.load(data / "truth.npy")
    half = len(queries) // 2
    with tempfile.TemporaryDirectory(dir=data) as folder:
        started = time.perf_counter()
        system = SYSTEMS[name](np.ascontiguousarray(vectors), Path(folder))
        built = time.perf_counter() - started
        for setting in system.settings:  # from the cheapest
            if recall(system.search(queries[:half], setting), truth[:half]) >= TARGET:
                break
        measured, wanted = queries[half:], truth[half:]
        found = system.search(measured, setting)
        alone = []
        for query in measured[:ALONE]:
            started = time.perf_counter()
            system.search(query[None], setting)
            alone.append((time.perf_counter() - started) * 1000)
        started = time.perf_counter()
        for first in range(0, half, BATCH):
            system.search(measured[first : first + BATCH], setting)
        seconds = time.perf_counter() - started
    answers.put(
        {
            "build s": None if name == "twinspire" else round(built, 1),
            "setting": setting,
            "recall": round(recall(found, wanted), 4),
            "p50 ms": round(float(np.percentile(alone, 50)), 4),
            "p99 ms": round(float(np.percentile(alone, 99)), 4),
            "queries a second": round(half / seconds, 1),
            "peak GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        }
    )


def prepare(bundle: Path, folder: Path, count: int) -> dict[str, Any]:
    """Vectors, queries and exact answers as files; gives what the manifest says of the index."""
    import faiss

    from twinspire.bundle import Bundle
    from twinspire.features.query import Query

    loaded = Bundle.load(bundle, verify=False)
    import polars as pl

    texts = pl.read_parquet(bundle / "queries.parquet")["query"].sample(count, seed=1).to_list()
    queries = np.ascontiguousarray(loaded.embed([Query(text) for text in texts])[:, 0])
    vectors = np.ascontiguousarray(loaded.item_vectors)
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(vectors)
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "truth.npy", exact.search(queries, K)[1])
    told: dict[str, Any] = loaded.manifest.index.model_dump(mode="json", exclude={"curve"})
    return {"items": len(vectors), "dimensions": vectors.shape[1], "index": told}


def measured(name: str, folder: Path) -> dict[str, Any]:
    """One system in one process; its error where it fails."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=run, args=(name, folder, answers))
    process.start()
    while process.is_alive() and answers.empty():
        process.join(0.2)
    told: dict[str, Any] = answers.get(timeout=5) if not answers.empty() else {"failed": process.exitcode}
    process.join()
    return told


@click.command()
@click.option("--bundle", required=True, type=click.Path(path_type=Path, exists=True), help="Whose vectors.")
@click.option("--queries", default=2000, show_default=True, type=click.IntRange(20))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--system", "systems", multiple=True, type=click.Choice([*SYSTEMS]), help="Only these; default: all.")
@click.option("--name", default="libraries", show_default=True, help="Of the file of results.")
def main(bundle: Path, queries: int, rounds: int, systems: tuple[str, ...], name: str) -> None:
    """Compare the bundle's own index with other libraries at equal recall."""
    console = Console()
    os.environ["BUNDLE"] = str(bundle.absolute())
    with tempfile.TemporaryDirectory() as scratch:
        figures = prepare(bundle, Path(scratch), queries)
        told: dict[str, list[dict[str, Any]]] = {system: [] for system in systems or SYSTEMS}
        for number in range(rounds):
            for system in told:
                told[system].append(measured(system, Path(scratch)))
                console.print(f"round {number + 1}  {system}: {json.dumps(told[system][-1])}")
    figures |= {"k": K, "recall target": TARGET, "rounds": rounds, "systems": told}
    ours = told.get("twinspire", [])
    figures["ratios"] = {
        system: {
            "p50, twinspire / it": report.spread([a["p50 ms"] / b["p50 ms"] for a, b in zip(ours, its, strict=True)]),
            "queries a second, twinspire / it": report.spread(
                [a["queries a second"] / b["queries a second"] for a, b in zip(ours, its, strict=True)]
            ),
        }
        for system, its in told.items()
        if system != "twinspire" and ours and not any("failed" in one for one in its)
    }
    table = Table("system", "recall@100", "p50 ms", "p99 ms", "queries/s", "build s", "peak GiB", box=box.SIMPLE)
    for system, each in told.items():
        last = each[-1]
        columns = ("recall", "p50 ms", "p99 ms", "queries a second", "build s", "peak GiB")
        table.add_row(system, *(str(last.get(column, "failed")) for column in columns))
    console.print(table)
    console.print(f"written to {report.write(name, figures)}")


if __name__ == "__main__":
    main()

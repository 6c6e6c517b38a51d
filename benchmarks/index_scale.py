"""The index at size: `python -m benchmarks.index_scale --items 1000000 --items 15000000`.

Vectors are those that a model learnt: a market of 100,000 items is simulated and fitted, and its item tower embeds as
many items more of the same market as are asked for. Reported for each size: seconds and peak memory of embedding (and
the rate of the bare tower), of training, filling and tuning; sizes on disk; the whole curve, of the last size as a
picture too; and the time of a query.
The README's figures are of 2 cores with nothing else on them. With `--bundles` each size becomes a bundle as well, for
`python -m benchmarks.over_http --bundle`.
"""

from __future__ import annotations

import json
import resource
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import faiss
import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.progress import track

from benchmarks import report
from benchmarks.over_http import market
from twinspire import cluster
from twinspire.bundle import Bundle, Manifest
from twinspire.bundle.canaries import CANARIES
from twinspire.bundle.manifest import FILTERS, IDS, ITEMS, LEXICAL, MANIFEST, MEMORY, TREND, checksums
from twinspire.evaluation.figures import recall
from twinspire.features.encodings import id_bags
from twinspire.features.history import Events
from twinspire.features.ids import ItemIds
from twinspire.features.query import Query
from twinspire.features.store import file_name
from twinspire.index.build import FILLED, build_index
from twinspire.index.config import IndexConfig
from twinspire.index.embed import PARTS, VECTORS, EmbedItems, embed_catalogue
from twinspire.index.tune import one_thread
from twinspire.ragged import Ragged
from twinspire.simulation.arrays import stream
from twinspire.simulation.brands import brand_count, make_brands
from twinspire.simulation.catalogue import items_table, make_items
from twinspire.simulation.market import load_market

if TYPE_CHECKING:
    from twinspire.index.build import IndexSpec
    from twinspire.index.vectors import VectorIndex

PICTURE = Path(__file__).parents[1] / "docs" / "figures" / "recall.png"

FITTED_ITEMS = 100_000
BLOCK = 250_000  # items made at once
QUERIES, TIMED = 500, 2000
BARE_ROWS = 100_000


def make_store(bundle: Bundle, items: int, folder: Path) -> Path:
    """A feature store of this many new items of the bundle's market, never all in memory."""
    done = folder / "store.json"
    if done.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "items").mkdir(parents=True)
    seed = market.LOG["seed"]
    world = load_market()
    brands = make_brands(world, stream(seed, "brands"), brand_count(FITTED_ITEMS))
    lengths: dict[str, list[np.ndarray]] = {}
    for number, first in enumerate(track(range(0, items, BLOCK), f"make {items:,} items")):
        count = min(BLOCK, items - first)
        facts = make_items(world, brands, stream(seed, "more items", number), count)
        table = items_table(world, brands, facts, stream(seed, "more titles", number))
        bags = bundle.encoder.dictionaries.items(table, id_bags(np.zeros(count, np.int64), 1)[0])
        for name, ragged in bags.items():
            lengths.setdefault(name, []).append(ragged.lengths)
            with (folder / "items" / f"{file_name(name)}.raw").open("ab") as file:
                ragged.values.astype(np.int32).tofile(file)
    for name, parts in lengths.items():
        raw = folder / "items" / f"{file_name(name)}.raw"
        values = np.memmap(raw, np.int32, "r") if raw.stat().st_size else np.zeros(0, np.int32)
        Ragged.from_lengths(values, np.concatenate(parts)).save(folder / "items" / file_name(name))
        raw.unlink()
    none = np.zeros(0, np.int64)
    Events(none.astype(np.int32), none.astype(np.int8), none, np.zeros(1, np.int64)).save(folder / "events")
    names = {"items": list(lengths), "queries": [], "users": []}
    done.write_text(json.dumps({"features": names, "histories": [], "n_items": items}))
    return folder


def embed(bundle: Bundle, store: Path, work: Path, actors: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Vectors of the store's items (n, D), and how fast: the pipeline on `actors`, and the bare tower on one thread."""
    architecture = bundle.manifest.architecture
    with cluster.session(workers=actors):
        started = time.perf_counter()
        vectors = embed_catalogue(bundle.model, architecture, store, IndexConfig(actors=actors), work)
        seconds = time.perf_counter() - started
    (work / PARTS).mkdir(exist_ok=True)
    threads = torch.get_num_threads()  # FAISS may share PyTorch's OpenMP, and so what is set for the one tower
    bare = EmbedItems(str(store), str(work), architecture.model_dump_json())
    rows = min(len(vectors), BARE_ROWS)
    started = time.perf_counter()
    bare({"part": [0], "first": [0], "stop": [rows]})
    rate = rows / (time.perf_counter() - started)
    torch.set_num_threads(threads)
    return vectors, {
        "seconds": round(seconds, 1),
        "actors": actors,
        "items a second": round(len(vectors) / seconds),
        "items a second, bare tower on one thread": round(rate),
        "peak memory of the driver, GiB": peak(),
    }


def write_bundle(fitted: Bundle, index: VectorIndex, spec: IndexSpec, vectors: Path, target: Path) -> Path:
    """The fitted bundle's towers over the new items' index, vectors alone; titles are the fitted ones', in turn."""
    rows = np.arange(index.size)
    items = fitted.items.select("item_id", "title", "clicks")[rows % len(fitted.items)].with_columns(
        pl.format("n{}", pl.Series(rows)).alias("item_id")
    )
    own = ("index.faiss", VECTORS, ITEMS, IDS, FILTERS, LEXICAL, MEMORY, TREND, CANARIES)
    kept = {name: digest for name, digest in fitted.manifest.files.items() if not name.startswith(own)}
    described = {"items": index.size, "index": spec.model_dump(mode="json"), "fusion": {}, "filters": {}}
    market.linked(fitted.folder, target, files=kept, **described)
    index.save(target / "index.faiss")
    (target / VECTORS).hardlink_to(vectors)
    items.write_ipc(target / ITEMS, compression="uncompressed")
    (target / IDS).mkdir()
    ItemIds.of(items["item_id"]).save(target / IDS / IDS)
    manifest = Manifest.read(target)
    manifest = manifest.model_copy(update={"name": target.name, "files": checksums(target)})
    (target / MANIFEST).write_text(manifest.model_dump_json(indent=2))
    return target


def peak() -> float:
    """The most memory this process has had, pages of memory-mapped files included, GiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def times(index: VectorIndex, queries: np.ndarray, k: int) -> dict[str, float]:
    """Milliseconds of one query alone, and queries a second in batches of 16, on one core."""
    with one_thread():
        single = []
        for query in queries:
            started = time.perf_counter()
            index.search(query[None], k)
            single.append(1000 * (time.perf_counter() - started))
        started = time.perf_counter()
        for first in range(0, len(queries), 16):
            index.search(queries[first : first + 16], k)
        rate = len(queries) / (time.perf_counter() - started)
    p50, p99 = np.percentile(single, (50, 99)).round(3).tolist()
    return {"p50 ms": p50, "p99 ms": p99, "queries a second": round(rate)}


def measure(bundle: Bundle, items: int, workdir: Path, actors: int, bundles: bool) -> dict[str, Any]:
    """All figures of one size; with `bundles`, `scaled-ITEMS` in the work folder is a bundle of it."""
    work = workdir / f"index-{items}"
    store = make_store(bundle, items, workdir / f"store-{items}")
    shutil.rmtree(work, ignore_errors=True)
    vectors, embedding = embed(bundle, store, work, actors)
    texts = pl.read_parquet(bundle.folder / "queries.parquet")["query"].sample(QUERIES + TIMED, seed=1)
    queries = bundle.embed([Query(text) for text in texts])
    started = time.perf_counter()
    config = IndexConfig()
    index, spec = build_index(vectors, queries[:QUERIES], config, work)
    seconds = time.perf_counter() - started
    if (chart := recall.recall_chart(spec.curve, config.recall_target)) is not None:
        recall.draw(chart, PICTURE)
    if bundles:
        write_bundle(bundle, index, spec, work / VECTORS, workdir / f"scaled-{items}")
    return {
        "items": items,
        "dimensions": vectors.shape[1],
        "threads": faiss.omp_get_max_threads(),
        "embed": embedding,
        "build": {
            "seconds": round(seconds, 1),
            "of which": spec.seconds,
            "peak memory, GiB": peak(),
            "index on disk, GiB": round((work / FILLED).stat().st_size / 2**30, 3),
            "vectors on disk, GiB": round(vectors.nbytes / 2**30, 3),
        },
        "index": spec.model_dump(mode="json", exclude={"seconds"}),
        "search": {f"K = {k}": times(index, queries[QUERIES:], k) for k in (100, 1000)},
    }


@click.command()
@click.option("--items", "sizes", multiple=True, type=int, default=(1_000_000,), show_default=True)
@click.option("--actors", default=2, show_default=True, help="Ray actors that embed.")
@click.option("--bundles", is_flag=True, help="Keep each size as a bundle, scaled-ITEMS in the work folder.")
@click.option("--workdir", default=Path("index_scale"), show_default=True, type=click.Path(path_type=Path))
def main(sizes: tuple[int, ...], actors: int, bundles: bool, workdir: Path) -> None:
    """Measure each size, the smallest first: the peak memory of a process never falls.

    The file keeps what it has of other sizes.
    """
    say = Console(stderr=True)
    workdir = workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    bundle = Bundle.load(market.make(workdir, FITTED_ITEMS, say)[1])
    figures = report.read("index_scale")
    for items in sorted(sizes):
        figures[f"{items:,}"] = measure(bundle, items, workdir, actors, bundles)
        say.print_json(data={**figures[f"{items:,}"], "index": "in the file"})
        path = report.write("index_scale", figures)
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()

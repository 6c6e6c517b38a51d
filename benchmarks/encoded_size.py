"""Size of the encoded training data (5.1.2) against the same rows joined flat: `python benchmarks/encoded_size.py`.

Encoded is the whole folder that training reads: rows of ids (those of the search for the best round, those of the refit
and the validation window) and the store of every item, query, shopper and event; also those that no row names.
Flat is one record for each positive, once, with all that the two towers read of it repeated: query, shopper, history
and item, as table rows (i32), and its weight (f32), in four ways:

- TFRecord: plain records as the paper has them, a `tf.Example` each, uncompressed; its bytes are counted, not written;
- bare arrays: each feature a length (4 bytes) and its values (4 bytes each), the least that a plain record can be;
- plain Parquet: no dictionaries, no compression; written and measured on the disk;
- zstd Parquet: with dictionaries, which see the repetition too; written and measured on the disk.

Dictionaries (vocabularies, labels) are left out on both sides: the flat rows need the same ones. The store is paid once
and a row 11 bytes or so, so that the ratio falls as the log grows beside the catalogue: hence two lengths of the log.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import report
from twinspire import dataset
from twinspire.config import load_config
from twinspire.features.encode import encode
from twinspire.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twinspire.features.encode import Encoded
    from twinspire.features.store import Bags

CHUNK = 20_000  # rows joined at once
FORMATS: dict[str, dict[str, Any]] = {
    "plain Parquet": {"use_dictionary": False, "compression": "none"},
    "zstd Parquet": {"use_dictionary": True, "compression": "zstd"},
}


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def joined(encoded: Encoded) -> Iterator[tuple[Bags, np.ndarray]]:
    """Every positive with its features, in chunks: bags of L rows each, and the weights (L,)."""
    store = encoded.store
    rows = pl.read_parquet(encoded.folder / "rows" / "all" / "*.parquet")
    for start in track(range(0, len(rows), CHUNK), "join"):
        part = {column.name: column.to_numpy() for column in rows[start : start + CHUNK]}
        query = store.query_features(part["query"], part["user"], part["stop"])
        item = store.item_features(part["item"])
        bags = {f"query/{name}": bag for name, bag in query.items()} | {
            f"item/{name}": bag for name, bag in item.items()
        }
        yield bags, part["weight"]


def array_bytes(bags: Bags, weight: np.ndarray) -> int:
    """Bytes of these rows as bare arrays."""
    return weight.nbytes + sum(4 * len(bag) + 4 * int(bag.offsets[-1]) for bag in bags.values())


def tfrecord_bytes(bags: Bags, weight: np.ndarray) -> int:
    """Bytes of these rows as TFRecords of `tf.Example`: protobuf's names, lengths and packed varints, counted exactly.

    An Example holds Features, a map from a name to a Feature, which holds an Int64List or a FloatList of packed values.
    """
    body = np.full(len(weight), entry_bytes("weight", np.array([4])), np.int64)
    for name, bag in bags.items():
        values = np.concatenate([[0], np.cumsum(varint_bytes(bag.values))])[bag.offsets]
        body += entry_bytes(name, np.diff(values))
    example = field_bytes(body)
    return int((example + 16).sum())  # a record's length, and two checksums


def entry_bytes(name: str, packed: np.ndarray) -> np.ndarray:
    """Bytes of one feature's map entry in each record, whose packed values take `packed` (L,) bytes; none: no entry."""
    feature = field_bytes(field_bytes(packed))
    entry = field_bytes(field_bytes(np.array(len(name.encode()))) + field_bytes(feature))
    return np.where(packed > 0, entry, 0)


def field_bytes(content: np.ndarray) -> np.ndarray:
    """Bytes of protobuf fields with contents this long: a tag, the length, the content."""
    total: np.ndarray = 1 + varint_bytes(content) + content
    return total


def varint_bytes(values: np.ndarray) -> np.ndarray:
    """Bytes of each non-negative number as a varint: 7 bits a byte."""
    bits = np.ceil(np.log2(np.maximum(values, 1).astype(np.float64) + 1)).astype(np.int64)
    sizes: np.ndarray = -(-bits // 7)
    return sizes


def as_table(bags: Bags, weight: np.ndarray) -> pa.Table:
    """These rows as one Arrow table with a list column a feature."""
    columns: dict[str, Any] = {
        name: pa.ListArray.from_arrays(bag.offsets.astype(np.int32), bag.values.astype(np.int32))
        for name, bag in bags.items()
    }
    return pa.table(columns | {"weight": weight})


def flat_bytes(encoded: Encoded, scratch: Path) -> dict[str, int]:
    """Bytes of the joined rows in each way of writing them."""
    sizes = {"TFRecord": 0, "bare arrays": 0}
    writers: dict[str, pq.ParquetWriter] = {}
    for bags, weight in joined(encoded):
        sizes["TFRecord"] += tfrecord_bytes(bags, weight)
        sizes["bare arrays"] += array_bytes(bags, weight)
        table = as_table(bags, weight)
        for name, options in FORMATS.items():
            if name not in writers:
                writers[name] = pq.ParquetWriter(scratch / name, table.schema, **options)
            writers[name].write_table(table, row_group_size=CHUNK)
    for name, writer in writers.items():
        writer.close()
        sizes[name] = (scratch / name).stat().st_size
    return sizes


def measure(data: Path, scratch: Path) -> dict[str, Any]:
    """Encode the dataset in `scratch` and measure both sides."""
    config = load_config()
    source = dataset.read(data, quarantine=scratch / "quarantine", require_interactions=True)
    encoded, _ = encode(source, config.features, config.log, config.text, scratch / "encoded", 0)
    rows, store = folder_bytes(encoded.folder / "rows"), folder_bytes(encoded.folder / "store")
    whole = rows + store
    flat = flat_bytes(encoded, scratch)
    return {
        "positives": encoded.meta.positives,
        "items": len(source.items),
        "encoded_bytes": {"rows": rows, "store": store, "whole": whole},
        "flat_bytes": flat,
        "ratio": {name: round(whole / size, 4) for name, size in flat.items()},
        "ratio_of_rows_alone": {name: round(rows / size, 4) for name, size in flat.items()},
    }


def show(results: dict[str, dict[str, Any]]) -> None:
    table = Table(
        title="encoded / flat, sizes in MB",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in ("data", "positives", "encoded", "flat as", "flat", "ratio", "rows only"):
        table.add_column(column, justify="left" if column in ("data", "flat as") else "right", no_wrap=True)
    for name, figures in results.items():
        first = [name, f"{figures['positives']:,}", f"{figures['encoded_bytes']['whole'] / 1e6:.1f}"]
        for way, size in figures["flat_bytes"].items():
            ratio, rows = figures["ratio"][way], figures["ratio_of_rows_alone"][way]
            table.add_row(*first, way, f"{size / 1e6:.1f}", f"{ratio:.3f}", f"{rows:.3f}")
            first = [""] * len(first)
        table.add_section()
    Console().print(table)


@click.command()
@click.option("--data", multiple=True, type=click.Path(path_type=Path), help="Dataset folders to measure as well.")
@click.option("--items", default=100_000, show_default=True, help="Items of the simulated market.")
@click.option("--users", default=20_000, show_default=True, help="Shoppers of the simulated market.")
@click.option(
    "--interactions",
    multiple=True,
    default=(1_000_000, 10_000_000),
    show_default=True,
    help="Interactions of the simulated market; each number given is a market of its own.",
)
def main(data: tuple[Path, ...], items: int, users: int, interactions: tuple[int, ...]) -> None:
    """Measure the encoded training data of simulated markets, and of the datasets given, against flat rows."""
    results = {}
    for length in interactions:
        with tempfile.TemporaryDirectory() as folder:
            simulate(Path(folder) / "market", items=items, users=users, interactions=length, seed=0)
            results[f"market, {length / 1e6:g}M"] = measure(Path(folder) / "market", Path(folder))
    for path in data:
        with tempfile.TemporaryDirectory() as folder:
            results[path.name] = measure(path, Path(folder))
    show(results)
    Console().print(f"written to {report.write('encoded_size', results)}")


if __name__ == "__main__":
    main()

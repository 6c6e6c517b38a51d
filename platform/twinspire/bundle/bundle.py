"""The one servable (5.2.1): query tower, index, id map and feature dictionaries in one object, from one folder."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from safetensors.torch import load_file

from twinspire.bundle.manifest import FILTERS, IDS, ITEMS, ITEMS_BEFORE_4, LEXICAL, MEMORY, TREND, Manifest
from twinspire.errors import BundleError, EnvironmentProblem
from twinspire.features.dictionaries import Dictionaries
from twinspire.features.history import KINDS
from twinspire.features.ids import ItemIds, ItemRows
from twinspire.features.query import Event, Query, Shopper
from twinspire.features.request import RequestEncoder
from twinspire.features.spec import History
from twinspire.features.store import file_name
from twinspire.index import gpu
from twinspire.index.filters import FilterIndex
from twinspire.index.hybrid import Asked, HybridIndex
from twinspire.index.lexical import LexicalIndex
from twinspire.index.memory import QueryMemory
from twinspire.index.on_device import put_on
from twinspire.index.tensors import on_host
from twinspire.index.vectors import VectorIndex
from twinspire.model import QueryLookup, TwoTower
from twinspire.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from twinspire.index.tensors import Vectors
    from twinspire.index.variation import Variation
    from twinspire.model import DeviceLookup

MAX_HISTORY_SHOWN = 10
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Results:
    """Of B queries the K best: `items` (B, K) i32 rows, -1 where short; `scores` (B, K) f32; `heads` (B, K) i8."""

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    heads: NDArray[np.int8]


class Bundle:
    """A loaded bundle. Immutable; `search` and `score` may be called from any thread."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        encoder: RequestEncoder,
        model: TwoTower,
        index: HybridIndex,
        items: pl.DataFrame,
        item_ids: ItemIds,
    ) -> None:
        self.folder, self.manifest, self.item_ids = folder, manifest, item_ids
        self.encoder, self.model, self.index = encoder, model, index
        self._query_tower: QueryLookup | DeviceLookup = QueryLookup(model)
        self.items = items
        self._personalised, self._heads = True, manifest.architecture.config.heads

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = True, device: str = "cpu") -> Bundle:
        """Load a bundle folder; with `device` cuda, query tower and vector index on the first GPU.

        Errors: BundleError for a missing, damaged or unfit bundle; EnvironmentProblem for a device that is not there.
        """
        folder = Path(folder)
        if device != "cpu":
            gpu.require_gpu()
        manifest = Manifest.read(folder)
        if verify:
            manifest.verify(folder)
        dictionaries = Dictionaries.load(folder)
        theirs = (manifest.tokeniser_version, manifest.tokeniser_fingerprint[:12])
        ours = (dictionaries.tokeniser.version, dictionaries.tokeniser.fingerprint[:12])
        if theirs != ours:
            raise BundleError(
                f"{folder}: made with tokeniser {theirs[0]} ({theirs[1]}), this is {ours[0]} ({ours[1]}); fit again"
            )
        model = TwoTower(manifest.architecture)
        try:
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except RuntimeError as error:
            reason = " ".join(str(error).split()[:60])
            raise BundleError(f"{folder}: model.safetensors does not fit the manifest ({reason})") from None
        # A plain array over the memory map: compiled code takes long to find out what a memmap is.
        vectors = np.asarray(np.load(folder / "item_vectors.npy", mmap_mode="r", allow_pickle=False))
        index = VectorIndex.load(folder / "index.faiss", manifest.index.parameters, vectors)
        items = read_items(folder)
        if index.size != len(items) or index.index.d != manifest.dimensions:
            held, wanted = f"{index.size} x {index.index.d}", f"{len(items)} x {manifest.dimensions}"
            raise BundleError(f"{folder}: the index holds {held}, the catalogue {wanted}; copy the bundle again")
        if len(items) != manifest.items:
            raise BundleError(
                f"{folder}: the catalogue has {len(items)} items, the manifest {manifest.items}; fit again"
            )
        stored = folder / IDS
        ids = ItemIds.load(stored / IDS) if stored.exists() else ItemIds.of(items["item_id"])
        encoder = RequestEncoder(
            dictionaries,
            pl.read_parquet(folder / "users.parquet", glob=False),
            ItemRows(ids),
            _history_bags(folder, dictionaries),
        )
        hybrid = _hybrid(folder, manifest, dictionaries, index, vectors, items)
        loaded = cls(folder, manifest, encoder, model.eval(), hybrid, items, ids)
        return loaded if device == "cpu" else loaded.on(device)

    def on(self, device: str) -> Bundle:
        """The same bundle with query tower and vector index on a device, as torch names it: `cuda`, or `cpu`, where the
        same code runs. What words, memory and filters add stays on the CPU. The device's memory is given back with the
        bundle.

        Errors: EnvironmentProblem where there is no such device, or not enough of its memory.
        """
        tower, place = self._query_tower, torch.device(device)
        if not isinstance(tower, QueryLookup):
            raise ValueError("this bundle is on a device already")
        filtered = bool(self.manifest.filters)
        try:
            vectors = put_on(self.index.vectors, place, filtered=filtered, tower=tower.nbytes)
            moved = copy.copy(self)
            moved.index, moved._query_tower = replace(self.index, vectors=vectors), tower.on(place)
        except torch.OutOfMemoryError:
            raise EnvironmentProblem(f"{self.folder}: {device} has no memory left for the query tower") from None
        except EnvironmentProblem as error:
            raise EnvironmentProblem(f"{self.folder}: {error}") from None
        return moved

    def varied(self, variation: Variation) -> Bundle:
        """A bundle that ranks otherwise, over the same memory.

        Errors: BundleError for a part or a head that this one does not have.
        """
        heads = self.manifest.architecture.config.heads
        if variation.heads is not None and variation.heads > heads:
            raise BundleError(f"parameters.heads: the bundle has {heads}; give at most as many")
        varied = copy.copy(self)
        varied.index = self.index.varied(variation)
        varied._personalised, varied._heads = variation.personalised, variation.heads or heads
        return varied

    def embed(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Query vectors (B, H, D)."""
        return on_host(self._embed(queries))

    def _embed(self, queries: Sequence[Query]) -> Vectors:
        """The same, where the index is."""
        if self.index.words_alone:
            return np.zeros((len(queries), 1, self.manifest.dimensions), np.float32)
        if not self._personalised:
            queries = [Query(query.text, None, query.filters) for query in queries]
        return self._query_tower(self.encoder.encode(queries))[:, : self._heads]

    def search(self, queries: Sequence[Query], k: int) -> Results:
        """The K best items of each query for its shopper, of those that its filters allow."""
        return self.nearest(self.ask(queries), k)

    def ask(self, queries: Sequence[Query]) -> list[Asked]:
        """Queries as the index takes them: embedded, with their words, what was clicked for them before, their filters.

        Errors: RequestError for filters that there cannot be.
        """
        texts, filters = [query.text for query in queries], [query.filters for query in queries]
        return self.index.ask(texts, self._embed(queries), filters)

    def nearest(self, asked: Sequence[Asked], k: int) -> Results:
        """The K best items of each of what `ask` gave."""
        scores, rows, heads = self.index.search(asked, k)
        return Results(rows.astype(np.int32), scores, heads)

    def score(self, queries: Sequence[Query], items: NDArray[np.int64]) -> NDArray[np.float32]:
        """What `search` ranks by, computed exactly: of B queries and B item rows, (B,)."""
        asked = self.ask(queries) if len(queries) else []
        pairs = zip(asked, np.asarray(items)[:, None], strict=True)
        return np.array([self.index.scores(one, item)[0][0] for one, item in pairs], np.float32)

    @property
    def item_vectors(self) -> NDArray[np.float32]:
        """Vectors of all items (n, D), memory-mapped."""
        return self.index.item_vectors

    @property
    def item_rows(self) -> Mapping[str, int]:
        """Item id to row."""
        return self.encoder.item_rows

    @cached_property
    def users(self) -> pl.DataFrame:
        """What the bundle remembers of shoppers: user_id, profile columns, history (item, kind, time; oldest first)."""
        return pl.read_parquet(self.folder / "users.parquet", glob=False)

    def shoppers(self, count: int) -> list[Shopper]:
        """Some remembered shoppers, those with the longest histories first, for pages and demonstrations."""
        profile = [column for column in self.users.columns if column not in ("user_id", "history")]
        chosen = self.users.sort(pl.col("history").list.len(), descending=True, maintain_order=True).head(count)
        return [
            Shopper(
                user_id=row["user_id"],
                profile={column: row[column] for column in profile if row[column] is not None},
                history=[self.event(**event) for event in row["history"][-MAX_HISTORY_SHOWN:]],
            )
            for row in chosen.iter_rows(named=True)
        ]

    def trials(self) -> list[Query]:
        """Queries that between them run all of the code that a search can come to, to be asked before the first caller
        does: of a title's words, new and with earlier clicks, and by each column of the filters."""
        texts = [f"warm up {self.items['title'][0]}", *(self.index.memory.queries.head(1) if self.index.memory else ())]
        filters = (None, *self.index.filters.examples())
        return [Query(text, None, one) for one in filters for text in texts]

    def event(self, item: int, kind: int, time: int) -> Event:
        """One of the Events as a caller would send it."""
        return past_event(self.item_ids[item], kind, time)


def past_event(item_id: str, kind: int, time: int) -> Event:
    """An event of kind KINDS[kind], at so many microseconds since 1970 (UTC)."""
    return Event(item_id, KINDS[kind], EPOCH + timedelta(microseconds=time))


def read_items(folder: Path) -> pl.DataFrame:
    """What a bundle shows of its items, (n,): item_id, title and the like, and clicks. Memory-mapped.

    Errors: BundleError for a table that cannot be read.
    """
    try:
        if (folder / ITEMS).exists():
            table = pa.ipc.open_file(pa.memory_map(str(folder / ITEMS))).read_all()
            return cast("pl.DataFrame", pl.from_arrow(table))
        return pl.read_parquet(folder / ITEMS_BEFORE_4, glob=False)
    except (OSError, pa.ArrowInvalid, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{folder}: the items cannot be read ({reason}); copy the bundle again") from None


def frequent_queries(folder: Path) -> pl.Series:
    """A bundle's training queries, the most clicked first."""
    queries = pl.read_parquet(folder / "queries.parquet", glob=False)
    return queries.sort("clicks", "query", descending=[True, False])["query"]


def _hybrid(
    folder: Path,
    manifest: Manifest,
    dictionaries: Dictionaries,
    index: VectorIndex,
    vectors: NDArray[np.float32],
    items: pl.DataFrame,
) -> HybridIndex:
    fusion = manifest.fusion
    return HybridIndex(
        vectors=index,
        item_vectors=vectors,
        lexical=LexicalIndex.load(folder / LEXICAL, dictionaries, items["clicks"].to_numpy())
        if fusion.lexical
        else None,
        memory=QueryMemory.load(folder / MEMORY) if fusion.memory else None,
        trend=np.load(folder / TREND, allow_pickle=False) if fusion.trend else None,
        fusion=fusion,
        filters=FilterIndex.load(folder / FILTERS, manifest.filters, len(items)),
    )


def _history_bags(folder: Path, dictionaries: Dictionaries) -> dict[str, Ragged]:
    tables = {feature.table("query") for feature in dictionaries.config.query if isinstance(feature, History)}
    return {table: Ragged.load(folder / "history" / file_name(table), mmap=False) for table in tables}

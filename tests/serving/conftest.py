"""A small retriever with the protocol of a bundle: exact search over hashed words, no training."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import numpy as np
import polars as pl
import pytest
from pydantic import BaseModel

from serving.endpoints import application
from serving.service import Service
from twinspire.features.ids import ItemIds, ItemRows
from twinspire.features.query import Event, Query, Shopper
from twinspire.index.filters import FilterIndex
from twinspire.index.hybrid import Asked

WIDTH = 64
COLOURS = ("red", "blue", "green", "black", "white")
NOTHING = np.zeros(0, np.float32)
THINGS = ("shoes", "lamp", "phone", "mug", "tent", "jacket", "chair", 'tv 32"')


class SmallManifest(BaseModel):
    name: str = "small"
    version: str = "3"
    items: int = len(COLOURS) * len(THINGS)


@dataclass
class SmallResults:
    items: np.ndarray
    scores: np.ndarray
    heads: np.ndarray


def embed(texts: list[str]) -> np.ndarray:
    rows = np.zeros((len(texts), WIDTH), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in text.casefold().split():
            row[zlib.crc32(word.encode("utf-8", "replace")) % WIDTH] += 1
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


class SmallRetriever:
    """Exact search by cosine; a shopper's history adds the words of its items to the query."""

    def __init__(self) -> None:
        titles = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
        ids = [f"i{n}é" if n % 7 == 0 else f"i{n}" for n in range(len(titles))]
        self.item_ids = ItemIds.of(ids)
        self.items = pl.DataFrame({"item_id": ids, "title": titles, "price": np.arange(len(titles)) + 0.5})
        self.manifest = SmallManifest()
        self.item_rows = ItemRows(self.item_ids)
        self._vectors = embed(titles)
        self.filters = FilterIndex.build(self.items, {"title": "text", "price": "number"})
        self._titles = dict(zip(self.item_ids, titles, strict=True))

    def ask(self, queries):
        texts = [
            " ".join(
                [query.text]
                + [self._titles.get(e.item_id, "") for e in (query.shopper.history if query.shopper else None) or ()]
            )
            for query in queries
        ]
        within = [self.filters.select(query.filters or {}) for query in queries]
        return [
            Asked(vector[None], [], NOTHING, NOTHING, some) for vector, some in zip(embed(texts), within, strict=True)
        ]

    def trials(self):
        return [Query("red shoes"), *(Query("red shoes", None, one) for one in self.filters.examples())]

    def nearest(self, asked, k):
        vectors = np.stack([one.vectors for one in asked])
        scores = vectors[:, 0] @ self._vectors.T  # (B, items)
        every = np.arange(len(self.item_ids))
        for row, one in zip(scores, asked, strict=True):
            row[~one.within.allows(every) if one.within else []] = -np.inf
        items = np.full((len(vectors), k), -1, np.int32)
        best = np.zeros((len(vectors), k), np.float32)
        found = min(k, len(self.item_ids))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :found]
        items[:, :found] = np.where(np.isinf(np.take_along_axis(scores, order, 1)), -1, order)
        best[:, :found] = np.take_along_axis(scores, order, 1)
        return SmallResults(items, best, np.zeros((len(vectors), k), np.int8))

    def shoppers(self, n):
        moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        return [
            Shopper(f"u{i}", {"gender": "f", "age": 30.0}, [Event(self.item_ids[i], "click", moment)])
            for i in range(min(n, 5))
        ]


@pytest.fixture
def retriever():
    return SmallRetriever()


@pytest.fixture
def service(retriever, tmp_path):
    made = Service(tmp_path / "events")
    made.put("default", retriever)
    yield made
    made.close()


@pytest.fixture
def app(service):
    return application(service)


@pytest.fixture
def call(app):
    """Calls the application in this process: `await call("POST", "/v1/search", json=...)`."""

    async def send(method, path, **kwargs):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://twinspire") as client:
            return await client.request(method, path, **kwargs)

    return send

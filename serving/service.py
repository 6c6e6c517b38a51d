"""What a replica does, without HTTP: answers searches in batches, keeps feedback, says how it is."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from pydantic import BaseModel

from serving.encode import ItemEncoder
from serving.explain import explain, plain
from serving.feedback import FeedbackLog
from serving.pipeline import Pipeline
from twinspire.errors import RequestError
from twinspire.features.query import Event, Query, Shopper

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from serving.schema import Feedback, SearchRequest, User
    from twinspire.index.hybrid import Asked

    Embedded = Asked | Exception

DEFAULT_ARM = "default"
MAX_BATCH = 64
MOST_SHOPPERS = 100

logger = logging.getLogger(__name__)


class Results(Protocol):
    """Rows, scores and the head that found each: (B, k), rows -1 where short."""

    @property
    def items(self) -> NDArray[np.int32]: ...  # noqa: D102
    @property
    def scores(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def heads(self) -> NDArray[np.int8]: ...  # noqa: D102


class Retriever(Protocol):
    """What the service needs of a bundle; items are in the order of the rows."""

    @property
    def manifest(self) -> Any: ...  # noqa: D102
    @property
    def item_ids(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def item_rows(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def items(self) -> pl.DataFrame: ...  # noqa: D102

    def ask(self, queries: Sequence[Query]) -> list[Asked]:
        """B queries, ready for the index."""
        ...

    def nearest(self, asked: Sequence[Asked], k: int) -> Results:
        """The k best items of each of what `ask` gave."""
        ...

    def shoppers(self, count: int) -> list[Shopper]:
        """Sample shoppers."""
        ...


@dataclass(slots=True)
class SearchJob:
    """One search in the queue. `request_id` must be printable ASCII without quotes and backslashes."""

    query: Query
    k: int
    explain: bool
    request_id: str
    queued: float  # time.perf_counter()


def to_shopper(user: User | None) -> Shopper | None:
    """The shopper of a validated request; None where nothing is said of them."""
    if user is None or not (user.user_id or user.profile or user.history):
        return None
    history = None
    if user.history is not None:
        history = [Event(event.item_id, event.event, event.timestamp) for event in user.history]
        if all(event.timestamp is not None for event in history):
            history.sort(key=lambda event: event.timestamp or datetime.min.replace(tzinfo=UTC))
    return Shopper(user.user_id, user.profile, history)


def to_filters(request: SearchRequest) -> dict[str, Any] | None:
    """The filters of a validated request as the library takes them."""
    if not request.filters:
        return None
    return {
        column: condition.model_dump(exclude_none=True) if isinstance(condition, BaseModel) else condition
        for column, condition in request.filters.items()
    }


class Service:
    """One bundle, one search thread, one feedback thread. `ready` is True between `warm_up` and `close`."""

    def __init__(self, bundle: Retriever, feedback_folder: str | Path, *, max_batch: int = MAX_BATCH) -> None:
        self.bundle = bundle
        self.ready = False
        self.started = datetime.now(UTC)
        self.searches = self.batches = self.feedback_events = 0
        self.model = {"name": str(bundle.manifest.name), "version": str(bundle.manifest.version)}
        self._middle = b'","arm":"%s","model":%s,"items":[' % (
            DEFAULT_ARM.encode(),
            orjson.dumps(self.model),
        )
        self._encoder = ItemEncoder(bundle.item_ids)
        self._feedback = FeedbackLog(feedback_folder)
        self._max_batch = max_batch
        self._samples: list[Shopper] = []
        self._pipeline: Pipeline[SearchJob, list[Embedded], bytes] = Pipeline(
            self._embed, self._answer, max_batch=max_batch, name="search"
        )

    def search(self, request: SearchRequest, request_id: str) -> asyncio.Future[bytes]:
        """Queue a search; the future gives the body of the answer."""
        if request.arm is not None and request.arm != DEFAULT_ARM:
            raise RequestError("arm", f"there is no such arm; this server has: {DEFAULT_ARM}")
        query = Query(request.query, to_shopper(request.user), to_filters(request))
        return self._pipeline.submit(SearchJob(query, request.k, request.explain, request_id, time.perf_counter()))

    async def feedback(self, feedback: Feedback) -> str:
        """Keep an event; returns its id once it is on disk."""
        event_id = await self._feedback.record(feedback)
        self.feedback_events += 1
        return event_id

    def warm_up(self) -> None:
        """Run every shape of batch once, so that no caller pays for compilation or page faults."""
        self._samples = self.bundle.shoppers(MOST_SHOPPERS)
        shoppers = [None, *self._samples[:8]]
        for size in (1, 2, 8, self._max_batch):
            jobs = [
                SearchJob(Query("warm up", shoppers[i % len(shoppers)]), k, False, "warm-up", 0.0)
                for i, k in zip(range(size), [10, 100] * size, strict=False)
            ]
            self._answer(jobs, self._embed(jobs))
        jobs = [SearchJob(Query("warm up"), 10, True, "warm-up", 0.0)]
        self._answer(jobs, self._embed(jobs))
        self.searches = self.batches = 0
        self.ready = True

    def close(self) -> None:
        """Answer what waits and stop the threads."""
        self.ready = False
        self._pipeline.stop()
        self._feedback.close()

    def status(self) -> dict[str, Any]:
        """The body of /v1/status."""
        now = datetime.now(UTC)
        return {
            "status": "ready" if self.ready else "starting",
            "arm": DEFAULT_ARM,
            "model": self.model,
            "bundle": self.bundle.manifest.model_dump(mode="json", exclude={"architecture", "config", "files"}),
            "started": self.started,
            "uptime_s": round((now - self.started).total_seconds(), 3),
            "searches": self.searches,
            "batches": self.batches,
            "feedback": self.feedback_events,
        }

    def shoppers(self, n: int) -> dict[str, Any]:
        """The body of /v1/shoppers: at most n, and MOST_SHOPPERS, with the titles of what they last looked at."""
        return {"shoppers": [plain(self.bundle, shopper) for shopper in self._samples[:n]]}

    def _embed(self, jobs: list[SearchJob]) -> list[Embedded]:
        """Queries ready for the index, or what is wrong with them; in the event loop: small steps in Python."""
        try:
            return [*self.bundle.ask([job.query for job in jobs])]
        except Exception as error:
            if len(jobs) > 1:  # a job that fails does not fail its neighbours
                return [embedded for job in jobs for embedded in self._embed([job])]
            return [_failure(error)]

    def _answer(self, jobs: list[SearchJob], embedded: list[Embedded]) -> list[bytes | Exception]:
        """One search for each k, in the thread."""
        self.batches += 1
        self.searches += len(jobs)
        answers: list[bytes | Exception] = [b""] * len(jobs)
        by_k: dict[int, list[int]] = {}
        for i, (job, found) in enumerate(zip(jobs, embedded, strict=True)):
            if isinstance(found, Exception):
                answers[i] = found
            else:
                by_k.setdefault(job.k, []).append(i)
        for k, places in by_k.items():
            asked: list[Asked] = [embedded[i] for i in places]  # type: ignore[misc]
            for i, answer in zip(places, self._answer_same_k([jobs[i] for i in places], asked, k), strict=True):
                answers[i] = answer
        return answers

    def _answer_same_k(self, jobs: list[SearchJob], asked: list[Asked], k: int) -> Sequence[bytes | Exception]:
        try:
            return self._encode(jobs, self.bundle.nearest(asked, k))
        except Exception as error:
            if len(jobs) > 1:
                return [self._answer_same_k([job], asked[i : i + 1], k)[0] for i, job in enumerate(jobs)]
            return [_failure(error)]

    def _encode(self, jobs: list[SearchJob], results: Results) -> list[bytes]:
        bodies = []
        plain_items = self._encoder.encode(results.items, results.scores)
        now = time.perf_counter()
        for i, job in enumerate(jobs):
            took = b"%.3f" % ((now - job.queued) * 1000)
            if job.explain:
                items, understood = explain(
                    self.bundle, job.query, results.items[i], results.scores[i], results.heads[i]
                )
                end = b'],"took_ms":%s,"understood":%s}' % (took, understood)
            else:
                items, end = plain_items[i], b'],"took_ms":%s}' % took
            bodies.append(b'{"request_id":"%s%s%s%s' % (job.request_id.encode(), self._middle, items, end))
        return bodies


def _failure(error: Exception) -> Exception:
    """The error, in the log where it is not the caller's."""
    if not isinstance(error, RequestError):
        logger.error("a search failed", exc_info=error)
    return error

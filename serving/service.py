"""What a replica does, without HTTP: answers searches in batches, keeps feedback, says how it is."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from serving.encode import ItemEncoder
from serving.explain import explain, plain
from serving.feedback import FeedbackLog
from serving.limits import MAX_QUEUE, NEVER, deadline_passed, overloaded
from serving.metrics import Metrics
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

    from serving.schema import Feedback, Question, SearchRequest, User
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
    """One search in the queue. `request_id` must be printable ASCII without quotes and backslashes.

    Without a `request_id` the answer is what a result of a batch is: the items, in braces of their own.
    """

    query: Query
    k: int
    explain: bool
    request_id: str
    queued: float  # time.perf_counter()
    deadline: float = NEVER  # time.perf_counter()


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


class Service:
    """One bundle, one search thread, one feedback thread. `ready` is True between `warm_up` and `close`."""

    def __init__(
        self,
        bundle: Retriever,
        feedback_folder: str | Path,
        *,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
    ) -> None:
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
        self._max_batch, self._max_queue = max_batch, max_queue
        self.metrics = Metrics()
        self._samples: list[Shopper] = []
        self._pipeline: Pipeline[SearchJob, list[Embedded], bytes] = Pipeline(
            self._prepare, self._answer, max_batch=max_batch, name="search"
        )

    @property
    def arm(self) -> str:
        """The arm that answers."""
        return DEFAULT_ARM

    @property
    def created(self) -> datetime | None:
        """When the index was made, where the bundle says so."""
        created = getattr(self.bundle.manifest, "created", None)
        return datetime.fromisoformat(created) if created else None

    @property
    def waiting(self) -> int:
        """Searches that are in no batch yet."""
        return self._pipeline.waiting

    @property
    def full(self) -> bool:
        """Whether as many searches wait as may; one more, or one more batch of them, is then refused."""
        return self.waiting >= self._max_queue

    def search(self, request: SearchRequest, request_id: str, deadline: float = NEVER) -> asyncio.Future[bytes]:
        """Queue a search; the future gives the body of the answer.

        Raises Refusal: 503 at once where the queue is full, 504 from the future where `deadline` (on
        time.perf_counter()) is over before its batch begins.
        """
        self.require_arm(request.arm)
        if self.full:
            raise overloaded()
        return self.queue(request, request.k, request_id, deadline)

    def queue(self, asked: Question, k: int, request_id: str, deadline: float) -> asyncio.Future[bytes]:
        """Queue a search whether or not the queue is full; without a `request_id`, as a part of a batch."""
        query = Query(asked.query, to_shopper(asked.user))
        return self._pipeline.submit(SearchJob(query, k, asked.explain, request_id, time.perf_counter(), deadline))

    def require_arm(self, arm: str | None) -> None:
        """Refuse an arm that there is not."""
        if arm is not None and arm != DEFAULT_ARM:
            raise RequestError("arm", f"there is no such arm; this server has: {DEFAULT_ARM}")

    async def feedback(self, feedback: Feedback) -> str:
        """Keep an event; returns its id once it is on disk."""
        event_id = await self._feedback.record(feedback)
        self.feedback_events += 1
        return event_id

    def warm_up(self) -> None:
        """Run every shape of batch once, so that no caller pays for compilation or page faults.

        With a title's words, or the part of the search that compares words would not run.
        """
        text = f"warm up {self.bundle.items['title'][0]}"
        self._samples = self.bundle.shoppers(MOST_SHOPPERS)
        shoppers = [None, *self._samples[:8]]
        for size in (1, 2, 8, self._max_batch):
            jobs = [
                SearchJob(Query(text, shoppers[i % len(shoppers)]), k, False, "warm-up", 0.0)
                for i, k in zip(range(size), [10, 100] * size, strict=False)
            ]
            self._answer(jobs, self._embed(jobs))
        jobs = [SearchJob(Query(text), 10, True, "warm-up", 0.0)]
        self._answer(jobs, self._embed(jobs))
        self.searches = self.batches = 0
        self.metrics = Metrics()
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

    def _prepare(self, jobs: list[SearchJob]) -> list[Embedded]:
        """In the event loop: those in time, ready for the index; of the others, that they are late."""
        started = time.perf_counter()
        self.metrics.stages["wait"].add([started - job.queued for job in jobs])
        in_time = [job for job in jobs if job.deadline > started]
        embedded = iter(self._embed(in_time) if in_time else [])
        self.metrics.stages["encode"].add([time.perf_counter() - started])
        return [next(embedded) if job.deadline > started else deadline_passed() for job in jobs]

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
        self.metrics.sizes.add([float(len(jobs))])
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
            started = time.perf_counter()
            results = self.bundle.nearest(asked, k)
            self.metrics.stages["search"].add([time.perf_counter() - started])
            return self._encode(jobs, results)
        except Exception as error:
            if len(jobs) > 1:
                return [self._answer_same_k([job], asked[i : i + 1], k)[0] for i, job in enumerate(jobs)]
            return [_failure(error)]

    def _encode(self, jobs: list[SearchJob], results: Results) -> list[bytes]:
        bodies = []
        plain_items = self._encoder.encode(results.items, results.scores)
        now = time.perf_counter()
        self.metrics.stages["total"].add([now - job.queued for job in jobs])
        self.metrics.empty += int((results.items[:, 0] < 0).sum())
        for i, job in enumerate(jobs):
            if job.explain:
                items, understood = explain(
                    self.bundle, job.query, results.items[i], results.scores[i], results.heads[i]
                )
                end = b',"understood":%s}' % understood
            else:
                items, end = plain_items[i], b"}"
            if job.request_id:
                start = b'{"request_id":"%s%s' % (job.request_id.encode(), self._middle)
                bodies.append(b'%s%s],"took_ms":%.3f%s' % (start, items, (now - job.queued) * 1000, end))
            else:
                bodies.append(b'{"items":[%s]%s' % (items, end))
        return bodies


def _failure(error: Exception) -> Exception:
    """The error, in the log where it is not the caller's."""
    if not isinstance(error, RequestError):
        logger.error("a search failed", exc_info=error)
    return error

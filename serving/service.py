"""What a replica does, without HTTP: answers searches in batches, keeps events, says how it is."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from serving.events import EventLog
from serving.explain import explain, plain
from serving.limits import MAX_WAIT_MS, NEVER, deadline_passed, overloaded
from serving.outcomes import Recent, outcome
from serving.pipeline import Pipeline
from serving.problems import Refusal
from serving.splitting import Splitter, draft
from serving.versions import DEFAULT_ARM, Version, Versions
from twinspire.errors import RequestError
from twinspire.features.query import Event, Query, Shopper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from pathlib import Path

    from serving.follow import Follower
    from serving.schema import Feedback, Question, SearchRequest, User
    from serving.splitting import Choice, Exposed
    from serving.versions import Results, Retriever
    from twinspire.index.hybrid import Asked

    Embedded = Asked | Exception

MAX_BATCH = 64

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SearchJob:
    """One search in the queue. `request_id` must be printable ASCII without quotes and backslashes.

    Without a `request_id` the answer is what a result of a batch is: the items, in braces of their own. `told` goes
    into the answer as it is; of `exposed`, how it ended is kept.
    """

    version: Version
    query: Query
    k: int
    explain: bool
    request_id: str
    queued: float  # time.perf_counter()
    deadline: float = NEVER  # time.perf_counter()
    told: bytes = b""
    exposed: Exposed | None = None
    results: int = 0
    took_ms: float = 0.0


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


def to_filters(request: Question) -> dict[str, Any] | None:
    """The filters of a validated request as the library takes them."""
    if not request.filters:
        return None
    return {
        column: condition.model_dump(exclude_none=True) if isinstance(condition, BaseModel) else condition
        for column, condition in request.filters.items()
    }


class Service:
    """The arms' versions, one search thread, one for outcomes. `ready` once the default arm has a version."""

    def __init__(
        self, events_folder: str | Path, *, max_batch: int = MAX_BATCH, max_wait_ms: float = MAX_WAIT_MS
    ) -> None:
        self.versions = Versions()
        self.follower: Follower | None = None
        self.started = datetime.now(UTC)
        self.searches = self.batches = 0
        self.splitter = Splitter(self.versions)
        self.events = EventLog(events_folder)
        self._recent = Recent()
        self._closed = False
        self._max_batch, self._max_wait_s = max_batch, max_wait_ms / 1000
        self._pipeline: Pipeline[SearchJob, list[Embedded], bytes] = Pipeline(
            self._prepare, self._answer, max_batch=max_batch, name="search", kind=lambda job: job.version
        )

    @property
    def waiting(self) -> int:
        """Searches that are in no batch yet."""
        return self._pipeline.waiting

    def full(self, waited_s: float = 0.0) -> bool:
        """Whether a search that has waited for so long already would wait too long; it, or a batch, is then refused."""
        return waited_s + self._pipeline.wait_s > self._max_wait_s

    def search(
        self, request: SearchRequest, request_id: str, deadline: float = NEVER, choice: Choice | None = None
    ) -> Awaitable[bytes]:
        """Queue a search; what comes back gives the body of the answer. `choice` is what `splitter` has chosen.

        Raises Refusal: 503 at once where the queue is full, 504 from the future where `deadline` (on
        time.perf_counter()) is over before its batch begins. RequestError for an arm that there is not.
        """
        if choice is None:
            choice = self.splitter.choose(request, request.arm, request_id)
        if self.full():
            raise overloaded()
        self._recent.add(request_id, request)
        return self.queue(choice, request, request.k, request_id, deadline)

    def queue(self, choice: Choice, asked: Question, k: int, request_id: str, deadline: float) -> Awaitable[bytes]:
        """Queue a search whether or not the queue is full; without a `request_id`, as a part of a batch."""
        query = Query(asked.query, to_shopper(asked.user), to_filters(asked))
        now = time.perf_counter()
        if choice.second is None:
            return self._pipeline.submit(
                SearchJob(
                    choice.version, query, k, asked.explain, request_id, now, deadline, choice.told, choice.exposed
                )
            )
        both = [
            self._pipeline.submit(SearchJob(version, query, k, asked.explain, "", now, deadline))
            for version in (choice.version, choice.second)
        ]
        return self._drafted(choice, both, k, request_id, now)

    async def _drafted(
        self, choice: Choice, both: list[asyncio.Future[bytes]], k: int, request_id: str, queued: float
    ) -> bytes:
        """One answer of two arms."""
        failure: BaseException | None = None
        items, understood = b"[]", b""
        kept: dict[str, Any] = {"items": []}
        first, second = await asyncio.gather(*both, return_exceptions=True)
        if isinstance(first, BaseException) or isinstance(second, BaseException):
            failure = first if isinstance(first, BaseException) else second  # type: ignore[assignment]
        else:
            items, understood, kept = draft(first, second, k, choice.seed)
        took_ms = (time.perf_counter() - queued) * 1000
        if choice.exposed is not None:
            rows = choice.exposed.rows(choice.version, len(kept["items"]), took_ms, _status(failure), kept)
            await asyncio.to_thread(self.events.expose, rows)
            self.splitter.count(choice.exposed)
        if failure is not None:
            raise failure
        said = choice.version.middle + choice.told
        if request_id:
            start = b'{"request_id":"%s%s' % (request_id.encode(), said)
            return b'%s,"items":%s,"took_ms":%.3f%s}' % (start, items, took_ms, understood)
        return b'{"items":%s%s%s}' % (items, said[1:], understood)

    async def feedback(self, told: Sequence[Feedback]) -> list[str]:
        """Keep events, all or none; returns their ids once they are on disk.

        Errors: RequestError for one that cannot stand in the log, OSError where they cannot be written.
        """
        events = []
        for place, one in enumerate(told):
            try:
                events.append(outcome(one, self._recent))
            except RequestError as error:
                if len(told) == 1:
                    raise
                raise RequestError(f"events[{place}].{error.field}", error.message) from None
        await self.events.record([row for _, row in events])
        return [event_id for event_id, _ in events]

    @property
    def ready(self) -> bool:
        """Whether searches are answered."""
        return DEFAULT_ARM in self.versions.current and not self._closed

    def put(self, arm: str, bundle: Retriever, address: str = "", key: str = "") -> None:
        """Warm a bundle up and let it answer for an arm; from any thread, while others answer."""
        version = Version(arm, bundle, address, key)
        self.warm_up(version)
        self.versions.put(version)

    def roll_back(self, arm: str) -> Version:
        """Let the previous version of an arm answer again. Errors: RequestError where there is none."""
        self.versions.of(arm)
        before = self.versions.roll_back(arm)
        if before is None:
            raise RequestError("arm", f"{arm} has no previous version in memory")
        return before

    def warm_up(self, version: Version) -> None:
        """Run every trial and every shape of batch once, so that no caller pays for compilation or page faults."""
        trials = version.bundle.trials()
        for query in trials:
            found = version.bundle.nearest(version.bundle.ask([query]), 10)
            explain(version.bundle, query, found.items[0], found.scores[0], found.heads[0])
        shoppers = [None, *version.samples[:8]]
        for size in (1, 2, 8, self._max_batch):
            queries = [Query(trials[i % len(trials)].text, shoppers[i % len(shoppers)]) for i in range(size)]
            for k in (10, 100):
                found = version.bundle.nearest(version.bundle.ask(queries), k)
                version.encoder.encode(found.items, found.scores)

    def close(self) -> None:
        """Answer what waits and stop the threads."""
        self._closed = True
        if self.follower is not None:
            self.follower.stop()
        self._pipeline.stop()
        self.events.close()

    def status(self) -> dict[str, Any]:
        """The body of /v1/status."""
        now = datetime.now(UTC)
        default, previous = self.versions.current.get(DEFAULT_ARM), self.versions.previous
        manifest = default.bundle.manifest if default else None
        return {
            "status": "ready" if self.ready else "starting",
            "arm": DEFAULT_ARM,
            "model": default.model if default else {},
            "bundle": manifest.model_dump(mode="json", exclude={"architecture", "config", "files"}) if manifest else {},
            "arms": {
                arm: version.status() | {"previous": previous[arm].status() if arm in previous else None}
                for arm, version in self.versions.current.items()
            },
            **(self.follower.status() if self.follower else {"refused_bundles": {}, "unreachable": {}}),
            "started": self.started,
            "uptime_s": round((now - self.started).total_seconds(), 3),
            "searches": self.searches,
            "batches": self.batches,
            "experiments": self.splitter.status()
            | {"refused": self.follower.refused_experiments if self.follower else {}},
            "events": self.events.status(),
        }

    def shoppers(self, n: int) -> dict[str, Any]:
        """The body of /v1/shoppers: at most n, and a hundred, with the titles of what they last looked at."""
        default = self.versions.of(DEFAULT_ARM)
        return {"shoppers": [plain(default.bundle, shopper) for shopper in default.samples[:n]]}

    def _prepare(self, jobs: list[SearchJob]) -> list[Embedded]:
        """In the event loop: those in time, ready for the index; of the others, that they are late. All have one
        version."""
        metrics, started = jobs[0].version.metrics, time.perf_counter()
        metrics.stages["wait"].add([started - job.queued for job in jobs])
        in_time = [job for job in jobs if job.deadline > started]
        embedded = iter(self._embed(in_time) if in_time else [])
        metrics.stages["encode"].add([time.perf_counter() - started])
        return [next(embedded) if job.deadline > started else deadline_passed() for job in jobs]

    def _embed(self, jobs: list[SearchJob]) -> list[Embedded]:
        """Queries of one version ready for the index, or what is wrong with them: small steps in Python."""
        try:
            return [*jobs[0].version.bundle.ask([job.query for job in jobs])]
        except Exception as error:
            if len(jobs) > 1:  # a job that fails does not fail its neighbours
                return [embedded for job in jobs for embedded in self._embed([job])]
            return [_failure(error)]

    def _answer(self, jobs: list[SearchJob], embedded: list[Embedded]) -> list[bytes | Exception]:
        """One search for each k, in the thread; of those that were late meanwhile, that they are. All jobs have one
        version."""
        self.batches += 1
        self.searches += len(jobs)
        answers: list[bytes | Exception] = [b""] * len(jobs)
        by_k: dict[int, list[int]] = {}
        now = time.perf_counter()
        for place, (job, one) in enumerate(zip(jobs, embedded, strict=True)):
            if isinstance(one, Exception):
                answers[place] = one
            elif job.deadline <= now:
                answers[place] = deadline_passed()
            else:
                by_k.setdefault(job.k, []).append(place)
        for places in by_k.values():
            jobs[0].version.metrics.sizes.add([float(len(places))])
            asked: list[Asked] = [embedded[place] for place in places]  # type: ignore[misc]
            for place, answer in zip(places, self._answer_alike([jobs[p] for p in places], asked), strict=True):
                answers[place] = answer
        self._expose(jobs, answers)
        return answers

    def _expose(self, jobs: list[SearchJob], answers: list[bytes | Exception]) -> None:
        """Keep what counts in experiments, before any of the answers goes out."""
        rows: list[bytes] = []
        for job, answer in zip(jobs, answers, strict=True):
            if job.exposed is not None:
                status = 200 if isinstance(answer, bytes) else _status(answer)
                rows += job.exposed.rows(job.version, job.results, job.took_ms, status)
                self.splitter.count(job.exposed)
        if rows:
            self.events.expose(rows)

    def _answer_alike(self, jobs: list[SearchJob], asked: list[Asked]) -> Sequence[bytes | Exception]:
        """Of one version and with one k."""
        try:
            started = time.perf_counter()
            version = jobs[0].version
            results = version.bundle.nearest(asked, jobs[0].k)
            version.metrics.stages["search"].add([time.perf_counter() - started])
            return self._encode(jobs, results)
        except Exception as error:
            if len(jobs) > 1:
                return [self._answer_alike([job], asked[i : i + 1])[0] for i, job in enumerate(jobs)]
            return [_failure(error)]

    def _encode(self, jobs: list[SearchJob], results: Results) -> list[bytes]:
        bodies = []
        version = jobs[0].version
        plain_items = version.encoder.encode(results.items, results.scores)
        now = time.perf_counter()
        version.metrics.stages["total"].add([now - job.queued for job in jobs])
        found = (results.items >= 0).sum(1).tolist()
        version.metrics.empty += found.count(0)
        for i, job in enumerate(jobs):
            job.results, job.took_ms = found[i], (now - job.queued) * 1000
            if job.explain:
                items, understood = explain(
                    version.bundle, job.query, results.items[i], results.scores[i], results.heads[i]
                )
                end = b',"understood":%s}' % understood
            else:
                items, end = plain_items[i], b"}"
            if job.request_id:
                start = b'{"request_id":"%s%s%s' % (job.request_id.encode(), version.middle, job.told)
                bodies.append(b'%s,"items":[%s],"took_ms":%.3f%s' % (start, items, job.took_ms, end))
            else:
                said = version.middle[1:] + job.told if job.told else b""
                bodies.append(b'{"items":[%s]%s%s' % (items, said, end))
        return bodies


def _status(failure: BaseException | None) -> int:
    """The HTTP status that an answer or a failure goes out with."""
    if failure is None:
        return 200
    if isinstance(failure, Refusal):
        return failure.status
    return 422 if isinstance(failure, RequestError) else 500


def _failure(error: Exception) -> Exception:
    """The error, in the log where it is not the caller's."""
    if not isinstance(error, RequestError):
        logger.error("a search failed", exc_info=error)
    return error

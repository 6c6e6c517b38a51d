"""Batches in two stages: short Python in the event loop, the long calls that hold no GIL in a thread.

Two threads that both run Python take the GIL from each other whenever a small call lets go of it, and then wait for
the other to let go; a batch has dozens of such calls, and the waits cost more than the work. So the event loop runs
all the Python, and the thread only what is long and needs no GIL.

There is no artificial delay: while one batch is at work the next one gathers, and as soon as it is as large it is
prepared and waits at the thread's door, so that the thread goes from one to the other. At low load a batch is one job.
Under load it is half of the jobs that there are, so that while one half is at work the answers of the other are sent
and its successors read; with whole batches, loop and thread would wait for each other in turn.

Jobs of different kinds, which cannot be done in one call, are not put into one batch: of two kinds, a batch of either
then costs as much as without the other. The job that has waited longest says which kind is next.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from serving.worker import deliver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Job = TypeVar("Job")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)

NEWEST = 0.2  # share of the newest batch in the seconds that a full one takes


class Pipeline(Generic[Job, Prepared, Answer]):
    """Answers jobs in batches of at most `max_batch`.

    `prepare` runs in the event loop on the jobs of a batch, and should take a millisecond at most. `handle` runs in
    the one thread on the jobs and what `prepare` gave, and gives one answer, or one exception to raise, for each job.
    If either raises, every job of the batch gets that exception. All jobs of a batch have the same `kind`. Jobs come
    from one event loop at a time.
    """

    def __init__(
        self,
        prepare: Callable[[list[Job]], Prepared],
        handle: Callable[[list[Job], Prepared], Sequence[Answer | Exception]],
        *,
        max_batch: int,
        name: str,
        kind: Callable[[Job], object] = lambda job: None,
    ) -> None:
        self._prepare, self._handle, self._max_batch, self._kind = prepare, handle, max_batch, kind
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[tuple[Job, asyncio.Future[Answer]]] = []
        self._called = False  # `_start` is about to run
        self._sizes: deque[int] = deque()  # jobs of the batch at work, and of the one behind it
        self._last = 0  # jobs of the last batch
        self._began: float | None = None  # the batch at work, on time.perf_counter()
        self._full_s = 0.0  # what a full batch takes of late; 0 before the first one
        self._queue: SimpleQueue[tuple[list[Job], Prepared, list[asyncio.Future[Answer]]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> asyncio.Future[Answer]:
        """Queue a job; call from the event loop and await what comes back."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # another loop's jobs have nobody to wait for them any more
            self._loop, self._waiting, self._called, self._began = loop, [], False, None
            self._sizes.clear()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((job, future))
        self._start_soon()
        return future

    @property
    def waiting(self) -> int:
        """Jobs that are in no batch yet, or in one behind that at work."""
        return len(self._waiting) + (self._sizes[1] if len(self._sizes) > 1 else 0)

    @property
    def wait_s(self) -> float:
        """Seconds, at most, until the jobs at work and those that wait are done, where any wait; if full batches go on
        as they have or, before the first full batch and where one hangs, as long as the one at work has until now."""
        jobs = self.waiting
        if not jobs:
            return 0.0
        if self._sizes:
            jobs += self._sizes[0]
        at_work_s = 0.0 if self._began is None else time.perf_counter() - self._began
        return max(self._full_s, at_work_s) * jobs / self._max_batch

    def stop(self) -> None:
        """Let the thread finish the batch that it has, and end it."""
        self._queue.put(None)
        self._thread.join()

    @property
    def _wanted(self) -> bool:
        """Whether the next batch is due: the thread is free, or the one at work is no larger and none is behind it."""
        if not self._sizes:
            return bool(self._waiting)
        return len(self._sizes) == 1 and len(self._waiting) >= self._sizes[0]

    def _start_soon(self) -> None:
        """Call `_start` if a batch is due, after the requests that are read together and the answers that are sent."""
        if not self._called and self._wanted and self._loop is not None:
            self._called = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        """In the event loop: prepare the next batch, if one is due, and hand it over."""
        self._called = False
        if not self._wanted:
            return
        if self._began is None:
            self._began = time.perf_counter()
        batch = self._take()
        jobs, futures = [job for job, _ in batch], [future for _, future in batch]
        try:
            prepared = self._prepare(jobs)
        except Exception as error:
            deliver(futures, [error] * len(futures))
            if not self._sizes:
                self._began = None
        else:
            self._last = len(batch)
            self._sizes.append(len(batch))
            self._queue.put((jobs, prepared, futures))
        self._start_soon()

    def _take(self) -> list[tuple[Job, asyncio.Future[Answer]]]:
        """The next batch: half of the jobs that there are; where some of another kind wait too, all of this kind."""
        kind = self._kind(self._waiting[0][0])
        alike = [place for place, (job, _) in enumerate(self._waiting) if self._kind(job) is kind]
        if len(alike) == len(self._waiting):
            most = min((len(alike) + self._last + 1) // 2, self._max_batch)
            batch, self._waiting = self._waiting[:most], self._waiting[most:]
            return batch
        taken = set(alike[: self._max_batch])
        batch = [self._waiting[place] for place in alike[: self._max_batch]]
        self._waiting = [one for place, one in enumerate(self._waiting) if place not in taken]
        return batch

    def _run(self) -> None:
        while (given := self._queue.get()) is not None:
            jobs, prepared, futures = given
            answers: Sequence[Answer | Exception]
            try:
                answers = self._handle(jobs, prepared)
            except Exception as error:
                answers = [error] * len(jobs)
            try:
                futures[0].get_loop().call_soon_threadsafe(self._finish, futures, answers)
            except RuntimeError:  # the loop is closed: nobody waits any more
                logger.debug("%d answers came after the event loop had closed", len(futures))

    def _finish(self, futures: list[asyncio.Future[Answer]], answers: Sequence[Answer | Exception]) -> None:
        """In the event loop: where the thread has nothing to do, first the next batch, then the answers."""
        if futures[0].get_loop() is not self._loop:
            deliver(futures, answers)
            return
        now = time.perf_counter()
        if self._began is not None and len(futures) >= self._max_batch:
            self._full_s += (now - self._began - self._full_s) * (NEWEST if self._full_s else 1.0)
        self._sizes.popleft()
        self._began = now if self._sizes else None
        if not self._sizes:
            self._start()
        deliver(futures, answers)
        self._start_soon()

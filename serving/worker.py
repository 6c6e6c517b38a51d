"""A thread that answers whatever waits as one batch, so that an event loop never runs slow code.

There is no artificial delay: while one batch runs the next one gathers. At low load a batch is one job; under
load batches grow to what arrives in the time of one batch. Answers go back to the event loop in one call a batch,
because waking a loop is the expensive part.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Job = TypeVar("Job")
Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


class BatchWorker(Generic[Job, Answer]):
    """Answers jobs in batches of at most `max_batch` with `handle`, in one thread.

    `handle` gets the jobs of a batch and gives one answer, or one exception to raise, for each; if it raises, every
    job of the batch gets that exception. All jobs must be submitted from one event loop.
    """

    def __init__(
        self, handle: Callable[[list[Job]], Sequence[Answer | Exception]], *, max_batch: int, name: str
    ) -> None:
        self._handle = handle
        self._max_batch = max_batch
        self._queue: SimpleQueue[tuple[Job, asyncio.Future[Answer]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> asyncio.Future[Answer]:
        """Queue a job; call from the event loop and await what comes back."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.put((job, future))
        return future

    def stop(self) -> None:
        """Answer what waits, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            stopping = False
            while len(batch) < self._max_batch:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    stopping = True
                    break
                batch.append(more)
            self._answer(batch)
            if stopping:
                return

    def _answer(self, batch: list[tuple[Job, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = self._handle([job for job, _ in batch])
        except Exception as error:
            answers = [error] * len(batch)
        futures = [future for _, future in batch]
        try:
            futures[0].get_loop().call_soon_threadsafe(deliver, futures, answers)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.debug("%d answers came after the event loop had closed", len(futures))


def deliver(futures: Sequence[asyncio.Future[Answer]], answers: Sequence[Answer | Exception]) -> None:
    """Give each future its answer, or raise its exception; call from their event loop."""
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # cancelled: the caller has gone
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

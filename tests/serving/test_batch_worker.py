import asyncio
import threading

import pytest

from serving.worker import BatchWorker


def test_what_waits_becomes_one_batch_in_order():
    entered, leave = threading.Event(), threading.Event()
    batches = []

    def handle(jobs):
        batches.append(list(jobs))
        entered.set()
        leave.wait(10)
        return [job * 10 for job in jobs]

    worker = BatchWorker(handle, max_batch=4, name="test")

    async def main():
        first = worker.submit(0)
        await asyncio.to_thread(entered.wait, 10)
        rest = [worker.submit(i) for i in range(1, 8)]
        leave.set()
        return [await first, *await asyncio.gather(*rest)]

    assert asyncio.run(main()) == [i * 10 for i in range(8)]
    assert batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
    worker.stop()


def test_the_event_loop_runs_on_while_a_batch_is_slow():
    leave = threading.Event()
    worker = BatchWorker(lambda jobs: [leave.wait(10) for _ in jobs], max_batch=1, name="test")

    async def main():
        future = worker.submit(0)
        await asyncio.sleep(0.01)  # would hang here if the batch ran in the loop
        assert not future.done()
        leave.set()
        return await future

    assert asyncio.run(main())
    worker.stop()


def test_an_exception_reaches_its_job_and_the_worker_lives_on():
    def handle(jobs):
        if jobs == ["all"]:
            raise ValueError("all")
        return [KeyError(job) if job == "one" else job for job in jobs]

    worker = BatchWorker(handle, max_batch=1, name="test")

    async def main():
        for job, kind in [("all", ValueError), ("one", KeyError)]:
            with pytest.raises(kind):
                await worker.submit(job)
        return await worker.submit("fine")

    assert asyncio.run(main()) == "fine"
    worker.stop()


def test_a_caller_who_has_gone_does_no_harm():
    leave = threading.Event()
    worker = BatchWorker(lambda jobs: (leave.wait(10), jobs)[1], max_batch=2, name="test")

    async def main():
        first, gone, kept = worker.submit(1), worker.submit(2), worker.submit(3)
        gone.cancel()
        leave.set()
        return await first, await kept

    assert asyncio.run(main()) == (1, 3)
    worker.stop()


def test_answers_after_the_loop_has_closed_are_dropped():
    leave = threading.Event()
    worker = BatchWorker(lambda jobs: (leave.wait(10), jobs)[1], max_batch=2, name="test")

    async def main():
        worker.submit(1)

    asyncio.run(main())
    leave.set()
    worker.stop()

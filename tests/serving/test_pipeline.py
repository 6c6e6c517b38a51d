import asyncio
import threading
import time

import pytest

from serving.pipeline import Pipeline


def tens(jobs):
    return [job * 10 for job in jobs]


def given(jobs, prepared):
    return prepared


@pytest.fixture
def pipeline():
    made = []

    def make(prepare=tens, handle=given, max_batch=64, **options):
        made.append(Pipeline(prepare, handle, max_batch=max_batch, name="test", **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def batches_of(pipeline, jobs, max_batch=64):
    """Sizes of the batches that `jobs` make which come while the first is at work, and the answers."""
    entered, leave = threading.Event(), threading.Event()
    sizes = []

    def handle(jobs, prepared):
        sizes.append(len(jobs))
        entered.set()
        leave.wait(10)
        return prepared

    worker = pipeline(handle=handle, max_batch=max_batch)

    async def main():
        first = worker.submit(0)
        await asyncio.to_thread(entered.wait, 10)
        rest = [worker.submit(job) for job in range(1, jobs)]
        leave.set()
        return [await first, *await asyncio.gather(*rest)]

    return sizes, asyncio.run(main())


def test_a_batch_is_half_of_the_jobs_there_are_so_that_two_alternate(pipeline):
    sizes, answers = batches_of(pipeline, 32)
    assert answers == tens(range(32))
    assert sizes == [1, 16, 15]


def test_a_batch_is_prepared_while_one_no_larger_is_at_work_and_no_third(pipeline):
    leave, prepared = threading.Event(), []

    def prepare(jobs):
        prepared.append(list(jobs))
        return tens(jobs)

    worker = pipeline(prepare=prepare, handle=lambda jobs, given: (leave.wait(10), given)[1])

    async def come(*jobs):
        futures = [worker.submit(job) for job in jobs]
        await asyncio.sleep(0.01)
        return futures

    async def main():
        futures = await come(0)
        futures += await come(1)
        assert prepared == [[0], [1]]
        futures += await come(2, 3, 4)
        assert prepared == [[0], [1]]
        assert worker.waiting == 4
        leave.set()
        await asyncio.gather(*futures)
        leave.clear()
        futures += await come(5, 6, 7, 8)
        assert prepared[-1] == [5, 6, 7], "half of five, of which two had been the last batch"
        futures += await come(9)
        assert prepared[-1] == [5, 6, 7], "fewer wait than are at work: others may come"
        futures += await come(10)
        assert prepared[-1] == [8, 9, 10]
        leave.set()
        return await asyncio.gather(*futures)

    assert asyncio.run(main()) == tens(range(11))
    assert [job for batch in prepared for job in batch] == list(range(11))


def test_no_batch_is_larger_than_allowed(pipeline):
    sizes, answers = batches_of(pipeline, 32, max_batch=4)
    assert answers == tens(range(32))
    assert max(sizes) == 4


def test_jobs_that_come_together_are_prepared_together_in_the_event_loop(pipeline):
    threads = []

    def prepare(jobs):
        threads.append(threading.current_thread())
        return tens(jobs)

    worker = pipeline(prepare=prepare)

    async def main():
        return await asyncio.gather(*(worker.submit(job) for job in range(2)))

    assert asyncio.run(main()) == [0, 10]
    assert set(threads) == {threading.current_thread()}


def test_the_event_loop_runs_on_while_a_batch_is_slow(pipeline):
    leave = threading.Event()
    worker = pipeline(handle=lambda jobs, prepared: [leave.wait(10) for _ in jobs])

    async def main():
        future = worker.submit(0)
        await asyncio.sleep(0.01)  # would hang here if the batch ran in the loop
        assert not future.done()
        leave.set()
        return await future

    assert asyncio.run(main())


@pytest.mark.parametrize("stage", ["prepare", "handle"])
def test_an_exception_reaches_its_jobs_and_the_pipeline_lives_on(pipeline, stage):
    def fail(jobs, prepared=None):
        if "bad" in jobs:
            raise ValueError("no")
        return [KeyError(job) if job == "missing" else job for job in jobs]

    worker = pipeline(**{"prepare": list, "handle": given} | {stage: fail})

    async def main():
        with pytest.raises(ValueError, match="no"):
            await worker.submit("bad")
        with pytest.raises(KeyError):
            await worker.submit("missing")
        return await worker.submit("fine")

    assert asyncio.run(main()) == "fine"


def test_a_caller_who_has_gone_does_no_harm(pipeline):
    worker = pipeline()

    async def main():
        gone, kept = worker.submit(1), worker.submit(2)
        gone.cancel()
        return await kept

    assert asyncio.run(main()) == 20


def test_jobs_of_a_loop_that_has_closed_are_dropped_and_the_next_loop_is_served(pipeline):
    leave = threading.Event()
    worker = pipeline(handle=lambda jobs, prepared: (leave.wait(10), prepared)[1])

    async def leave_behind():
        worker.submit(1)
        await asyncio.sleep(0.01)
        worker.submit(2)

    asyncio.run(leave_behind())
    leave.set()

    async def main():
        return await worker.submit(3)

    assert asyncio.run(main()) == 30


def test_a_batch_holds_one_kind_and_the_longest_wait_says_which(pipeline):
    entered, leave, seen = threading.Event(), threading.Event(), []

    def handle(jobs, prepared):
        seen.append(list(jobs))
        entered.set()
        leave.wait(10)
        return prepared

    kinds = "even", "odd"
    worker = pipeline(handle=handle, max_batch=4, kind=lambda job: kinds[job % 2])

    async def main():
        first = worker.submit(0)
        await asyncio.to_thread(entered.wait, 10)
        rest = [worker.submit(job) for job in (1, 3, 2, 5, 4, 7, 9, 11)]
        leave.set()
        return [await first, *await asyncio.gather(*rest)]

    assert asyncio.run(main()) == tens([0, 1, 3, 2, 5, 4, 7, 9, 11])
    assert seen == [[0], [1, 3, 5, 7], [2, 4], [9, 11]]


def test_the_wait_is_what_full_batches_have_taken(pipeline):
    def handle(jobs, prepared):
        time.sleep(0.01 * len(jobs))
        return prepared

    worker = pipeline(handle=handle, max_batch=5)

    async def main():
        assert worker.wait_s == 0
        jobs = [worker.submit(job) for job in range(50)]
        await asyncio.gather(*jobs[:20])
        waits, left = worker.wait_s, worker.waiting
        await asyncio.gather(*jobs)
        return waits, left, worker.wait_s

    waits, left, after = asyncio.run(main())
    assert left * 0.01 <= waits < left * 0.03
    assert after == 0


def test_before_any_full_batch_the_wait_is_as_long_as_the_one_at_work_takes(pipeline):
    leave = threading.Event()
    worker = pipeline(handle=lambda jobs, prepared: leave.wait(10) and prepared, max_batch=1)

    async def main():
        first = worker.submit(0)
        await asyncio.sleep(0.1)
        rest = [worker.submit(job) for job in range(1, 4)]
        assert worker.wait_s >= 3 * 0.09
        leave.set()
        return await asyncio.gather(first, *rest)

    assert asyncio.run(main()) == tens(range(4))


def test_nothing_waits_for_a_batch_that_has_ended(pipeline):
    worker = pipeline()

    async def main():
        await worker.submit(0)
        await asyncio.sleep(0.1)
        jobs = [worker.submit(job) for job in range(64)]
        assert worker.wait_s < 0.05
        return await asyncio.gather(*jobs)

    assert asyncio.run(main()) == tens(range(64))

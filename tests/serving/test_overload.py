"""Full queues, deadlines, slow bodies, batches: what a replica does when there is too much of something."""

import asyncio
import threading
import time

import httpx
import pytest

from serving.application import Application, Endpoint
from serving.endpoints import application
from serving.request import ARRIVED, Readers, Reply
from serving.schema import BatchResponse
from serving.service import Service

ASKED = {"query": "red shoes", "k": 3}


@pytest.fixture
def held(retriever, tmp_path):
    """An application whose searches wait until `leave` is set, one at a time; none may wait longer than 50 ms."""
    leave, began = threading.Event(), threading.Event()
    nearest = retriever.nearest

    def wait(asked, k):
        began.set()
        leave.wait(10)
        return nearest(asked, k)

    service = Service(tmp_path / "events", max_batch=1, max_wait_ms=50)
    service.put("default", retriever)
    retriever.nearest = wait
    service.leave, service.began = leave, began
    yield service
    leave.set()
    service.close()


def client(service):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=application(service)), base_url="http://t")


async def begun(service, http):
    """The first search, at work."""
    first = asyncio.ensure_future(http.post("/v1/search", json=ASKED))
    await asyncio.to_thread(service.began.wait, 10)
    return first


def test_behind_a_search_that_hangs_others_are_refused_at_once_and_those_that_wait_are_answered(held):
    async def main():
        async with client(held) as http:
            first = await begun(held, http)
            waiting = asyncio.ensure_future(http.post("/v1/search", json=ASKED))
            await asyncio.sleep(0.1)
            refused = [await http.post("/v1/search", json=ASKED) for _ in range(20)]
            refused.append(await http.post("/v1/search:batch", json={"searches": [ASKED]}))
            held.leave.set()
            return refused, [await one for one in (first, waiting)]

    refused, answered = asyncio.run(main())
    assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(503, "1")}
    assert {one.status_code for one in answered} == {200}


def test_at_three_times_what_a_replica_carries_what_is_answered_has_not_waited_long(retriever, tmp_path):
    nearest = retriever.nearest

    def slowly(asked, k):
        time.sleep(0.02)
        return nearest(asked, k)

    service = Service(tmp_path / "events", max_batch=4, max_wait_ms=200)
    service.put("default", retriever)
    retriever.nearest = slowly  # 200 a second

    async def main():
        async with client(service) as http:

            async def ask():
                started = time.perf_counter()
                return (await http.post("/v1/search", json=ASKED)).status_code, time.perf_counter() - started

            asked = []
            for _ in range(300):
                asked.append(asyncio.ensure_future(ask()))
                await asyncio.sleep(1 / 600)
            return await asyncio.gather(*asked)

    found = asyncio.run(main())
    service.close()
    statuses = [status for status, _ in found]
    assert set(statuses) == {200, 503}
    answered = [seconds for status, seconds in found if status == 200]
    assert len(answered) > 300 / 3  # what it carries while they come, at least
    assert max(answered) < 2 * 0.2 + 0.1  # not the second and more that all of them would take


def test_a_search_past_its_deadline_is_refused_and_costs_no_search(held):
    async def main():
        async with client(held) as http:
            first = await begun(held, http)
            late = asyncio.ensure_future(http.post("/v1/search", json=ASKED, headers={"x-deadline-ms": "20"}))
            batch = http.post("/v1/search:batch", json={"searches": [ASKED]}, headers={"x-deadline-ms": "20"})
            batch = asyncio.ensure_future(batch)
            in_time = asyncio.ensure_future(http.post("/v1/search", json=ASKED, headers={"x-deadline-ms": "9000"}))
            await asyncio.sleep(0.1)
            held.leave.set()
            return [(await one).status_code for one in (first, late, batch, in_time)]

    searched = []
    bundle = held.versions.of(None).bundle
    nearest = bundle.nearest
    bundle.nearest = lambda asked, k: (searched.append(len(asked)), nearest(asked, k))[1]
    assert asyncio.run(main()) == [200, 504, 504, 200]
    assert sum(searched) == 2


@pytest.mark.parametrize(
    ("waited_s", "headers", "status"),
    [(0.3, {}, 200), (0.7, {}, 503), (0.3, {"x-deadline-ms": "400"}, 200), (0.3, {"x-deadline-ms": "200"}, 504)],
)
@pytest.mark.parametrize(("path", "asked"), [("/v1/search", ASKED), ("/v1/search:batch", {"searches": [ASKED]})])
def test_what_a_request_waited_unread_counts(service, path, asked, waited_s, headers, status):
    app = application(service)

    async def waited(scope, receive, send):
        await app(scope | {ARRIVED: time.perf_counter() - waited_s}, receive, send)

    async def main():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=waited), base_url="http://t") as http:
            return await http.post(path, json=asked, headers=headers)

    assert asyncio.run(main()).status_code == status


def test_a_batch_answers_in_order_as_single_searches_do(call):
    searches = [
        {"query": "red shoes", "k": 2},
        {"query": "blue lamp", "explain": True},
        {"query": "red", "user": {"history": [{"item_id": "i4"}]}},
    ] * 85

    async def main():
        batch = await call("POST", "/v1/search:batch", json={"k": 5, "searches": searches})
        singles = [await call("POST", "/v1/search", json={"k": 5, **search}) for search in searches[:3]]
        return batch, [single.json() for single in singles]

    batch, singles = asyncio.run(main())
    body = BatchResponse.model_validate(batch.json(), extra="forbid")
    assert batch.headers["x-request-id"] == body.request_id
    results = batch.json()["results"]
    assert len(results) == len(searches)
    for place, result in enumerate(results):
        single = singles[place % 3]
        assert result == {name: single[name] for name in ("items", "understood") if name in single}


@pytest.mark.parametrize(
    ("batch", "status", "field"),
    [
        ({"searches": []}, 422, "searches"),
        ({"searches": [ASKED] * 257}, 422, "searches"),
        ({"searches": [ASKED], "k": 0}, 422, "k"),
        ({"searches": [ASKED], "arm": "other"}, 422, "arm"),
        ({"searches": [ASKED, {"query": ""}]}, 422, "searches[1].query"),
        ({"searches": [ASKED, {"query": "a", "k": 1001}]}, 422, "searches[1].k"),
        ({"searches": [{"query": "a", "user": {"profile": {"age": [1]}}}]}, 422, "searches[0].user.profile.age"),
        ({"searches": [{"query": "a", "user": {"history": [{}]}}]}, 422, "searches[0].user.history[0].item_id"),
        ({"searches": "x" * (5 << 20)}, 413, "body"),
    ],
)
def test_one_bad_search_refuses_the_batch_and_is_named(call, batch, status, field):
    answer = asyncio.run(call("POST", "/v1/search:batch", json=batch))
    assert (answer.status_code, answer.json()["field"]) == (status, field)


def test_a_batch_of_the_largest_size_is_a_few_batches_of_the_pipeline(service, call):
    assert asyncio.run(call("POST", "/v1/search:batch", json={"searches": [ASKED] * 256})).status_code == 200
    assert service.searches == 256
    assert service.batches <= 8


@pytest.fixture
def impatient(service):
    """Calls an application that gives a body 0.1 seconds, with messages of `parts` `pause` seconds apart."""
    readers = Readers(within=0.1, every=0.02)

    async def handle(request):
        return Reply(await request.json_body())

    async def refuse(request):
        raise RuntimeError("before anything is read")

    endpoints = [Endpoint("POST", path, do, "", "open") for path, do in (("/", handle), ("/refuse", refuse))]
    app = Application(endpoints, readers=readers)

    async def send(path, parts, pause):
        sent = []
        left = list(parts)

        async def receive():
            await asyncio.sleep(pause)
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        async def take(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
        await app(scope, receive, take)
        return sent[0]["status"], dict(sent[0]["headers"]).get(b"connection")

    return send


def test_a_body_that_does_not_come_in_time_is_refused_and_others_are_not_held_up(impatient):
    async def main():
        slow = [impatient("/", [b"x"] * 100, 0.01) for _ in range(50)]
        never = impatient("/", [b"x"], 30)
        return await asyncio.wait_for(asyncio.gather(impatient("/", [b"x"] * 3, 0.001), never, *slow), 5)

    quick, *slow = asyncio.run(main())
    assert quick == (200, None)
    assert set(slow) == {(408, b"close")}


def test_the_rest_of_a_refused_body_is_not_waited_for_longer_either(impatient, caplog):
    assert asyncio.run(asyncio.wait_for(impatient("/refuse", [b"x"] * 100, 0.01), 5)) == (500, b"close")
    caplog.clear()


def test_a_cancelled_request_stays_cancelled(impatient):
    async def main():
        task = asyncio.ensure_future(impatient("/", [b"x"], 30))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

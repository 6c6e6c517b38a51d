"""The HTTP API over a small retriever, in this process."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from serving.schema import SearchResponse, Shoppers, Status
from twinspire.features.query import Query

PROBLEM = "application/problem+json"


def run(coroutine):
    return asyncio.run(coroutine)


def search(call, **body):
    return run(call("POST", "/v1/search", json=body))


def test_search_answers_with_the_best_items_first(call):
    answer = search(call, query="red shoes", k=3)
    assert answer.status_code == 200
    body = SearchResponse.model_validate(answer.json(), extra="forbid")
    assert body.items[0].item_id == "i0é"
    assert [item.score for item in body.items] == sorted((item.score for item in body.items), reverse=True)
    assert (body.arm, body.model.name, body.model.version) == ("default", "small", "3")
    assert body.took_ms >= 0


def test_items_are_small_unless_explained(call):
    plain, explained = (search(call, query="red shoes", k=2, explain=told).json() for told in (False, True))
    assert set(plain["items"][0]) == {"item_id", "score"}
    assert explained["items"][0]["title"] == "red shoes"
    assert explained["items"][0]["price"] == 0.5
    assert [item["item_id"] for item in plain["items"]] == [item["item_id"] for item in explained["items"]]
    assert explained["understood"]["query"] == "red shoes"


def test_a_shopper_changes_the_answer_and_unknown_things_are_ignored(call):
    history = [{"item_id": "i4"}, {"item_id": "?"}, {"item_id": "i4", "event": "impression"}]
    user = {"user_id": "nobody", "profile": {"x": "y", "age": 3}, "history": history}
    with_history = search(call, query="red", k=1, explain=True, user=user).json()
    assert with_history["items"][0]["title"] == "red tent"
    assert with_history["understood"]["history"] == ["i4"]
    assert with_history["understood"]["ignored_history"] == ["?", "i4"]


def test_filters_leave_the_items_that_meet_them(call):
    body = search(call, query="red shoes", k=40, explain=True, filters={"price": {"min": 3, "max": 5.5}}).json()
    assert sorted(item["price"] for item in body["items"]) == [3.5, 4.5, 5.5]
    body = search(call, query="red shoes", filters={"title": ["blue mug", "red mug"]}, explain=True).json()
    assert [item["title"] for item in body["items"]] == ["red mug", "blue mug"]
    assert search(call, query="red shoes", filters={"title": "no such title"}).json()["items"] == []
    assert len(search(call, query="red shoes", filters={}).json()["items"]) == 10


def test_more_than_the_catalogue_gives_the_whole_catalogue(call, retriever):
    assert len(search(call, query="lamp", k=1000).json()["items"]) == len(retriever.item_ids)


def test_a_history_in_the_future_is_refused(call):
    def answer(ahead: timedelta):
        moment = (datetime.now(UTC) + ahead).isoformat()
        history = [{"item_id": "i1"}, {"item_id": "i2", "event": "cart", "timestamp": moment}]
        return search(call, query="red", user={"history": history})

    refused = answer(timedelta(minutes=6))
    assert refused.status_code == 422
    assert refused.json()["field"] == "user.history[1].timestamp"
    assert "must not be in the future" in refused.json()["detail"]
    assert answer(timedelta(minutes=4)).status_code == 200, "two clocks differ a little"


def test_history_is_put_in_order_where_every_event_has_a_time(service):
    from serving.schema import User
    from serving.service import to_shopper

    times = ["2026-03-01T00:00:00", "2026-01-01T00:00:00+02:00", "2026-02-01T00:00:00Z"]
    events = [{"item_id": str(i), "timestamp": time} for i, time in enumerate(times)]
    shopper = to_shopper(User.model_validate_json(json.dumps({"history": events})))
    assert [event.item_id for event in shopper.history] == ["1", "2", "0"]
    del events[0]["timestamp"]
    shopper = to_shopper(User.model_validate_json(json.dumps({"history": events})))
    assert [event.item_id for event in shopper.history] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ('{"query": "a', 400, "body"),
        (b'{"query": "\xff"}', 400, "body"),
        (r'{"query": "\ud800"}', 400, "body"),
        ("[" * 100_000, 400, "body"),
        ("", 400, "body"),
        ("[]", 422, "body"),
        ("null", 422, "body"),
        ("{}", 422, "query"),
        ('{"query": ""}', 422, "query"),
        ('{"query": " \\u2003"}', 422, "query"),
        ('{"query": "a\\u0000b"}', 422, "query"),
        ('{"query": 3}', 422, "query"),
        ('{"query": "%s"}' % ("x" * 1001), 422, "query"),
        ('{"query": "a", "k": 0}', 422, "k"),
        ('{"query": "a", "k": 1001}', 422, "k"),
        ('{"query": "a", "k": 1e400}', 422, "k"),
        ('{"query": "a", "k": NaN}', 422, "k"),
        ('{"query": "a", "k": true}', 422, "k"),
        ('{"query": "a", "k": "5"}', 422, "k"),
        ('{"query": "a", "filters": []}', 422, "filters"),
        ('{"query": "a", "filters": {"colour": "red"}}', 422, "filters.colour"),
        ('{"query": "a", "filters": {"price": "cheap"}}', 422, "filters.price"),
        ('{"query": "a", "filters": {"price": {"least": 3}}}', 422, "filters.price"),
        ('{"query": "a", "filters": {"price": []}}', 422, "filters.price"),
        ('{"query": "a", "filters": {"title": {"min": 3}}}', 422, "filters.title"),
        ('{"query": "a", "filters": {"title": [null]}}', 422, "filters.title"),
        ('{"query": "a", "arm": "other"}', 422, "arm"),
        ('{"query": "a", "colour": 1}', 422, "colour"),
        ('{"query": "a", "user": []}', 422, "user"),
        ('{"query": "a", "user": {"profile": {"age": NaN}}}', 422, "user.profile.age"),
        ('{"query": "a", "user": {"profile": {"age": [1]}}}', 422, "user.profile.age"),
        ('{"query": "a", "user": {"history": [{}]}}', 422, "user.history[0].item_id"),
        ('{"query": "a", "user": {"history": [{"item_id": "i", "event": "x"}]}}', 422, "user.history[0].event"),
        ('{"query": "a", "user": {"history": [{"item_id": "i", "timestamp": 5}]}}', 422, "user.history[0].timestamp"),
        ('{"query": "a", "pad": "%s"}' % ("x" * (1 << 20)), 413, "body"),
    ],
)
def test_a_bad_search_is_refused_and_the_field_named(call, body, status, field):
    answer = run(call("POST", "/v1/search", content=body, headers={"content-type": "application/json"}))
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"], problem["field"]) == (status, PROBLEM, field)
    assert problem["status"] == status
    assert "\n" not in problem["detail"]


def test_a_body_that_grows_past_the_limit_without_saying_so_is_refused(call):
    async def parts():
        for _ in range(3):
            yield b"x" * (1 << 19)

    assert run(call("POST", "/v1/search", content=parts())).status_code == 413


@pytest.mark.parametrize(("path", "status"), [("/v1/search", 413), ("/nothing", 404)])
@pytest.mark.parametrize(("megabytes", "kept"), [(2, True), (15, True), (40, False)])
def test_what_is_refused_is_read_to_its_end_or_its_connection_closed(call, path, status, megabytes, kept):
    taken = 0

    async def parts():
        nonlocal taken
        for _ in range(megabytes):
            taken += 1
            yield b"x" * (1 << 20)

    headers = {"content-length": str(megabytes << 20)}
    answer = run(call("POST", path, content=parts(), headers=headers))
    assert (answer.status_code, answer.headers.get("connection")) == (status, None if kept else "close")
    assert taken == megabytes if kept else taken < 20


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/search", {}, 405),
        ("DELETE", "/", {}, 405),
        ("POST", "/v1/status", {}, 405),
        ("GET", "/v1/search/", {}, 404),
        ("GET", "/nothing%00%ff", {}, 404),
        ("GET", "/v1/shoppers?n=0", {}, 422),
        ("GET", "/v1/shoppers?n=many", {}, 422),
        ("GET", "/v1/shoppers?n=", {}, 422),
        ("GET", "/v1/shoppers?n=99999999999999999999", {}, 422),
        ("POST", "/v1/search", {"content-type": "text/plain"}, 415),
        ("POST", "/v1/search", {"content-type": "application/json", "content-encoding": "gzip"}, 415),
    ],
)
def test_every_refusal_is_a_problem(call, method, path, headers, status):
    answer = run(call(method, path, headers=headers, content=b"{}" if method == "POST" else None))
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    if status == 405:
        assert answer.headers["allow"]


def test_not_ready_until_warm(service, retriever, call):
    service.versions.drop("default")
    assert run(call("GET", "/readyz")).status_code == 503
    assert search(call, query="a").status_code == 503
    assert run(call("GET", "/healthz")).status_code == 200
    service.put("default", retriever)
    assert run(call("GET", "/readyz")).status_code == 200


def test_status_counts_and_shoppers_have_titles(call):
    search(call, query="a")
    search(call, query="")
    status = Status.model_validate(run(call("GET", "/v1/status")).json(), extra="forbid")
    assert (status.searches, status.refused, status.failed) == (1, 1, 0)
    shoppers = Shoppers.model_validate(run(call("GET", "/v1/shoppers?n=2")).json()).shoppers
    assert len(shoppers) == 2
    assert shoppers[1].history[0].title == "red lamp"


def test_the_request_id_is_the_callers_where_it_is_harmless(call):
    for given, kept in [("abc-1", True), ('a"b', False), ("x" * 200, False)]:
        answer = run(call("POST", "/v1/search", json={"query": "a"}, headers={"x-request-id": given}))
        assert (answer.json()["request_id"] == given) is kept


@pytest.mark.parametrize("stage", ["ask", "nearest"])
def test_one_failing_search_does_not_fail_its_neighbours(service, retriever, call, caplog, stage):
    ask, nearest = retriever.ask, retriever.nearest
    bad = ask([Query("bad")])[0].vectors

    def sometimes_ask(queries):
        if any(query.text == "bad" for query in queries):
            raise ValueError("no")
        return ask(queries)

    def sometimes_nearest(asked, k):
        if any((one.vectors == bad).all() for one in asked):
            raise ValueError("no")
        return nearest(asked, k)

    setattr(retriever, stage, {"ask": sometimes_ask, "nearest": sometimes_nearest}[stage])

    async def both():
        return await asyncio.gather(
            *(call("POST", "/v1/search", json={"query": query}) for query in ("good", "bad", "good"))
        )

    answers = run(both())
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert answers[1].headers["content-type"] == PROBLEM
    assert "no" not in answers[1].json()["detail"].split()


def test_head_has_no_body(call):
    answer = run(call("HEAD", "/healthz"))
    assert (answer.status_code, answer.content) == (200, b"")

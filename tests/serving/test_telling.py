"""Headers, request ids, the log and the metrics: what goes out beside the answers."""

import asyncio
import base64
import hashlib
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.logs import MOST_A_SECOND, RequestLog
from serving.metrics import SECONDS, Histogram

EVERYWHERE = [("GET", "/"), ("GET", "/healthz"), ("GET", "/v1/status"), ("GET", "/none"), ("POST", "/v1/search")]


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
def test_every_reply_has_careful_headers_and_the_request_id(call, method, path):
    answer = asyncio.run(call(method, path, headers={"x-request-id": "r-1"}))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["cache-control"] == ("no-cache" if path == "/" else "no-store")
    assert "server" not in answer.headers


def test_an_unfit_request_id_is_replaced_in_header_and_body_alike(call):
    asked = {"json": {"query": "a"}, "headers": {"x-request-id": 'a"b'}}
    answer = asyncio.run(call("POST", "/v1/search", **asked))
    assert answer.headers["x-request-id"] == answer.json()["request_id"] != 'a"b'


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_may_run_what_is_in_it_and_nothing_else(call, path):
    answer = asyncio.run(call("GET", path))
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    for tag in ("script", "style"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"<[^>]+\s(style|on\w+)=", answer.text), "the policy allows no inline attributes"


def lines(caplog):
    return [json.loads(record.message) for record in caplog.records if record.name == "serving.requests"]


def test_refused_requests_are_logged_without_their_secrets_and_good_ones_are_not(call, caplog):
    asyncio.run(call("POST", "/v1/search", json={"query": "a"}))
    assert lines(caplog) == []
    secret = {"headers": {"authorization": "Bearer secret", "x-request-id": "r1"}, "json": {"query": "secret", "k": 0}}
    asyncio.run(call("POST", "/v1/search?secret", **secret))
    (line,) = lines(caplog)
    told = {"request_id": "r1", "method": "POST", "path": "/v1/search", "status": 422, "field": "k"}
    assert line.items() >= told.items()
    assert line["took_ms"] > 0
    assert "secret" not in caplog.text


def test_slow_requests_are_logged_with_their_arm(service, caplog):
    from serving.endpoints import application

    app = application(service, log=RequestLog(slow_ms=0.0001))

    async def ask():
        async def receive():
            return {"type": "http.request", "body": b'{"query": "a"}'}

        async def send(message):
            pass

        await app({"type": "http", "method": "POST", "path": "/v1/search", "headers": []}, receive, send)

    asyncio.run(ask())
    (line,) = lines(caplog)
    assert (line["status"], line["arm"]) == (200, "default")


@given(path=st.text(st.characters(), max_size=300))
def test_any_path_can_be_logged(path):
    from serving.application import Application

    async def ask():
        async def receive():
            return {"type": "http.request"}

        async def send(message):
            assert message.get("status", 404) == 404

        await Application([])({"type": "http", "method": "GET", "path": "/" + path, "headers": []}, receive, send)

    asyncio.run(ask())


def test_a_flood_of_refusals_is_cut_short_and_said_so(caplog):
    now = 0.0
    log = RequestLog(clock=lambda: now)
    for _ in range(MOST_A_SECOND + 7):
        log.write(status=503)
    now = 1.0
    log.write(status=503)
    log.write(status=503)
    told = lines(caplog)
    assert len(told) == MOST_A_SECOND + 2
    assert [line.get("left_out") for line in told[-2:]] == [7, None]


def test_lines_go_to_a_file_of_the_folder(tmp_path):
    from serving import logs

    before = list(logs.logger.handlers)
    try:
        logs.keep(str(tmp_path / "logs"))
        RequestLog().write(status=500)
        (file,) = (tmp_path / "logs").iterdir()
        assert json.loads(file.read_text())["status"] == 500
    finally:
        for handler in set(logs.logger.handlers) - set(before):
            logs.logger.removeHandler(handler)
            handler.close()
        logs.logger.propagate = True


@given(parts=st.lists(st.lists(st.floats(0, 10), max_size=30), max_size=5))
def test_a_histogram_counts_what_is_at_most_each_bound(parts):
    histogram = Histogram(SECONDS)
    for part in parts:
        histogram.add(part)
    values = np.array([value for part in parts for value in part])
    counts, total = histogram.read()
    assert counts == [int((values <= bound).sum()) for bound in SECONDS] + [len(values)]
    assert total == pytest.approx(values.sum())


def test_a_histogram_that_nobody_reads_does_not_grow(monkeypatch):
    histogram = Histogram(SECONDS)
    for _ in range(100):
        histogram.add([0.001] * 1000)
    assert len(histogram._new) < 20_000
    assert histogram.read()[0][-1] == 100_000


def test_a_search_is_measured_stage_by_stage(service, call):
    async def main():
        await asyncio.gather(*(call("POST", "/v1/search", json={"query": "red"}) for _ in range(5)))

    asyncio.run(main())
    metrics = service.versions.of(None).metrics
    seen = {stage: histogram.read() for stage, histogram in metrics.stages.items()}
    assert seen["wait"][0][-1] == seen["total"][0][-1] == service.searches == 5
    assert seen["encode"][0][-1] == seen["search"][0][-1] == metrics.sizes.read()[0][-1] == service.batches
    assert metrics.sizes.read()[1] == 5
    assert seen["total"][1] >= seen["wait"][1]
    assert metrics.empty == 0

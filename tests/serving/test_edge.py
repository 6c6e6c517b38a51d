import asyncio

import pytest

from serving.edge import middlewares

UNWATCHED = (b"x-request-disconnect-disabled", b"?1")


def passed_on(path, headers):
    (middleware,) = middlewares()
    seen = []

    async def inner(scope, receive, send):
        seen.extend(scope["headers"])

    scope = {"type": "http", "path": path, "headers": headers}
    asyncio.run(middleware.cls(inner)(scope, None, None))
    return seen


@pytest.mark.parametrize(
    "header",
    [(b"x-request-id", b"\xff\xfe"), (b"\xff", b"a"), (b"x-request-timeout-seconds", b"inf"), (UNWATCHED[0], b"?1")],
)
def test_headers_that_serve_may_fail_on_are_taken_out(header):
    kept = (b"content-type", b"application/json")
    assert passed_on("/v1/status", [header, kept]) == [kept]


def test_searches_are_not_watched_for_callers_who_hang_up():
    assert passed_on("/v1/search", []) == [UNWATCHED]
    assert passed_on("/v1/feedback", []) == []

"""Who may do what, over the application."""

import asyncio
import hashlib

import httpx
import pytest

from serving.application import Application, Endpoint
from serving.endpoints import application
from serving.gate import Gate
from serving.keys import KeyRing
from serving.limits import RateLimiter
from serving.request import Reply

SHOP, OPS, WRONG = (b"0123456789abcdef-" + name for name in (b"shop", b"ops", b"wrong"))
OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")
ASKED = {"query": "red shoes"}


def ring(**keys):
    return KeyRing({name: hashlib.sha256(key).digest() for name, key in keys.items()})


KEYS, ADMINS = ring(shop=SHOP), ring(ops=OPS)


@pytest.fixture
def ask(service):
    """`ask(gate, method, path, **kwargs)` of an application behind `gate`; the same gate has the same application."""
    apps = {}

    def send(gate, method, path, key=None, **kwargs):
        app = apps.setdefault(id(gate), application(service, gate=gate))
        headers = {"authorization": b"Bearer " + key} if key else {}

        async def go():
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://twinspire") as client:
                return await client.request(method, path, headers=headers | kwargs.pop("headers", {}), **kwargs)

        return asyncio.run(go())

    return send


def test_with_keys_only_their_holders_and_administrators_search(ask):
    gate = Gate(KEYS, ADMINS)
    for key, status in [(None, 401), (WRONG, 401), (b"", 401), (SHOP, 200), (OPS, 200)]:
        answer = ask(gate, "POST", "/v1/search", key, json=ASKED)
        assert answer.status_code == status
        if status == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["field"] == "authorization"
            assert WRONG.decode() not in answer.text
    assert ask(gate, "POST", "/v1/search", headers={"x-api-key": SHOP}, json=ASKED).status_code == 200
    assert ask(gate, "POST", "/v1/search", headers={"authorization": b"Basic " + SHOP}, json=ASKED).status_code == 401


def test_what_tells_of_shoppers_and_of_the_server_needs_a_key_too_and_pages_and_health_do_not(ask):
    gate = Gate(KEYS)
    for path in ("/v1/shoppers", "/v1/status"):
        assert ask(gate, "GET", path).status_code == 401
        assert ask(gate, "GET", path, SHOP).status_code == 200
    assert [ask(gate, "GET", path).status_code for path in OPEN] == [200] * len(OPEN)


@pytest.mark.parametrize("path", ["/v1/admin/", "/v1/admin/bundle", "/v1/admin/x/y"])
def test_nobody_administers_without_an_admin_key_whether_there_is_anything_or_not(ask, path):
    told = ask(Gate(KEYS), "POST", path, SHOP)
    assert told.status_code == 403
    assert "--admin-keys" in told.json()["detail"]
    assert ask(Gate(), "GET", path).status_code == 403
    gate = Gate(KEYS, ADMINS)
    assert [ask(gate, "GET", path, key).status_code for key in (None, WRONG, SHOP, OPS)] == [401, 401, 403, 404]


def test_an_endpoint_for_administrators_answers_them_only(service):
    async def handle(request):
        return Reply(request.caller.encode())

    endpoint = Endpoint("GET", "/v1/admin/who", handle, "Who.", "admin")
    app = Application([endpoint], gate=Gate(KEYS, ADMINS))

    async def go(key):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://t") as client:
            return await client.get("/v1/admin/who", headers={"x-api-key": key})

    assert asyncio.run(go(OPS)).text == "ops"
    assert asyncio.run(go(SHOP)).status_code == 403


def test_an_endpoint_under_admin_cannot_be_made_for_others():
    with pytest.raises(ValueError, match="admin"):
        Endpoint("GET", "/v1/admin/who", None, "Who.")


def test_over_the_rate_is_429_until_the_time_told_and_others_are_not_held_up(ask):
    clock = Clock()
    gate = Gate(ring(a=SHOP, b=OPS), limiter=RateLimiter(2, clock))
    statuses = [ask(gate, "POST", "/v1/search", SHOP, json=ASKED).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = ask(gate, "POST", "/v1/search", SHOP, json=ASKED)
    assert refused.headers["retry-after"] == "1"
    assert ask(gate, "POST", "/v1/search", OPS, json=ASKED).status_code == 200
    assert ask(gate, "GET", "/healthz").status_code == 200
    clock.now += 1
    assert ask(gate, "POST", "/v1/search", SHOP, json=ASKED).status_code == 200


def test_a_batch_counts_as_its_searches(ask):
    clock = Clock()
    gate = Gate(limiter=RateLimiter(10, clock))
    batch = {"searches": [ASKED] * 100}
    assert ask(gate, "POST", "/v1/search:batch", json=batch).status_code == 200
    clock.now += 5
    assert ask(gate, "POST", "/v1/search", json=ASKED).status_code == 429
    clock.now += 5
    assert ask(gate, "POST", "/v1/search", json=ASKED).status_code == 200


class Clock:
    now = 0.0

    def __call__(self):
        return self.now

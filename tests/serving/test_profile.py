"""A profile means over HTTP what it means in the users table, whatever the columns hold."""

import asyncio

import httpx
import polars as pl
import pytest
import tiny_shop

from serving.endpoints import application
from serving.schema import Shoppers
from serving.service import Service
from twinspire.bundle import Bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Trained on shoppers whose gender is a number, with a truth value beside it."""
    folder = tmp_path_factory.mktemp("profiles")
    data = tiny_shop.write_dataset(folder / "shop")
    users = pl.read_parquet(data / "users.parquet")
    told = {"segment": pl.col("gender").replace_strict({"f": 1, "m": 2}, return_dtype=pl.Int64)}
    told |= {"older": pl.col("age_band") == "31-60", "size": pl.when(pl.col("gender") == "f").then(1.5)}
    users.select("user_id", **told).write_parquet(data / "users.parquet")
    return Bundle.load(tiny_shop.fit_without_ray(data, folder / "bundle"))


@pytest.fixture
def ask(bundle, tmp_path):
    service = Service(tmp_path / "events")
    service.put("default", bundle)
    transport = httpx.ASGITransport(app=application(service))

    def send(method, path, **kwargs):
        async def once():
            async with httpx.AsyncClient(transport=transport, base_url="http://twinspire") as client:
                return await client.request(method, path, **kwargs)

        answer = asyncio.run(once())
        assert answer.status_code == 200, answer.text
        return answer.json()

    yield send
    service.close()


def items(ask, **user):
    """Scores of the best 20 by item; the same query may sum up in another order."""
    found = ask("POST", "/v1/search", json={"query": "shoes", "k": 20, "user": user})["items"]
    return {item["item_id"]: item["score"] for item in found}


def same(one, other):
    return one == pytest.approx(other, abs=1e-5)


def test_what_the_server_tells_of_a_shopper_can_be_sent_back(ask):
    body = ask("GET", "/v1/shoppers?n=8")
    Shoppers.model_validate(body, extra="forbid")
    seen = {frozenset(shopper["profile"].items()) for shopper in body["shoppers"]}
    assert {type(value) for profile in seen for _, value in profile} == {int, bool, float}
    for shopper in body["shoppers"]:
        told = items(ask, profile=shopper["profile"])
        assert same(told, items(ask, user_id=shopper["user_id"], history=[]))
        assert not same(told, items(ask, profile={}))


def test_a_whole_number_may_come_as_a_fraction_or_text(ask):
    one = items(ask, profile={"segment": 1})
    assert same(one, items(ask, profile={"segment": 1.0}))
    assert same(one, items(ask, profile={"segment": "1"}))
    assert not same(one, items(ask, profile={"segment": 2}))


def test_null_is_unknown(ask):
    assert same(items(ask, profile={"segment": None, "older": None, "size": None}), items(ask, profile={}))

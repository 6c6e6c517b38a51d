"""MLflow's webhooks: what is signed with the secret makes replicas look at once, all else is refused."""

import asyncio
import json
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.webhooks.delivery import _generate_hmac_signature as mlflow_signs

from serving.endpoints import application
from serving.follow import Follower
from serving.sources import Sources
from serving.wanted import ArmsFile
from serving.webhook import MAX_NOTICE, OLDEST_S, PATH, Signed, read_secret
from twinspire.errors import ConfigError

SECRET = "a secret of some length"
MOVED = json.dumps(
    {
        "entity": "model_version_alias",
        "action": "created",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "data": {"name": "shop", "alias": "champion", "version": "2"},
    }
)
OTHER = json.dumps({"entity": "registered_model", "action": "created", "data": {"name": "shop"}})


class Told:
    """An application that follows two arms of folders that are never asked, and what it looked at."""

    def __init__(self, service, folder):
        self.file = ArmsFile(folder / "state")
        self.file.start({"default": "a"})
        service.follower = Follower(service, self.file, Sources(lambda address: None), 3600.0)
        self.app = application(service, webhook=Signed(SECRET.encode()))
        self.without = application(service)

    def looked(self):
        before, self.seen = getattr(self, "seen", None), self.file.stamp
        return before != self.seen

    def send(self, body=MOVED, *, secret=SECRET, off=0.0, app=None, **headers):
        stamp = str(int(time.time() + off))
        signed = {
            "x-mlflow-signature": mlflow_signs(secret, "delivery", stamp, body),
            "x-mlflow-timestamp": stamp,
            "x-mlflow-delivery-id": "delivery",
            "content-type": "application/json",
        }
        given = {name: value for name, value in (signed | headers).items() if value is not None}

        async def go():
            transport = httpx.ASGITransport(app=app or self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://twinspire") as client:
                return await client.post(PATH, content=body, headers=given)

        return asyncio.run(go())


@pytest.fixture
def told(service, tmp_path):
    made = Told(service, tmp_path)
    made.looked()
    return made


def test_a_moved_alias_makes_every_replica_look(told):
    answer = told.send()
    assert (answer.status_code, answer.json()) == (202, {"status": "looking"})
    assert told.looked()
    other = told.send(OTHER)
    assert (other.status_code, other.json()) == (202, {"status": "ignored"})
    assert not told.looked()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"secret": "another secret of length"}, "x-mlflow-signature"),
        ({"x-mlflow-signature": None}, "x-mlflow-signature"),
        ({"x-mlflow-signature": "v1,"}, "x-mlflow-signature"),
        ({"x-mlflow-signature": "v1,not base64!"}, "x-mlflow-signature"),
        ({"x-mlflow-signature": "v2,aGFsbG8="}, "x-mlflow-signature"),
        ({"x-mlflow-delivery-id": "another"}, "x-mlflow-signature"),
        ({"x-mlflow-timestamp": "1"}, "x-mlflow-signature"),
        ({"off": -OLDEST_S - 5}, "x-mlflow-timestamp"),
        ({"off": OLDEST_S + 60}, "x-mlflow-timestamp"),
    ],
)
def test_what_is_not_signed_with_the_secret_now_is_refused(told, changes, field):
    answer = told.send(**changes)
    assert answer.status_code == 401
    assert answer.json()["field"] == field
    assert SECRET not in answer.text
    assert not told.looked()


def test_a_changed_body_is_refused(told):
    stamp = str(int(time.time()))
    signature = mlflow_signs(SECRET, "delivery", stamp, OTHER)
    answer = told.send(MOVED, **{"x-mlflow-signature": signature, "x-mlflow-timestamp": stamp})
    assert answer.status_code == 401


def test_one_of_several_signatures_is_enough_while_a_secret_is_changed(told):
    stamp = str(int(time.time()))
    both = " ".join(mlflow_signs(secret, "delivery", stamp, MOVED) for secret in ("the other one of both", SECRET))
    assert told.send(MOVED, **{"x-mlflow-signature": both, "x-mlflow-timestamp": stamp}).status_code == 202


def test_a_signed_body_that_is_no_notice_and_one_too_large(told):
    assert told.send("{").status_code == 400
    assert told.send("{}").status_code == 422
    assert told.send('"' + "x" * MAX_NOTICE + '"').status_code == 413


def test_without_a_secret_there_is_nothing_at_the_path(told):
    assert told.send(app=told.without).status_code == 404


@given(signature=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])), stamp=st.text("0123456789.-x"))
def test_no_signature_and_no_time_is_a_defect(signature, stamp):
    headers = {b"x-mlflow-signature": signature.encode("latin-1"), b"x-mlflow-timestamp": stamp.encode()}
    headers |= {b"x-mlflow-delivery-id": b"delivery"}

    class Asked:
        header = staticmethod(headers.get)

    with pytest.raises(Exception, match="401"):
        Signed(SECRET.encode()).check(Asked, MOVED.encode())


def test_the_secret_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("TWINSPIRE_WEBHOOK_SECRET", raising=False)
    assert read_secret(None) is None
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    assert read_secret(str(tmp_path / "secret"))._secret == SECRET.encode()
    monkeypatch.setenv("TWINSPIRE_WEBHOOK_SECRET", SECRET)
    assert read_secret(None)._secret == SECRET.encode()
    for text in ("", "short"):
        (tmp_path / "secret").write_text(text)
        with pytest.raises(ConfigError, match="at least 16 characters"):
            read_secret(str(tmp_path / "secret"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_secret(str(tmp_path / "nothing"))

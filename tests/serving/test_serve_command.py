"""`twinspire serve` as a user meets it: a process of its own, real Ray Serve, HAProxy, a real bundle."""

import json
import re
import shutil
import signal
import socket
import subprocess
import time

import httpx
import polars as pl
import pytest
from running import COMMAND, Running

from twinspire import processes
from twinspire.bundle import Bundle
from twinspire.experiments.compact import Compactor
from twinspire.features.query import Query

pytestmark = pytest.mark.ray


@pytest.mark.timeout(300)
@pytest.mark.parametrize("proxy", ["haproxy", pytest.param("http", marks=pytest.mark.slow)])
def test_serves_until_it_is_told_to_end_and_leaves_nothing(tiny_bundle, tmp_path, proxy):
    server = Running(tiny_bundle, tmp_path, "--proxy", proxy)
    server.wait_until_ready()
    left = None
    try:
        with httpx.Client(base_url=server.url) as client:
            answer = client.post("/v1/search", json={"query": "red shoes", "k": 5}).json()
            expected = Bundle.load(tiny_bundle)
            rows = expected.search([Query("red shoes")], 5).items[0]
            assert [item["item_id"] for item in answer["items"]] == [expected.item_ids[row] for row in rows]
            assert answer["model"] == {"name": expected.manifest.name, "version": expected.manifest.version}

            for content, status in [(b'{"query": ""}', 422), (b"{", 400), (b"x" * (1 << 21), 413)]:
                refused = client.post("/v1/search", content=content, headers={"content-type": "application/json"})
                assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")

            if proxy == "haproxy":
                strange = {"x-request-id": b"\xff\xfe", "x-request-timeout-seconds": "inf"}
                assert client.post("/v1/search", json={"query": "", "k": 1}, headers=strange).status_code == 422

            told = {"request_id": answer["request_id"], "event": "click", "item_id": answer["items"][0]["item_id"]}
            assert client.post("/v1/feedback", json=told).status_code == 202
            (segment,) = (tmp_path / "events" / ".wal").glob("*.wal")
            assert told["item_id"].encode() in segment.read_bytes()

            assert "search" in client.get("/").text
            status = client.get("/v1/status").json()
            assert (status["failed"], status["searches"]) == (0, 1)
            shopper = client.get("/v1/shoppers?n=1").json()["shoppers"][0]
            personal = client.post("/v1/search", json={"query": "shoes", "user": {"user_id": shopper["user_id"]}})
            assert personal.status_code == 200
        haproxy = processes.naming("haproxy.cfg") & processes.descendants(server.process.pid)
        assert bool(haproxy) is (proxy == "haproxy")
    finally:
        left = server.end(signal.SIGINT)
    assert server.process.returncode == 0, server.log.read_text()
    assert not left
    Compactor(tmp_path / "events").run()
    (row,) = pl.read_parquet(tmp_path / "events" / "interactions").to_dicts()
    assert (row["query"], row["item_id"], row["request_id"]) == ("red shoes", told["item_id"], told["request_id"])
    processes.require_free("127.0.0.1", server.port)
    log = server.log.read_text()
    assert f"{server.url}/docs" in log
    assert "Traceback" not in log
    assert len(log.splitlines()) < 15, log


KEY, ADMIN_KEY = "0123456789abcdef-shop", "0123456789abcdef-ops"


def slow_clients(port, count):
    """Connections that have sent a request's head and then send its body byte by byte, never to its end."""
    head = f"POST /v1/search HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: 1000\r\n\r\n".encode()
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    for connection in connections:
        connection.sendall(head)
    return connections


def wait_for(what, within):
    deadline = time.monotonic() + within
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.5)
    return found


@pytest.mark.timeout(300)
def test_keys_slow_clients_log_and_metrics(tiny_bundle, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"shop:{KEY}\n")
    server = Running(
        tiny_bundle,
        tmp_path,
        *("--api-keys", str(keys), "--log-dir", str(tmp_path / "logs"), "--max-wait-ms", "2000"),
        environment={"TWINSPIRE_ADMIN_KEYS": f"ops:{ADMIN_KEY}"},
    )
    server.wait_until_ready()
    try:
        with httpx.Client(base_url=server.url, headers={"x-api-key": KEY}) as client:
            assert client.post("/v1/search", json={"query": "a"}, headers={"x-api-key": "wrong"}).status_code == 401
            admin = [client.get("/v1/admin/", headers={"x-api-key": key}).status_code for key in (KEY, ADMIN_KEY)]
            assert admin == [403, 404]

            slow = slow_clients(server.port, 500)
            for _ in range(20):
                for one in slow[::25]:
                    one.sendall(b"x")
                answer = client.post("/v1/search", json={"query": "red shoes"}, timeout=2)
                assert answer.status_code == 200
            assert answer.headers.get_list("x-request-id") == [answer.json()["request_id"]]
            slow[0].settimeout(30)
            assert b" 408 " in slow[0].recv(4096)
            for one in slow:
                one.close()

            batch = client.post("/v1/search:batch", json={"searches": [{"query": "red shoes"}] * 256})
            assert len(batch.json()["results"]) == 256
            assert client.get("/v1/status").json()["failed"] == 0
        (file,) = (tmp_path / "logs").iterdir()
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [line["status"] for line in lines[:3]] == [401, 403, 404]
        assert lines[2]["key"] == "ops"

        metrics = re.search(r"^  metrics +(\S+)$", server.log.read_text(), re.MULTILINE)[1]
        text = wait_for(lambda: "twinspire_searches" in (told := httpx.get(metrics).text) and told, 60)
        assert re.search(r'twinspire_seconds_bucket\{.*le="\+Inf".*stage="search"', text)
        assert re.search(r'twinspire_index_age_seconds\{.*arm="default".*version=', text)
        for secret in (KEY, ADMIN_KEY):
            assert secret not in server.log.read_text() + file.read_text() + text
    finally:
        left = server.end(signal.SIGINT)
    assert not left


def refused(*arguments):
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert (ended.returncode, len(errors)) == (2, 1), ended.stderr
    assert "Traceback" not in ended.stderr
    return errors[0]


def test_a_port_in_use_is_refused(tiny_bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in refused("--bundle", str(tiny_bundle), "--port", str(port))


def test_a_file_without_keys_is_refused(tiny_bundle, tmp_path):
    (tmp_path / "keys").write_text("# none\n")
    given = ("--bundle", str(tiny_bundle), "--api-keys", str(tmp_path / "keys"))
    assert "no key" in refused(*given, "--port", str(processes.free_port()))


def test_a_folder_without_a_bundle_is_refused(tmp_path):
    assert "manifest.json" in refused("--bundle", str(tmp_path), "--port", str(processes.free_port()))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_damaged_bundle_is_refused_with_its_reason(tiny_bundle, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    victim = next(path for path in sorted(damaged.rglob("*.safetensors")))
    victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    assert victim.name in refused("--bundle", str(damaged), "--port", str(processes.free_port()))

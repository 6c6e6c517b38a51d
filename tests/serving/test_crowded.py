"""The real server, asked for several times what it carries by thousands of connections at once."""

import csv
import json
import socket
from pathlib import Path

import pytest
from running import Running

from benchmarks.over_http.open_loop import measure

pytestmark = [pytest.mark.ray, pytest.mark.slow]
WORDS = ("red shoes", "blue mug", "tent", "acme lamp")
SECONDS, CONNECTIONS = 5.0, 3000


def asked_of(server):
    """How many requests HAProxy has sent to each of its servers since it last read its configuration."""
    (owner,) = (one for one in Path("/tmp").glob("twinspire-*/owner") if one.read_text() == str(server.process.pid))
    (path,) = owner.parent.glob("*/admin.sock")
    with socket.socket(socket.AF_UNIX) as haproxy:
        haproxy.connect(str(path))
        haproxy.sendall(b"show stat\n")
        told = b"".join(iter(lambda: haproxy.recv(65536), b"")).decode().lstrip("# ")
    rows = csv.DictReader(told.splitlines())
    return {row["svname"]: int(row["stot"]) for row in rows if row["svname"].startswith("SERVE_")}


@pytest.mark.timeout(300)
def test_under_several_times_the_load_it_goes_on_answering_as_many_and_refuses_the_others_soon(hybrid_bundle, tmp_path):
    # To explain an answer takes longer than to find it, so that this client can ask for much more than is carried.
    bodies = [json.dumps({"query": word, "k": 20, "explain": True}).encode() for word in WORDS]
    server = Running(hybrid_bundle, tmp_path, "--max-wait-ms", "200")
    server.wait_until_ready()
    try:
        url = f"{server.url}/v1/search"
        measure(url, bodies, 100, 2.0)
        alone = measure(url, bodies, 3000, SECONDS, 32).summary(SECONDS)
        crowded = measure(url, bodies, 3 * alone["answered a second"], SECONDS, CONNECTIONS).summary(SECONDS)
        asked = asked_of(server)
    finally:
        server.process.terminate()
        server.process.wait(60)
    assert set(alone["status"]) == {"200"}
    assert set(crowded["status"]) == {"200", "503"}
    assert crowded["answered a second"] > alone["answered a second"] / 3
    assert crowded["p99_ms"] < 2000
    assert {name: count for name, count in asked.items() if "fallback" in name.lower() and count} == {}

"""The real server under a load step: Serve starts replicas and ends them by the searches that are at work."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from benchmarks.over_http.open_loop import measure
from twinspire import processes

pytestmark = [pytest.mark.ray, pytest.mark.slow]
# Each takes a replica some milliseconds, so that this client can have more of them at work than one replica should.
SEARCHES = [{"query": word, "k": 20, "explain": True} for word in ("red shoes", "blue mug", "tent", "lamp", "acme")]
BODY = json.dumps({"searches": SEARCHES}).encode()
SERVER = """
import sys, time
from serving.launch import Options, Server
bundle, port, events = sys.argv[1:4]
options = Options(bundle, port=int(port), events_dir=events, max_replicas=2, upscale_s=1.0, downscale_s=3.0)
with Server(options) as server:
    from ray import serve
    print(server.metrics_url, flush=True)
    while True:
        deployments = [one for app in serve.status().applications.values() for one in app.deployments.values()]
        print(sum(one.replica_states.get("RUNNING", 0) for one in deployments), flush=True)
        try:
            time.sleep(0.3)
        except KeyboardInterrupt:
            break
"""


@pytest.mark.timeout(300)
def test_a_second_replica_comes_under_load_and_goes_after_it(hybrid_bundle, tmp_path):
    port = processes.free_port()
    command = [sys.executable, "-c", SERVER, str(hybrid_bundle), str(port), str(tmp_path / "events")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    running = queue.Queue()
    reader = threading.Thread(target=lambda: [running.put(line.strip()) for line in server.stdout], daemon=True)
    reader.start()

    def until(count, seconds):
        deadline = time.monotonic() + seconds
        while running.get(timeout=seconds) != str(count):
            assert time.monotonic() < deadline, f"not {count} replicas within {seconds} seconds"

    try:
        metrics = running.get(timeout=120)
        until(1, 120)
        while not running.empty():
            running.get()
        statuses = []
        load = threading.Thread(
            target=lambda: statuses.extend(
                measure(f"http://127.0.0.1:{port}/v1/search:batch", [BODY], 1000, 30.0, 256).status
            )
        )
        load.start()
        try:
            until(2, 45)
        finally:
            load.join()
        until(1, 60)
        told = httpx.get(metrics).text.splitlines()
        by_status = [line for line in told if line.startswith("ray_serve_num_http_requests_total")]
        processed = [line for line in told if line.startswith("ray_serve_deployment_request_counter_total")]
        assert any('route="/v1/search:batch"' in line for line in processed)
        # Serve's own handling would count them here too: they have gone past it.
        assert not any('route="/v1/search:batch"' in line for line in by_status)
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) > 300
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
        reader.join()
        server.stdout.close()

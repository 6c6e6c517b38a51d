"""The real server, killed at random under load: nothing acknowledged is lost, nothing counted twice."""

import os
import random
import signal
import threading
import time

import httpx
import polars as pl
import pytest
import yaml
from running import Running

from twinspire import processes
from twinspire.experiments.compact import Compactor

pytestmark = [pytest.mark.ray, pytest.mark.slow]
KILLS, AT_ONCE, WORDS = 5, 16, ("red shoes", "blue mug", "tent", "acme lamp")


class Shoppers:
    """Callers that search, click, and tell a click again until it is acknowledged."""

    def __init__(self, url):
        self.url, self.stop = url, threading.Event()
        self.acknowledged: set[str] = set()
        self.answered: set[str] = set()
        self.errors: list[str] = []
        self.threads = [threading.Thread(target=self.shop, args=(number,)) for number in range(AT_ONCE)]
        for thread in self.threads:
            thread.start()

    def shop(self, number):
        at = 0
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while not self.stop.is_set():
                at += 1
                user = f"u{number}-{at % 50}"
                asked = self.ask(client, "/v1/search", {"query": random.choice(WORDS), "user": {"user_id": user}})
                if asked is not None and asked.status_code == 200:
                    self.answered.add(asked.json()["request_id"])
                event_id = f"{number}-{at}"
                told = {"event_id": event_id, "event": "click", "item_id": "i1", "query": "tent", "user_id": user}
                while not self.stop.is_set():
                    answer = self.ask(client, "/v1/feedback", {"events": [told, told | {"event_id": f"{event_id}b"}]})
                    if answer is not None and answer.status_code == 202:
                        self.acknowledged |= {event_id, f"{event_id}b"}
                        if random.random() < 0.2:  # an answer that got lost
                            self.ask(client, "/v1/feedback", told)
                        break
                    time.sleep(0.05)

    def ask(self, client, path, body):
        try:
            answer = client.post(path, json=body)
        except httpx.HTTPError:
            return None
        if answer.status_code not in (200, 202) and answer.status_code < 500:  # 5xx: no replica is alive
            self.errors.append(answer.text)
        return answer

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.timeout(600)
def test_replicas_and_the_server_killed_at_random(hybrid_bundle, tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    arms = [{"name": "control"}, {"name": "words", "parameters": {"retrieval": "lexical"}}]
    (folder / "e.yaml").write_text(yaml.safe_dump({"name": "e", "status": "running", "arms": arms}))
    acknowledged, answered = set(), set()
    for last in (signal.SIGKILL, signal.SIGINT):  # of the whole server; the second one recovers what the first left
        server = Running(hybrid_bundle, tmp_path, "--replicas", "2", "--experiments", str(folder))
        server.wait_until_ready()
        shoppers = Shoppers(server.url)
        try:
            for _ in range(KILLS):
                time.sleep(random.uniform(1, 4))
                replicas = processes.naming("ray::ServeReplica") & processes.descendants(server.process.pid)
                if replicas:
                    os.kill(random.choice(sorted(replicas)), signal.SIGKILL)
            time.sleep(2)
        finally:
            if last == signal.SIGKILL:
                everything = processes.descendants(server.process.pid)
                server.process.kill()
                processes.end(everything)
                shoppers.end()
                server.process.wait()
            else:
                shoppers.end()
                server.end(last)
        acknowledged |= shoppers.acknowledged
        answered |= shoppers.answered
        assert not shoppers.errors, shoppers.errors[:3]
    events = tmp_path / "events"
    Compactor(events).run()
    table = pl.read_parquet(events / "interactions" / "*.parquet")
    assert table["event_id"].n_unique() == len(table)
    assert acknowledged <= set(table["event_id"])
    assert len(acknowledged) > 1_000
    exposures = pl.read_parquet(events / "exposures" / "*.parquet")
    assert answered <= set(exposures["request_id"]), "an answered search without its exposure"
    assert exposures.group_by("unit_id").agg(pl.col("arm").n_unique())["arm"].max() == 1

"""Outcomes over HTTP: on disk when they are accepted, all of a request or none, each once, as the log has them."""

import asyncio
import json

import polars as pl
import pytest
from full_disk import no_file_beyond

from twinspire.dataset.schema import INTERACTIONS

TOLD = {"event": "click", "item_id": "i1", "query": "red shoes", "user_id": "u1"}


def post(call, told):
    return asyncio.run(call("POST", "/v1/feedback", json=told))


def kept(service):
    """The table, once the server has ended."""
    service.close()
    return pl.read_parquet(service.events.folder / "interactions" / "*.parquet").sort("event_id")


def test_what_is_accepted_is_in_the_log(call, service):
    purchase = TOLD | {"event_id": "b", "event": "purchase", "value": 9.5, "position": 3, "request_id": "r1",
                       "session_id": "s", "timestamp": "2026-01-02T03:04:05Z"}  # fmt: skip
    assert post(call, purchase).json() == {"request_id": "r1", "event_id": "b"}
    (segment,) = (service.events.folder / ".wal").glob("*.wal")
    assert b'"event_id":"b"' in segment.read_bytes(), "on disk at once"
    several = post(call, {"events": [TOLD | {"event_id": "a"}, TOLD | {"event_id": "b"}]})
    assert (several.status_code, [one["event_id"] for one in several.json()["events"]]) == (202, ["a", "b"])
    assert post(call, TOLD).json()["event_id"]
    assert service.status()["events"]["interactions"] == {"written": 4, "waiting": 4, "failed": 0}
    table = kept(service)
    assert table.schema == pl.Schema(
        {**INTERACTIONS.polars_schema, "event_id": pl.String(), "request_id": pl.String(), "value": pl.Float64()}
    )
    assert len(table) == 3
    row = table.filter(event_id="b").to_dicts()[0]
    assert (row["event"], row["value"], row["position"], row["session_id"]) == ("purchase", 9.5, 3, "s")
    assert row["timestamp"].isoformat() == "2026-01-02T03:04:05+00:00"


def test_what_the_caller_leaves_out_is_known_of_the_search(call, service):
    user = {"user_id": "u1", "session_id": "s1"}
    answer = asyncio.run(call("POST", "/v1/search", json={"query": "red tent", "user": user})).json()
    assert post(call, {"request_id": answer["request_id"], "event": "click", "item_id": "i3"}).status_code == 202
    row = kept(service).to_dicts()[0]
    assert (row["query"], row["user_id"], row["session_id"]) == ("red tent", "u1", "s1")


@pytest.mark.parametrize(
    ("told", "field"),
    [
        (TOLD | {"event": "look"}, "event"),
        (TOLD | {"item_id": ""}, "item_id"),
        (TOLD | {"item_id": "\u200b"}, "item_id"),
        (TOLD | {"user_id": " "}, "user_id"),
        (TOLD | {"query": "\u2060"}, "query"),
        (TOLD | {"value": -1}, "value"),
        (TOLD | {"position": 0}, "position"),
        (TOLD | {"position": 2**31}, "position"),
        (TOLD | {"x": 1}, "x"),
        ({"event": "click", "item_id": "i"}, "query"),
        ({"event": "click", "item_id": "i", "request_id": "unknown"}, "query"),
        ({"events": []}, "events"),
        ({"events": [TOLD, TOLD | {"event": "look"}]}, "events[1].event"),
        ({"events": [TOLD, {"event": "click", "item_id": "i"}]}, "events[1].query"),
        ({"events": [TOLD], "event": "click"}, "event"),
        ([], "body"),
        (3, "body"),
    ],
)
def test_what_cannot_stand_in_the_log_is_refused_and_nothing_of_its_request_kept(call, service, told, field):
    answer = post(call, told)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert not service.events.folder.exists()


def test_a_full_disk_is_one_clear_line_and_nothing_is_acknowledged(call, service):
    assert post(call, TOLD | {"event_id": "before"}).status_code == 202
    with no_file_beyond(400):
        for _ in range(3):
            answer = post(call, {"events": [TOLD | {"event_id": f"lost-{n}"} for n in range(5)]})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "could not be written (File too large), and nothing of it is kept" in answer.json()["detail"]
    assert post(call, TOLD | {"event_id": "after"}).status_code == 202
    assert service.status()["events"]["interactions"]["failed"] == 15
    assert kept(service)["event_id"].to_list() == ["after", "before"]


def test_a_folder_that_cannot_be_made(call, service):
    service.events.folder.write_text("a file where the folder should be")
    assert post(call, TOLD).status_code == 503


def test_many_at_once_share_their_syncs(call, service):
    async def all_of_them():
        return await asyncio.gather(
            *(call("POST", "/v1/feedback", json=TOLD | {"event_id": str(n)}) for n in range(200))
        )

    assert {answer.status_code for answer in asyncio.run(all_of_them())} == {202}
    assert len(kept(service)) == 200


def test_the_page_of_problems_names_no_branch_of_the_form(call):
    told = json.loads(post(call, {"events": [{"event": 3}]}).text)
    assert told["field"].startswith("events[0].")
